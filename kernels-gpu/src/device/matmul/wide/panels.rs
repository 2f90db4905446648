//! Panels of weights in shared memory, and the barriers that tell when they are there.

use crate::device::ptx::{arrive_once, wait_barrier};
use fused_rans_layout::{PANELS, WEIGHT_PIECE_BYTES, WideMemory};

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
