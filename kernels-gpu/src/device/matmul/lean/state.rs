//! What changes along a slab.

use super::Arguments;
use super::activations::XRing;
use super::exceptions::add_exceptions;
use crate::WeightFormat;
use crate::device::matmul::Kind;
use crate::device::matmul::shared::groups::{Groups, Offsets};
use crate::device::matmul::shared::sums::{Sums, add, zero};
use crate::device::resident::Exceptions;
use fused_rans_layout::{GROUP, PANEL_COLUMNS};

/// Panels of a group of weights that share scales.
const GROUP_PANELS: usize = GROUP / PANEL_COLUMNS;

/// Sums, activations and scales of a slab that is being multiplied.
pub struct SlabState<'a, const B: usize> {
    groups: Groups<'a, Arguments>,
    /// Address of the slab's scales and zero points in shared memory.
    scales: u32,
    exceptions: Option<Exceptions>,
    /// Offset of the lane's activations in a stage.
    of_lane: u32,
    /// Address of the lane's activations of the panel.
    pub x: u32,
    /// Sums of the group, or of the slab: short chains of additions in the tensor cores, which truncate.
    pub partials: Sums<B>,
    /// Offsets of the integers, by the zero points of the group.
    pub offsets: Offsets,
}

impl<'a, const B: usize> SlabState<'a, B> {
    #[inline(always)]
    pub fn new(
        kind: Kind,
        arguments: &'a Arguments,
        format: WeightFormat,
        (scales, exceptions): (u32, Option<Exceptions>),
        of_lane: u32,
    ) -> Self {
        let groups = Groups { kind, arguments, format };
        let offsets = groups.offsets(scales, 0);
        Self { groups, scales, exceptions, of_lane, x: 0, partials: zero(), offsets }
    }

    /// Waits for the activations of a panel. Adds to `sums` what the exceptions of a stage's columns add.
    #[inline(always)]
    pub fn begin_panel(&mut self, panel: usize, ring: &mut XRing<'_, B>, sums: &mut Sums<B>) {
        if panel.is_multiple_of(XRing::<B>::PANELS) {
            let stage = ring.begin();
            self.x = stage + self.of_lane;
            if let Some(exceptions) = self.exceptions {
                let first = (panel * PANEL_COLUMNS) as u32;
                add_exceptions(self.groups.kind, exceptions, stage, first, sums);
            }
        } else {
            self.x += 2 * PANEL_COLUMNS as u32;
        }
    }

    /// Gives the activations back, and adds up the sums of a group, or of the slab if the panel is its last.
    #[inline(always)]
    pub fn end_panel(
        &mut self,
        panel: usize,
        is_last: bool,
        ring: &mut XRing<'_, B>,
        sums: &mut Sums<B>,
    ) {
        if is_last || (panel + 1).is_multiple_of(XRing::<B>::PANELS) {
            ring.end();
        }
        let group_ends = self.groups.kind.grouped && (panel + 1).is_multiple_of(GROUP_PANELS);
        if is_last || group_ends {
            let group = (panel / GROUP_PANELS) as u32;
            add(sums, &mut self.partials, &self.groups.scales(self.scales, group));
            if group_ends && !is_last {
                self.offsets = self.groups.offsets(self.scales, group + 1);
            }
        }
    }
}
