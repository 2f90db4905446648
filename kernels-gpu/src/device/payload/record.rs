//! A tile's record, and the places of its payload's parts.

use crate::device::ptx::{async_copy_16, lane_anew, load_shared_u16, load_shared_words};
use core::mem::offset_of;
use fused_rans_layout::{SLABS, SlabShape, TAIL_LENGTH_BYTES, TileEntry, TileKind, TileShape};

/// What a record says of a slab of a tile.
#[derive(Clone, Copy)]
pub struct Record {
    /// Number of the slab in the tile.
    pub(super) slab: u32,
    pub(super) head: [u32; 4],
    /// Full rows and tail rows of all slabs.
    pub(super) rows: [u32; 4],
    pub(super) tail_start: u32,
    pub(super) exception_start: u32,
    /// Of the slab after this, or of the last.
    pub(super) exception_end: u32,
}

impl Record {
    /// Sends for the record `entry`, to `at` in shared memory, aligned to 16 bytes.
    ///
    /// # Safety
    /// It is one of the index; there is room for it.
    #[inline(always)]
    pub unsafe fn fetch(entry: *const TileEntry, at: u32) {
        let lane = lane_anew();
        if lane < size_of::<TileEntry>() / 16 {
            let from = entry.cast::<u8>().wrapping_add(16 * lane);
            // SAFETY: the caller's promise.
            unsafe { async_copy_16(at + 16 * lane as u32, from) };
        }
    }

    /// Of slab `slab`, from the record that has been fetched to `at`.
    ///
    /// # Safety
    /// It is there, and for all lanes.
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

/// Where things are in a tile's payload: bytes from its start.
pub(super) struct Places {
    pub(super) slabs: u32,
    /// Of the raw planes of a slab, but the last one.
    pub(super) slab_raw_bytes: u32,
    /// Scales and zero points.
    pub(super) groups: u32,
}

impl Places {
    /// In a tile of shape `shape`, of weights with `raw_bits` raw bits.
    #[inline(always)]
    pub(super) fn of(record: &Record, shape: TileShape, raw_bits: u32) -> Self {
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

    /// In a whole tile that is coded.
    #[inline(always)]
    pub(super) fn of_whole(raw_bits: u32) -> Self {
        let slab_raw_bytes = SlabShape::WHOLE.raw_bytes(raw_bits as u8) as u32;
        let (slabs, length) = (SLABS as u32, TAIL_LENGTH_BYTES as u32);
        Self { slabs, slab_raw_bytes, groups: slabs * (length + slab_raw_bytes) }
    }
}
