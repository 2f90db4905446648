//! What a block of the kernels that multiply keeps in shared memory: the host counts it, the kernels
//! divide it. `octets` are the rows of x that a kernel takes, in eights; bytes are a warp's.

use crate::{GroupPlane, LANES, SLAB_ROWS, TAIL_LENGTH_BYTES, TileEntry};

/// Stages of a warp's ring. All but one are on their way while one is read.
pub const RING_STAGES: u32 = 3;

/// Slabs, one under the other, that a warp decodes at a time: two, since each alone would leave it waiting
/// most of the time; one where the sums of two do not fit the registers.
#[inline(always)]
#[must_use]
pub const fn slabs_at_once(octets: usize) -> usize {
    if octets > 4 { 1 } else { 2 }
}

/// Warps of a block, at most: as many as leave each the registers that so many rows of x need.
#[inline(always)]
#[must_use]
pub const fn max_warps(octets: usize) -> usize {
    match octets {
        0..=1 => 12,
        2 => 8,
        _ => 8,
    }
}

/// Bytes of a slab's raw words of a stage: of four fragments, eight weights a lane each.
#[inline(always)]
#[must_use]
pub const fn ring_raw_bytes(raw_bits: u32) -> usize {
    4 * LANES * raw_bits as usize
}

/// Bytes of a stage of the ring: the slabs' raw words, and activations of 32 columns, 16 bytes a lane for each
/// 8 rows.
#[inline(always)]
#[must_use]
pub const fn ring_stage_bytes(octets: usize, raw_bits: u32) -> usize {
    slabs_at_once(octets) * ring_raw_bytes(raw_bits) + 16 * LANES * octets
}

/// Bytes of a warp's ring, in which it leaves its sums in the end.
#[inline(always)]
#[must_use]
pub const fn ring_bytes(octets: usize, raw_bits: u32) -> usize {
    let ring = RING_STAGES as usize * ring_stage_bytes(octets, raw_bits);
    let sums = sum_bytes(octets);
    if ring > sums { ring } else { sums }
}

/// Bytes of what a warp must know of a slab.
pub const SLAB_BYTES: usize = 64;

/// Bytes of a tile's record and of the tail lengths of the slabs that a warp decodes at a time.
#[inline(always)]
#[must_use]
pub const fn record_bytes(octets: usize) -> usize {
    size_of::<TileEntry>() + slabs_at_once(octets) * TAIL_LENGTH_BYTES
}

/// Bytes of what a warp must know of the slabs that it decodes and of the next ones, with their scales and
/// zero points if there are groups.
#[inline(always)]
#[must_use]
pub const fn slabs_bytes(octets: usize, grouped: bool) -> usize {
    let groups = if grouped { GroupPlane { zeros: true }.bytes() } else { 0 };
    record_bytes(octets) + 2 * slabs_at_once(octets) * (SLAB_BYTES + groups)
}

/// Bytes of the sums of a warp's slabs and `octets` times 8 rows of x, F32; in the workspace, too.
#[inline(always)]
#[must_use]
pub const fn sum_bytes(octets: usize) -> usize {
    4 * SLAB_ROWS * slabs_at_once(octets) * 8 * octets
}
