//! What a block of the kernels that multiply keeps in shared memory: the host counts it, the kernels
//! divide it. `batch_tiles` are the rows of x that a kernel takes, in eights; bytes are a warp's.

use crate::{LANES, SLAB_ROWS};

/// Stages of a warp's ring. All but one are on their way while one is read.
pub const RING_STAGES: u32 = 3;

/// Whether activations come through the ring: not where there is no room for them.
#[inline(always)]
#[must_use]
pub const fn ring_has_activations(batch_tiles: usize, raw_bits: u32) -> bool {
    batch_tiles == 1 && raw_bits <= 8 || batch_tiles == 4
}

/// Bytes of the raw words of a stage: of four fragments, eight weights a lane each.
#[inline(always)]
#[must_use]
pub const fn ring_raw_bytes(raw_bits: u32) -> usize {
    4 * LANES * raw_bits as usize
}

/// Bytes of a stage of the ring: raw words, and activations of 32 columns, 16 bytes a lane for each 8 rows.
#[inline(always)]
#[must_use]
pub const fn ring_stage_bytes(batch_tiles: usize, raw_bits: u32) -> usize {
    let activations = if ring_has_activations(batch_tiles, raw_bits) { batch_tiles } else { 0 };
    ring_raw_bytes(raw_bits) + 16 * LANES * activations
}

/// Bytes of the sums of a slab's rows and `batch_tiles` times 8 rows of x, F32; in the workspace, too.
#[inline(always)]
#[must_use]
pub const fn sum_bytes(batch_tiles: usize) -> usize {
    4 * SLAB_ROWS * 8 * batch_tiles
}
