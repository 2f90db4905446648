//! Panels of weights in shared memory, and which comes when.

use crate::device::ptx::{arrive_once, wait_barrier};
use fused_rans_layout::{LeanPartition, PANELS, SlabRun, WEIGHT_PIECE_BYTES, WideMemory};

/// The place of a warpgroup of decoders for a panel of weights, 128 rows of W, and its barriers.
#[derive(Clone, Copy)]
pub struct WeightPanel {
    /// Address of the weights: two pieces.
    pub weights: u32,
    /// Address of the scales of its rows, if groups have scales.
    pub scales: u32,
    /// Address of the barrier at which the decoders arrive; the multipliers' follows.
    barriers: u32,
}

impl WeightPanel {
    /// Returns the place of warpgroup `group`.
    #[inline(always)]
    pub fn new(memory: &WideMemory, group: u32) -> Self {
        Self {
            weights: memory.weights + group * 2 * WEIGHT_PIECE_BYTES,
            scales: memory.scales + group * WideMemory::SCALE_BYTES,
            barriers: memory.barriers + 16 * group,
        }
    }

    /// Waits until the panel before panel `panel` of a unit is multiplied.
    #[inline(always)]
    pub fn wait_for_room(self, panel: u32) {
        // SAFETY: a barrier. A unit has an even number of panels, so all units are alike; before its first phase, the place is
        // empty.
        unsafe { wait_barrier(self.barriers + 8, panel % 2 ^ 1) };
    }

    /// Says that this warp has written its part.
    #[inline(always)]
    pub fn written(self) {
        // SAFETY: a barrier.
        unsafe { arrive_once(self.barriers) };
    }

    /// Waits until panel `panel` of a unit is written.
    #[inline(always)]
    pub fn wait(self, panel: u32) {
        // SAFETY: a barrier.
        unsafe { wait_barrier(self.barriers, panel % 2) };
    }

    /// Says that this warp has multiplied it.
    #[inline(always)]
    pub fn multiplied(self) {
        // SAFETY: a barrier.
        unsafe { arrive_once(self.barriers + 8) };
    }
}

const _: () = assert!(PANELS.is_multiple_of(2));

/// The order in which panels are multiplied: of as many units as there are warpgroups of decoders, if they have the same rows,
/// the first panels, then the second ones, and so on.
#[derive(Clone, Copy)]
pub struct Order {
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
    pub panel: u32,
}

impl Order {
    #[inline(always)]
    pub fn new(partition: LeanPartition, run: SlabRun, groups: u32) -> Self {
        let (across, first) = (partition.across, run.start);
        let row = first / across * across;
        let order = Self {
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
        Self { count: order.in_turns(), ..order }
    }

    /// Returns the unit after the last that the run has of the current row of units.
    #[inline(always)]
    fn row_end(&self) -> u32 {
        (self.row + self.across).min(self.end)
    }

    /// Returns how many units, from the current first one on, take turns.
    #[inline(always)]
    fn in_turns(&self) -> u32 {
        (self.row_end() - self.first).min(self.groups)
    }

    /// Returns whether there are no more panels.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.first >= self.end
    }

    /// Returns the column of tiles of the current unit.
    #[inline(always)]
    pub fn col(&self) -> u32 {
        self.first + self.turn - self.row
    }

    /// Returns the number of the current row of units.
    #[inline(always)]
    pub fn row(&self) -> u32 {
        self.row / self.across
    }

    /// Returns the warpgroup of decoders that takes the current unit.
    #[inline(always)]
    pub fn group(&self) -> u32 {
        wrapped(self.group + self.turn, self.groups)
    }

    /// Goes on to the next panel.
    #[inline(always)]
    pub fn advance(&mut self) -> Step {
        self.turn += 1;
        if self.turn < self.count {
            return Step::Panel;
        }
        self.turn = 0;
        self.panel += 1;
        if self.panel < PANELS as u32 {
            return Step::Panel;
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
        if row_ends { Step::Row } else { Step::Units }
    }
}

/// Returns `number`, which is less than twice `end`, from 0 to before `end`.
#[inline(always)]
fn wrapped(number: u32, end: u32) -> u32 {
    if number < end { number } else { number - end }
}

/// What a step ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A panel.
    Panel,
    /// All panels of the units that took turns.
    Units,
    /// All units that the run has of a row of units.
    Row,
}
