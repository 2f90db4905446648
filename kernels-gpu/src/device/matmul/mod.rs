//! Matmul kernels: `y = x W^T` with a compressed W, which is decoded in registers.
//!
//! `shared` has what does not depend on the instructions of an architecture; `sm80` is the family of kernels that
//! multiplies with `mma.sync`. W's fragments are the A operand, x's the B operand: 16 rows of W times an octet,
//! 8 rows of x.

#[cfg(feature = "lean")]
pub mod lean;
mod shared;
#[cfg(not(feature = "lean"))]
mod sm80;
#[cfg(feature = "lean")]
pub mod wide;

use crate::MmaType;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{Dtype, LayerFlags, MatmulArgs, MatmulFlags, TableKind, TileEntry};
use shared::groups::HasZeroPoints;

#[cfg(not(feature = "lean"))]
pub use sm80::run;

/// What a kernel is compiled for, beside the number of octets.
#[derive(Clone, Copy)]
pub struct Kind {
    pub dtype: Dtype,
    /// Raw bits of I8 weights.
    pub raw_bits: u32,
    pub table: TableKind,
    pub mma_type: MmaType,
    /// Whether groups of weights have scales, and perhaps zero points.
    pub grouped: bool,
    /// Whether the kernel writes out the A fragments, for tests, instead of multiplying.
    pub fragments: bool,
}

/// [`MatmulArgs`], with pointers in place of addresses.
#[derive(Clone, Copy)]
pub struct Arguments {
    blob: *const u8,
    index: *const TileEntry,
    table: *const u32,
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
    layer_flags: LayerFlags,
    flags: MatmulFlags,
}

impl Arguments {
    #[inline(always)]
    pub fn new(args: &MatmulArgs) -> Self {
        let layer = &args.layer;
        Self {
            blob: with_exposed_provenance(layer.blob as usize),
            index: with_exposed_provenance(layer.index as usize),
            table: with_exposed_provenance(layer.table as usize),
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
            buffer_rows: args.buffer_rows,
            layer_flags: layer.flags,
            flags: args.flags,
        }
    }

    fn outputs_are_f32(&self) -> bool {
        self.flags.contains(MatmulFlags::OUTPUT_F32)
    }

    fn x_is_aligned(&self) -> bool {
        self.flags.contains(MatmulFlags::ALIGNED_X)
    }

    fn has_zero_exponent(&self) -> bool {
        self.layer_flags.contains(LayerFlags::ZERO_EXPONENT)
    }
}

impl HasZeroPoints for Arguments {
    #[inline(always)]
    fn has_zero_points(&self) -> bool {
        self.layer_flags.contains(LayerFlags::ZERO_POINTS)
    }
}
