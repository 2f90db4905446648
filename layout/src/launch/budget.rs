//! Shared memory of the matmul kernels: the host allocates it, the kernels divide it. `octets` is the number of octets (8 rows
//! of x) that a kernel takes; bytes are those of one warp.

use crate::{GroupPlane, LANES, SLAB_ROWS, TAIL_LENGTH_BYTES, TileEntry};

/// Stages of a warp's ring. One is read while the others are on their way.
pub const RING_STAGES: u32 = 3;

/// Returns the number of slabs, one under the other, that a warp decodes at a time: two, because with one it would wait most
/// of the time; one where the sums of two slabs do not fit into registers.
#[inline(always)]
#[must_use]
pub const fn slabs_at_once(octets: usize) -> usize {
    if octets > 4 { 1 } else { 2 }
}

/// Returns the most warps of a block: as many as leave each warp the registers that so many octets need.
#[inline(always)]
#[must_use]
pub const fn max_warps(octets: usize) -> usize {
    match octets {
        0..=1 => 12,
        _ => 8,
    }
}

/// Returns the bytes of a slab's raw words in a stage: four fragments, of which a lane has eight weights each.
#[inline(always)]
#[must_use]
pub const fn ring_raw_bytes(raw_bits: u32) -> usize {
    4 * LANES * raw_bits as usize
}

/// Returns the bytes of a stage of the ring: the slabs' raw words, and the activations of 32 columns, 16 bytes for each lane
/// and octet.
#[inline(always)]
#[must_use]
pub const fn ring_stage_bytes(octets: usize, raw_bits: u32) -> usize {
    slabs_at_once(octets) * ring_raw_bytes(raw_bits) + 16 * LANES * octets
}

/// Returns the bytes of a warp's ring, where the warp saves its sums in the end.
#[inline(always)]
#[must_use]
pub const fn ring_bytes(octets: usize, raw_bits: u32) -> usize {
    let ring = RING_STAGES as usize * ring_stage_bytes(octets, raw_bits);
    let sums = sum_bytes(octets);
    if ring > sums { ring } else { sums }
}

/// Bytes of a slot: where a slab's parts are, and its first exceptions.
pub const SLAB_BYTES: usize = 64;

/// Returns the bytes of a tile's record and of the tail lengths of the slabs that a warp decodes at a time.
#[inline(always)]
#[must_use]
pub const fn record_bytes(octets: usize) -> usize {
    size_of::<TileEntry>() + slabs_at_once(octets) * TAIL_LENGTH_BYTES
}

/// Returns the bytes of record, tail lengths and slots: a slot for each slab that a warp decodes and for each of the next
/// ones, with scales and zero points if there are groups.
#[inline(always)]
#[must_use]
pub const fn slabs_bytes(octets: usize, grouped: bool) -> usize {
    let groups = if grouped { GroupPlane { zeros: true }.bytes() } else { 0 };
    record_bytes(octets) + 2 * slabs_at_once(octets) * (SLAB_BYTES + groups)
}

/// Returns the bytes of the F32 sums of a warp's slabs and `octets` octets, in shared memory and in the workspace.
#[inline(always)]
#[must_use]
pub const fn sum_bytes(octets: usize) -> usize {
    4 * SLAB_ROWS * slabs_at_once(octets) * 8 * octets
}
