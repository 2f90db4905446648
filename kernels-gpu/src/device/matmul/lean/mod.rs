//! The lean matmul kernels, for resident layers.
//!
//! Many warps with few registers: each decodes one slab at a time, in panels of 64 columns, and keeps the sums of its
//! 32 rows. Words and raw planes come by bulk copies, one for each part, into buffers of the warp's own. The warps of a
//! block stand below each other and share the activations of their tile's columns; they are no more than
//! two stages apart. Everywhere here, `B` is the number of octets (8 rows of x) that a kernel takes.
//!
//! - [`block`]: a block's run of slabs, from start to end.
//! - [`slab`]: a warp's slab: copies, decode, dequantize, multiply.
//! - [`activations`]: stages of x that the block shares.
//! - [`finish`]: exceptions, sums of several blocks, outputs.

mod activations;
mod block;
mod finish;
mod plain;
mod slab;
mod state;

pub use block::run;

use crate::device::matmul::Kind;
use crate::device::matmul::shared::groups::HasZeroPoints;
use crate::device::ptx::{reread_warps, shared_memory};
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{
    LayerFlags, LeanMatmulArgs, LeanMemory, LeanPartition, MatmulFlags, ResidentException,
    SLAB_ROWS, SlabEntry, TILE,
};

/// [`LeanMatmulArgs`], with pointers in place of addresses.
#[derive(Clone, Copy)]
struct Arguments {
    slabs: *const u8,
    index: *const SlabEntry,
    table: *const u32,
    groups: *const u8,
    exception_starts: *const u32,
    exceptions: *const ResidentException,
    scale: *const f32,
    bias: *const f32,
    x: *const u16,
    y: *mut u8,
    partials: *mut f32,
    counters: *mut u32,
    rows: u32,
    cols: u32,
    x_rows: u32,
    x_row_stride: u32,
    y_row_stride: u32,
    exponent_base: u32,
    buffer_rows: u32,
    each: u32,
    longer: u32,
    layer_flags: LayerFlags,
    flags: MatmulFlags,
}

impl Arguments {
    #[inline(always)]
    fn new(args: &LeanMatmulArgs) -> Self {
        let layer = &args.layer;
        Self {
            slabs: with_exposed_provenance(layer.slabs as usize),
            index: with_exposed_provenance(layer.index as usize),
            table: with_exposed_provenance(layer.table as usize),
            groups: with_exposed_provenance(layer.groups as usize),
            exception_starts: with_exposed_provenance(layer.exception_starts as usize),
            exceptions: with_exposed_provenance(layer.exceptions as usize),
            scale: with_exposed_provenance(layer.scale as usize),
            bias: with_exposed_provenance(layer.bias as usize),
            x: with_exposed_provenance(args.x as usize),
            y: with_exposed_provenance_mut(args.y as usize),
            partials: with_exposed_provenance_mut(args.partials as usize),
            counters: with_exposed_provenance_mut(args.counters as usize),
            rows: layer.rows,
            cols: layer.cols,
            x_rows: args.x_rows,
            x_row_stride: args.x_row_stride,
            y_row_stride: args.y_row_stride,
            exponent_base: layer.exponent_base,
            buffer_rows: layer.buffer_rows,
            each: args.each,
            longer: args.longer,
            layer_flags: layer.flags,
            flags: args.flags,
        }
    }

    /// Returns the bytes of a slab's scales and zero points.
    #[inline(always)]
    fn group_bytes(&self, kind: Kind) -> u32 {
        let zeros = self.has_zero_points();
        if kind.grouped { fused_rans_layout::GroupPlane { zeros }.bytes() as u32 } else { 0 }
    }

    /// Returns how the layer is divided among the blocks of the grid.
    #[inline(always)]
    fn partition(&self) -> LeanPartition {
        let Self { rows, cols, each, longer, .. } = *self;
        let (slab_rows, across) = (rows.div_ceil(SLAB_ROWS as u32), cols.div_ceil(TILE as u32));
        LeanPartition { across, slab_rows, warps: reread_warps(), each, longer }
    }
}

impl HasZeroPoints for Arguments {
    #[inline(always)]
    fn has_zero_points(&self) -> bool {
        self.layer_flags.contains(LayerFlags::ZERO_POINTS)
    }
}

/// Returns where the parts of shared memory are.
#[inline(always)]
fn memory<const B: usize>(kind: Kind, raw_bits: u32, buffer_rows: u32) -> LeanMemory {
    let memory = LeanMemory::new(B, raw_bits, kind.grouped, reread_warps(), buffer_rows);
    let base = shared_memory();
    LeanMemory {
        barriers: base + memory.barriers,
        words: base + memory.words,
        raw: base + memory.raw,
        groups: base + memory.groups,
        x: base + memory.x,
        bytes: memory.bytes,
    }
}
