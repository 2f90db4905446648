//! The lean matmul kernels, for resident layers.
//!
//! Many warps with few registers: each decodes one slab at a time, in panels of 64 columns, and has the sums of its
//! 32 rows. Words and raw planes come by bulk copies, one for each part, into buffers of the warp's own. The warps of a
//! block stand below each other and share the activations of their tile's columns; they are no more
//! stages apart than there are. Everywhere here, `B` is the number of octets (8 rows of x) that a kernel takes.
//!
//! - [`block`]: a block's run of slabs, from start to end.
//! - [`panel`]: decode, dequantize, multiply; [`state`]: what changes along a slab.
//! - [`activations`]: stages of x that the block shares.
//! - [`exceptions`]: what they add to the sums.
//! - [`finish`]: sums of several blocks, outputs.

mod activations;
mod block;
mod exceptions;
mod finish;
mod panel;
mod state;

pub use block::run;
pub use finish::{OwnRows, Part, finish};

use crate::device::matmul::Kind;
use crate::device::matmul::shared::groups::HasZeroPoints;
use crate::device::ptx::{reread_warps, shared_memory};
use crate::device::resident::ResidentLayer;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{LeanMatmulArgs, LeanMemory, LeanPartition, MatmulFlags, SLAB_ROWS, TILE};

/// [`LeanMatmulArgs`], with pointers in place of addresses.
#[derive(Clone, Copy)]
pub struct Arguments {
    pub layer: ResidentLayer,
    pub x: *const u16,
    y: *mut u8,
    partials: *mut f32,
    counters: *mut u32,
    x_rows: u32,
    x_row_stride: u32,
    y_row_stride: u32,
    pub each: u32,
    pub longer: u32,
    pub groups: u32,
    pub flags: MatmulFlags,
}

impl Arguments {
    #[inline(always)]
    pub fn new(args: &LeanMatmulArgs) -> Self {
        Self {
            layer: ResidentLayer::new(&args.layer),
            x: with_exposed_provenance(args.x as usize),
            y: with_exposed_provenance_mut(args.y as usize),
            partials: with_exposed_provenance_mut(args.partials as usize),
            counters: with_exposed_provenance_mut(args.counters as usize),
            x_rows: args.x_rows,
            x_row_stride: args.x_row_stride,
            y_row_stride: args.y_row_stride,
            each: args.each,
            longer: args.longer,
            groups: args.groups,
            flags: args.flags,
        }
    }

    /// Returns how the layer is divided among the blocks of the grid.
    #[inline(always)]
    fn partition(&self) -> LeanPartition {
        let Self { layer: ResidentLayer { rows, cols, .. }, each, longer, .. } = *self;
        let (slab_rows, across) = (rows.div_ceil(SLAB_ROWS as u32), cols.div_ceil(TILE as u32));
        LeanPartition { across, slab_rows, warps: reread_warps(), each, longer }
    }
}

impl HasZeroPoints for Arguments {
    #[inline(always)]
    fn has_zero_points(&self) -> bool {
        self.layer.has_zero_points()
    }
}

impl HasZeroPoints for ResidentLayer {
    #[inline(always)]
    fn has_zero_points(&self) -> bool {
        ResidentLayer::has_zero_points(self)
    }
}

/// Returns where the parts of shared memory are.
#[inline(always)]
fn memory<const B: usize>(kind: Kind, raw_bits: u32, buffer_rows: u32) -> LeanMemory {
    LeanMemory::new(B, raw_bits, kind.grouped, reread_warps(), buffer_rows).at(shared_memory())
}
