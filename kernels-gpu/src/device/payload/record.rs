//! A tile's record, and the offsets of the parts of its payload.

use crate::device::ptx::{async_copy_16, load_shared_u16, load_shared_words, reread_lane};
use core::mem::offset_of;
use fused_rans_layout::{SLABS, SlabShape, TAIL_LENGTH_BYTES, TileEntry, TileKind, TileShape};

/// What a record says about one slab of a tile.
#[derive(Clone, Copy)]
pub struct Record {
    /// Number of the slab in the tile.
    pub(super) slab: u32,
    pub(super) head: [u32; 4],
    /// Counts of full rows, then of tail rows, of all slabs; a byte each.
    pub(super) rows: [u32; 4],
    pub(super) tail_start: u32,
    pub(super) exception_start: u32,
    /// Start of the next slab's exceptions; not used for the last slab.
    pub(super) exception_end: u32,
}

impl Record {
    /// Requests the record `entry`, to address `at` of shared memory, aligned to 16 bytes.
    ///
    /// # Safety
    /// The record is one of the index, and there is room for it. All lanes of the warp are here.
    #[inline(always)]
    pub unsafe fn request(entry: *const TileEntry, at: u32) {
        let lane = reread_lane();
        if lane < size_of::<TileEntry>() / 16 {
            let from = entry.cast::<u8>().wrapping_add(16 * lane);
            // SAFETY: the caller's promise.
            unsafe { async_copy_16(at + 16 * lane as u32, from) };
        }
    }

    /// Loads what the record at `at` says about slab `slab`.
    ///
    /// # Safety
    /// The record has been requested, waited for, and is visible to this lane.
    #[inline(always)]
    pub unsafe fn load(at: u32, slab: u32) -> Self {
        let tail = at + offset_of!(TileEntry, tail_start) as u32 + 2 * slab;
        let exception = at + offset_of!(TileEntry, exception_start) as u32;
        let next = (slab + 1).min(SLABS as u32 - 1);
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                slab,
                head: load_shared_words(at),
                rows: load_shared_words(at + 16),
                tail_start: load_shared_u16(tail),
                exception_start: load_shared_u16(exception + 2 * slab),
                exception_end: load_shared_u16(exception + 2 * next),
            }
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.head[3] as u8 == TileKind::Raw as u8
    }
}

/// Offsets in a tile's payload, in bytes, and what they are computed from.
pub(super) struct PayloadOffsets {
    pub(super) slabs: u32,
    /// Bytes of the raw planes of every slab but the last.
    pub(super) slab_raw_bytes: u32,
    /// Offset of the scales and zero points.
    pub(super) groups: u32,
}

impl PayloadOffsets {
    /// Returns the offsets in a tile of shape `shape`, whose weights have `raw_bits` raw bits.
    #[inline(always)]
    pub(super) fn new(record: &Record, shape: TileShape, raw_bits: u32) -> Self {
        let slabs = shape.slabs() as u32;
        let slab_raw = |slab: usize| shape.slab(slab).raw_bytes(raw_bits as u8) as u32;
        let (first, last) = (slab_raw(0), slab_raw(slabs as usize - 1));
        if record.is_raw() {
            // Only integers of one byte have groups.
            let groups = (shape.weights() as u32).next_multiple_of(16);
            return Self { slabs, slab_raw_bytes: 0, groups };
        }
        let groups = slabs * TAIL_LENGTH_BYTES as u32 + (slabs - 1) * first + last;
        Self { slabs, slab_raw_bytes: first, groups }
    }

    /// Returns the offsets in a whole coded tile.
    #[inline(always)]
    pub(super) fn in_whole_tile(raw_bits: u32) -> Self {
        let slab_raw_bytes = SlabShape::WHOLE.raw_bytes(raw_bits as u8) as u32;
        let (slabs, length) = (SLABS as u32, TAIL_LENGTH_BYTES as u32);
        Self { slabs, slab_raw_bytes, groups: slabs * (length + slab_raw_bytes) }
    }
}
