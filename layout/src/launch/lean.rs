//! Arguments and shared memory of the lean kernels, which read resident layers.

use super::flags::{LayerFlags, MatmulFlags};
use crate::{
    GroupPlane, LANES, LINE, LOOK_AHEAD, MAX_COPIED_UNITS, MAX_WORD_ROWS, PANELS, TABLE, TILE,
    UNIT, panel_raw_bytes,
};

/// A resident layer as the kernels read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LeanLayer {
    /// Address of the slabs.
    pub slabs: u64,
    /// Address of the index: one [`SlabEntry`](crate::SlabEntry) per slab.
    pub index: u64,
    /// Address of the expanded decode table, of the [`TableKind`](crate::TableKind) that the kernel reads.
    pub table: u64,
    /// Address of scales and zero points, one [`GroupPlane`](crate::GroupPlane) per slab, or 0.
    pub groups: u64,
    /// Address of an F32 factor for every row of W, or 0.
    pub scale: u64,
    /// Address of an F32 summand for every row of W, or 0.
    pub bias: u64,
    /// Rows of W: N.
    pub rows: u32,
    /// Columns of W: K.
    pub cols: u32,
    /// Exponent field that the coded bits 0 mean.
    pub exponent_base: u32,
    /// Lines of a buffer: for the words of the longest slab, at least 2, and for what comes with words.
    pub buffer_rows: u32,
    /// Properties of the layer.
    pub flags: LayerFlags,
    /// Zero.
    pub reserved: u32,
}

/// Arguments of the lean matmul kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LeanMatmulArgs {
    /// The layer W.
    pub layer: LeanLayer,
    /// Address of the activations, M x K.
    pub x: u64,
    /// Address of the outputs, M x N.
    pub y: u64,
    /// Address of the partial sums of rows of slabs that several blocks share.
    pub partials: u64,
    /// Address of a counter for each row of slabs; 0 before and after a launch.
    pub counters: u64,
    /// Rows of x: M, at most those that the kernel takes.
    pub x_rows: u32,
    /// Elements from a row of x to the next.
    pub x_row_stride: u32,
    /// Elements from a row of y to the next.
    pub y_row_stride: u32,
    /// Properties of the launch.
    pub flags: MatmulFlags,
    /// Slabs of a block (for the wide kernels: units), of which the first `longer` blocks have one more: a
    /// [`LeanPartition`](crate::LeanPartition)'s, which the kernels need not compute.
    pub each: u32,
    /// Blocks that have one slab more.
    pub longer: u32,
    /// Warpgroups of a block that decode, for the wide kernels.
    pub groups: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(
    size_of::<LeanLayer>() == 72
        && core::mem::offset_of!(LeanLayer, rows) == 48
        && core::mem::offset_of!(LeanLayer, reserved) == 68
        && size_of::<LeanMatmulArgs>() == 136
        && core::mem::offset_of!(LeanMatmulArgs, x_rows) == 104
);

/// Arguments of the kernels that decode a resident layer to row-major weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LeanDecodeArgs {
    /// The layer.
    pub layer: LeanLayer,
    /// Address of the weights to write.
    pub out: u64,
    /// Raw bits of a weight; read for I8 only.
    pub raw_bits: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(
    size_of::<LeanDecodeArgs>() == 88 && core::mem::offset_of!(LeanDecodeArgs, raw_bits) == 80
);

/// Warps of a block that decodes a resident layer.
pub const LEAN_DECODE_WARPS: usize = 8;

/// Stages of raw planes that a warp has: one is read while the other is on its way.
pub const RAW_STAGES: usize = 2;

/// Returns whether the raw planes of a slab are copied together with its words, and not panel by panel. Only where they are
/// small, and where nothing lies between both that is not copied: layers with groups have no exceptions.
#[inline(always)]
#[must_use]
pub const fn raw_comes_with_words(grouped: bool, raw_bits: u32) -> bool {
    grouped && raw_bits > 0 && raw_bits <= MAX_BITS_WITH_WORDS
}

/// Raw bits of a weight that come with words, at most.
const MAX_BITS_WITH_WORDS: u32 = 2;

/// Most lines of a buffer: words of the longest streams, with exceptions or with raw planes.
pub const MAX_BUFFER_ROWS: usize = {
    let exceptions = (MAX_COPIED_UNITS * UNIT).div_ceil(LINE);
    let raw = PANELS * panel_raw_bytes(MAX_BITS_WITH_WORDS) / LINE;
    MAX_WORD_ROWS + if exceptions > raw { exceptions } else { raw }
};

/// Returns the columns of x that a stage of activations holds.
#[inline(always)]
#[must_use]
pub const fn x_stage_columns(octets: usize) -> usize {
    match octets {
        0..=2 => TILE,
        3..=4 => TILE / 2,
        _ => TILE / 4,
    }
}

/// Returns the stages of activations. A warp waits for others that are as many stages behind.
#[inline(always)]
#[must_use]
pub const fn x_stages(octets: usize) -> usize {
    match octets {
        2 => 3,
        _ => 4,
    }
}

/// Returns the bytes from a row of x to the next in shared memory. With half a line more than a row takes, eight lanes
/// that load 16 bytes each of two rows meet no bank twice.
#[inline(always)]
#[must_use]
pub const fn x_row_bytes(octets: usize) -> usize {
    2 * x_stage_columns(octets) + LINE / 2
}

/// Most octets that the lean kernels take; more are for the wide ones.
pub const MAX_LEAN_OCTETS: usize = 4;

/// Most warps of a block of a lean kernel.
pub const MAX_LEAN_WARPS: usize = 16;

/// Offsets of the parts of a block's shared memory, which starts with the decode table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeanMemory {
    /// Barriers: 32 bytes for each warp, then those of the stages of activations.
    pub barriers: u32,
    /// Two buffers of words for each warp.
    pub words: u32,
    /// Two stages of raw planes for each warp, unless these come with words.
    pub raw: u32,
    /// Two slabs' scales and zero points for each warp.
    pub groups: u32,
    /// Stages of activations.
    pub x: u32,
    /// Bytes in all.
    pub bytes: u32,
}

/// Bytes of a warp's barriers.
pub const WARP_BARRIER_BYTES: u32 = 32;

impl LeanMemory {
    /// Bytes of a slab's scales and zero points.
    pub const GROUP_BYTES: u32 = GroupPlane { zeros: true }.bytes() as u32;

    /// Returns the parts for blocks of `warps` warps; without octets, for blocks that decode only.
    #[inline(always)]
    #[must_use]
    pub const fn new(
        octets: usize,
        raw_bits: u32,
        grouped: bool,
        warps: u32,
        buffer_rows: u32,
    ) -> Self {
        let line = LINE as u32;
        let barriers = 4 * TABLE as u32;
        let barrier_bytes = WARP_BARRIER_BYTES * warps + 16 * x_stages(octets) as u32;
        let words = barriers + barrier_bytes.next_multiple_of(line);
        let raw = words + 2 * warps * buffer_rows * line;
        let stages = if raw_comes_with_words(grouped, raw_bits) { 0 } else { RAW_STAGES as u32 };
        let groups = raw + stages * warps * panel_raw_bytes(raw_bits) as u32;
        let x = groups + if grouped { 2 * warps * Self::GROUP_BYTES } else { 0 };
        let x_bytes = x_stages(octets) * 8 * octets * x_row_bytes(octets);
        let end = x + x_bytes as u32;
        // Whatever its bits are, a stream stays in front of this: see `docs/safety.md`.
        let reach = (MAX_WORD_ROWS + LOOK_AHEAD) as u32;
        let last = words + ((2 * warps - 1) * buffer_rows + reach) * line;
        Self { barriers, words, raw, groups, x, bytes: if end > last { end } else { last } }
    }

    /// Returns the addresses of the parts in shared memory that starts at `base`.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, base: u32) -> Self {
        Self {
            barriers: base + self.barriers,
            words: base + self.words,
            raw: base + self.raw,
            groups: base + self.groups,
            x: base + self.x,
            bytes: self.bytes,
        }
    }
}

/// Returns the F32 partial sums of a warp's slab and `octets` octets, in bytes.
#[inline(always)]
#[must_use]
pub const fn lean_sum_bytes(octets: usize) -> usize {
    4 * 8 * LANES * octets
}
