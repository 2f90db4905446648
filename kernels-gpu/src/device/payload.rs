//! A coded tile's payload in device memory.

use super::instructions::{
    async_copy_16, lane, load_global, load_shared, shared_memory, store_shared, warp_sum,
};
use crate::{SlabMemory, tail_slot};
use fused_rans_layout::{LANES, LINE, SLABS, TileEntry, TileShape};

/// Where the parts of a payload start.
pub struct Payload<'a> {
    entry: &'a TileEntry,
    /// Words of the raw planes of a slab; the last slab may have fewer.
    raw_words: usize,
    raw: *const u32,
    full: *const u32,
    masks: *const u32,
    tails: *const u32,
    exceptions: *const u32,
}

impl<'a> Payload<'a> {
    /// # Safety
    /// `payload` is what `entry` describes, and all lanes of the warp are here.
    #[inline(always)]
    pub unsafe fn new(
        entry: &'a TileEntry,
        shape: TileShape,
        raw_bits: u32,
        payload: *const u8,
    ) -> Self {
        let slab_words = |slab| shape.slab(slab).raw_bytes(raw_bits as u8) / 4;
        let last = shape.slabs() - 1;
        let raw_words = slab_words(0);
        let raw = payload.cast::<u32>();
        let mask_count = sum(&entry.tail_rows, SLABS);
        // SAFETY: the parts follow each other in the payload, as the host has checked.
        unsafe {
            let full = raw.add(last * raw_words + slab_words(last));
            let masks = full.add(LANES * sum(&entry.full_rows, SLABS));
            let tails = masks.add(mask_count);
            let exceptions = tails.add(count_ones(masks, mask_count));
            Self { entry, raw_words, raw, full, masks, tails, exceptions }
        }
    }

    /// Exception number `i`, which must be below the entry's count: (row, column, weight).
    #[inline(always)]
    pub fn exception(&self, i: usize) -> (usize, usize, u16) {
        // SAFETY: below the count, as every caller's loop says.
        TileEntry::exception_fields(unsafe { *self.exceptions.add(i) })
    }

    /// Copies the words of a slab to `rows` in shared memory: tail rows expanded, zeros after the
    /// last one. Copies may still be under way when it returns.
    ///
    /// # Safety
    /// All lanes of the warp are here; the warp alone uses the `capacity` rows at `rows`, two more
    /// than the slab has.
    #[inline(always)]
    pub unsafe fn expand(&self, slab: usize, rows: u32, capacity: u32) -> DeviceMemory {
        let (entry, lane) = (self.entry, lane());
        let full_rows = usize::from(entry.full_rows[slab]);
        let tail_rows = usize::from(entry.tail_rows[slab]);
        let own = rows + 4 * lane as u32;
        // SAFETY: the parts are as long as the entry says, and the rows below `capacity`.
        unsafe {
            let full = self.full.add(LANES * sum(&entry.full_rows, slab));
            let mut i = lane;
            while i < full_rows * LANES / 4 {
                async_copy_16(rows + 16 * i as u32, full.add(4 * i).cast());
                i += LANES;
            }
            let first_mask = sum(&entry.tail_rows, slab);
            let mut tail = self.tails.add(count_ones(self.masks, first_mask));
            for i in 0..tail_rows {
                let mask = *self.masks.add(first_mask + i);
                let word = tail_slot(mask, lane as u32).map_or(0, |slot| *tail.add(slot as usize));
                store_shared(own + ((full_rows + i) * LINE) as u32, word);
                tail = tail.add(mask.count_ones() as usize);
            }
            for row in (full_rows + tail_rows) as u32..capacity {
                store_shared(own + row * LINE as u32, 0);
            }
            DeviceMemory { own, last_row: capacity - 1, raw: self.raw.add(slab * self.raw_words) }
        }
    }
}

/// Sum of the first `count` of eight numbers.
#[inline(always)]
fn sum(numbers: &[u8; SLABS], count: usize) -> usize {
    let counted = |i| if i < count { usize::from(numbers[i]) } else { 0 };
    (counted(0) + counted(1))
        + (counted(2) + counted(3))
        + (counted(4) + counted(5))
        + (counted(6) + counted(7))
}

/// Bits set in the first `count` words at `masks`; the warp's lanes share the work.
///
/// # Safety
/// The words are there, and all lanes of the warp are here.
#[inline(always)]
unsafe fn count_ones(masks: *const u32, count: usize) -> usize {
    let (mut ones, mut i) = (0, lane());
    while i < count {
        // SAFETY: below `count`.
        ones += unsafe { *masks.add(i) }.count_ones();
        i += LANES;
    }
    warp_sum(ones) as usize
}

/// What a lane decodes from: table and words in shared, raw planes in global memory.
pub struct DeviceMemory {
    /// Address of the lane's word in the first row.
    own: u32,
    last_row: u32,
    raw: *const u32,
}

impl SlabMemory for DeviceMemory {
    #[inline(always)]
    fn entry(&self, index: u32) -> u32 {
        // SAFETY: an index is below `TABLE` by construction of the entries, and shared memory starts
        // with the table.
        unsafe { load_shared(shared_memory() + 4 * index) }
    }

    #[inline(always)]
    fn word(&self, row: u32) -> u32 {
        // SAFETY: the warp has rows up to the last one.
        unsafe { load_shared(self.own + row.min(self.last_row) * LINE as u32) }
    }

    #[inline(always)]
    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        // SAFETY: `decode_slab` asks for words of the slab's planes only, at multiples of `N` from
        // their start, which is aligned to a line.
        unsafe { load_global(self.raw.add(at)) }
    }
}
