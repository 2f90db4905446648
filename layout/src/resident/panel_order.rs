//! The order in which the wide kernels multiply panels.

use super::{LeanPartition, PANELS, SlabRun};

/// The order in which panels are multiplied: of as many units as there are warpgroups of decoders, if they have the same rows,
/// the first panels, then the second ones, and so on.
#[derive(Clone, Copy, Debug)]
pub struct PanelOrder {
    across: u32,
    groups: u32,
    /// The unit after the run's last.
    end: u32,
    /// The first unit of the row of units that the current one is in.
    row: u32,
    /// The first of the units whose panels are taken in turns, how many they are, and the warpgroup that takes the first.
    first: u32,
    count: u32,
    group: u32,
    /// The current one of them, and its panel.
    turn: u32,
    panel: u32,
}

impl PanelOrder {
    /// Returns the order of a run of units, of which `groups` warpgroups take one each, in turns.
    #[inline(always)]
    #[must_use]
    pub const fn new(partition: LeanPartition, run: SlabRun, groups: u32) -> Self {
        let (across, first) = (partition.across, run.start);
        let row = first / across * across;
        let mut order = Self {
            across,
            groups,
            end: run.end,
            row,
            first,
            count: 0,
            group: 0,
            turn: 0,
            panel: 0,
        };
        order.count = order.in_turns();
        order
    }

    /// Returns the unit after the last that the run has of the current row of units.
    #[inline(always)]
    const fn row_end(&self) -> u32 {
        smaller(self.row + self.across, self.end)
    }

    /// Returns how many units, from the current first one on, take turns.
    #[inline(always)]
    const fn in_turns(&self) -> u32 {
        smaller(self.row_end() - self.first, self.groups)
    }

    /// Returns whether there are no more panels.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.first >= self.end
    }

    /// Returns the column of tiles of the current unit.
    #[inline(always)]
    #[must_use]
    pub const fn col(&self) -> u32 {
        self.first + self.turn - self.row
    }

    /// Returns the number of the current panel of its unit.
    #[inline(always)]
    #[must_use]
    pub const fn panel(&self) -> u32 {
        self.panel
    }

    /// Returns the number of the current row of units.
    #[inline(always)]
    #[must_use]
    pub const fn row(&self) -> u32 {
        self.row / self.across
    }

    /// Returns the warpgroup of decoders that takes the current unit.
    #[inline(always)]
    #[must_use]
    pub const fn group(&self) -> u32 {
        wrapped(self.group + self.turn, self.groups)
    }

    /// Goes on to the next panel.
    #[inline(always)]
    pub const fn advance(&mut self) -> PanelStep {
        self.turn += 1;
        if self.turn < self.count {
            return PanelStep::Panel;
        }
        self.turn = 0;
        self.panel += 1;
        if self.panel < PANELS as u32 {
            return PanelStep::Panel;
        }
        self.panel = 0;
        self.first += self.count;
        self.group = wrapped(self.group + self.count, self.groups);
        let row_ends = self.first == self.row_end();
        if row_ends {
            self.row += self.across;
        }
        if !self.is_over() {
            self.count = self.in_turns();
        }
        if row_ends { PanelStep::Row } else { PanelStep::Units }
    }
}

/// Returns `number`, which is less than twice `end`, from 0 to before `end`.
#[inline(always)]
const fn wrapped(number: u32, end: u32) -> u32 {
    if number < end { number } else { number - end }
}

/// What a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelStep {
    /// A panel.
    Panel,
    /// All panels of the units that took turns.
    Units,
    /// All units that the run has of a row of units.
    Row,
}

/// Returns the smaller number.
#[inline(always)]
const fn smaller(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::TileGrid;
    use std::vec::Vec;

    #[test]
    fn every_panel_of_a_run_comes_once_and_those_of_a_unit_in_order() {
        for (rows, cols, blocks, groups) in
            [(512, 2048, 3, 4), (640, 256, 2, 3), (128, 4096, 7, 2), (1, 1, 1, 4)]
        {
            let partition = LeanPartition::of_units(TileGrid { rows, cols }, blocks).unwrap();
            for block in 0..blocks {
                let run = partition.run(block);
                let (mut order, mut panels) = (PanelOrder::new(partition, run, groups), Vec::new());
                // The panels that each warpgroup has come in the order in which it decodes them.
                let mut of_group = [const { Vec::new() }; 4];
                while !order.is_over() {
                    let unit = order.row() * partition.across + order.col();
                    assert_eq!(order.group(), (unit - run.start) % groups);
                    panels.push((unit, order.panel()));
                    of_group[order.group() as usize].push((unit, order.panel()));
                    let row = order.row();
                    let step = order.advance();
                    assert_eq!(step == PanelStep::Row, order.is_over() || order.row() != row);
                }
                assert!(of_group.iter().all(|panels| panels.is_sorted()));
                panels.sort_unstable();
                let wanted = (run.start..run.end)
                    .flat_map(|unit| (0..PANELS as u32).map(move |panel| (unit, panel)));
                assert!(panels.into_iter().eq(wanted), "{rows} x {cols}, block {block}");
            }
        }
    }
}
