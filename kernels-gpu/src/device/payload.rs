//! A slab's part of a tile's payload in device memory.

use super::instructions::{
    advance, async_copy_16, async_copy_word, ballot, four, lane, load_global, load_shared,
    multiply_add, prefetch, shared_memory,
};
use crate::{SlabMemory, Words};
use fused_rans_layout::{
    LANES, LINE, SLABS, SlabShape, TABLE, TAIL_LENGTH_BYTES, TileEntry, TileKind, TileShape,
};

/// Starts copying the decode table to the front of shared memory; `threads` threads take part.
///
/// # Safety
/// `table` has [`TABLE`] entries and is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn copy_table(table: *const u32, thread: usize, threads: usize) {
    let mut i = thread;
    while i < TABLE / 4 {
        // SAFETY: `i` is below a quarter of the table, and shared memory starts with room for it.
        unsafe { async_copy_16(shared_memory() + 16 * i as u32, table.add(4 * i).cast()) };
        i += threads;
    }
}

/// Where the parts of a slab are. Offsets are in bytes from the tile's payload.
#[derive(Clone, Copy)]
pub struct SlabPayload {
    payload: *const u8,
    /// Code of the tile's kind.
    kind: u8,
    /// Of the slab's raw planes.
    raw: u32,
    groups: u32,
    full: u32,
    full_rows: u32,
    tails: u32,
    tail_rows: u32,
    lengths: u32,
    exceptions: u32,
    exception_count: u32,
}

/// Where a tile's payload is, from its record's first word.
#[inline(always)]
fn tile_payload(blob: *const u8, offset: u32) -> *const u8 {
    blob.wrapping_add(offset as usize * LINE)
}

/// Bytes that a cache fetches at once.
const SECTOR: u32 = 32;

/// The first look at the slab after the next, early, so that [`SlabPayload::load`] need not wait: brings
/// the tile's record into the caches.
///
/// # Safety
/// `entry` is a record of `blob`'s index.
#[inline(always)]
pub unsafe fn find(blob: *const u8, entry: *const TileEntry) -> *const u8 {
    prefetch(entry.cast::<u8>().wrapping_add(SECTOR as usize));
    // SAFETY: the caller's promise.
    let [offset] = unsafe { load_global(entry.cast()) };
    tile_payload(blob, offset)
}

/// The tail lengths, as [`SlabPayload::tail_lengths`], of slab number `slab` of the tile whose payload is
/// at `payload`.
///
/// # Safety
/// The tile has such a slab.
#[inline(always)]
pub unsafe fn learn(payload: *const u8, slab: u32) -> u8 {
    // SAFETY: a coded tile starts with them; a raw one takes a line and more.
    unsafe { *payload.add(TAIL_LENGTH_BYTES * slab as usize + lane() / 2) }
}

impl SlabPayload {
    /// Slab number `slab` of the tile with record `entry`, of weights with `raw_bits` raw bits and
    /// groups of `group_bytes` a slab.
    ///
    /// # Safety
    /// The record is one of the blob's, which the host has checked; the tile has such a slab.
    #[inline(always)]
    pub unsafe fn load(
        blob: *const u8,
        entry: *const TileEntry,
        shape: TileShape,
        slab: u32,
        raw_bits: u32,
        group_bytes: u32,
    ) -> Self {
        let slabs = shape.slabs() as u32;
        // SAFETY: the record's 64 bytes, which are aligned to as much.
        let (head, rows, e) = unsafe {
            let words = entry.cast::<u32>();
            (load_global::<4>(words), load_global::<4>(words.add(4)), &*entry)
        };
        let (exceptions, kind) = (head[2] >> 16, head[3] as u8);
        let full_rows = u64::from(rows[1]) << 32 | u64::from(rows[0]);
        let tail_rows = u64::from(rows[3]) << 32 | u64::from(rows[2]);
        let byte = |bytes: u64| (bytes >> (8 * slab)) as u32 & 0xFF;
        let lengths = slabs * TAIL_LENGTH_BYTES as u32;
        let slab_raw = |slab: SlabShape| slab.raw_bytes(raw_bits as u8) as u32;
        let whole = slab_raw(SlabShape::WHOLE);
        let (slab_raw_bytes, groups) = if kind == TileKind::Raw as u8 {
            // Only integers of one byte have groups.
            (0, (shape.weights() as u32).next_multiple_of(16))
        } else if shape.is_whole() {
            (whole, lengths + SLABS as u32 * whole)
        } else {
            let (first, last) = (slab_raw(shape.slab(0)), slab_raw(shape.slab(slabs as usize - 1)));
            (first, lengths + (slabs - 1) * first + last)
        };
        let full = groups + slabs * group_bytes;
        let listed = full + LINE as u32 * byte_sum(full_rows);
        let first_exception = u32::from(e.exception_start[slab as usize]);
        let end = if slab + 1 < slabs {
            u32::from(e.exception_start[slab as usize + 1])
        } else {
            exceptions
        };
        Self {
            payload: tile_payload(blob, head[0]),
            kind,
            raw: lengths + slab * slab_raw_bytes,
            groups: groups + slab * group_bytes,
            full: full + LINE as u32 * byte_sum(full_rows & ((1 << (8 * slab)) - 1)),
            full_rows: byte(full_rows),
            tails: listed + 4 * (exceptions + u32::from(e.tail_start[slab as usize])),
            tail_rows: byte(tail_rows),
            lengths: slab * TAIL_LENGTH_BYTES as u32,
            exceptions: listed + 4 * first_exception,
            exception_count: end - first_exception,
        }
    }

    /// Whether the tile is stored as it is.
    #[inline(always)]
    pub fn is_raw(&self) -> bool {
        self.kind == TileKind::Raw as u8
    }

    /// The payload, which of a raw tile is the weights.
    #[inline(always)]
    pub fn weights(&self) -> *const u8 {
        self.payload
    }

    /// The slab's raw planes.
    #[inline(always)]
    pub fn raw(&self) -> *const u32 {
        self.at(self.raw).cast()
    }

    /// The slab's scales and zero points.
    #[inline(always)]
    pub fn groups(&self) -> *const u8 {
        self.at(self.groups)
    }

    /// Where the slab's exceptions are, and how many.
    #[inline(always)]
    pub fn exceptions(&self) -> (*const u32, u32) {
        (self.at(self.exceptions).cast(), self.exception_count)
    }

    #[inline(always)]
    fn at(&self, offset: u32) -> *const u8 {
        self.payload.wrapping_add(offset as usize)
    }

    /// Sends for the full rows of the slab's words, to `rows` in shared memory.
    ///
    /// # Safety
    /// All lanes of the warp are here; the warp alone uses the rows, which are as many as the slab has.
    #[inline(always)]
    pub unsafe fn fetch(&self, rows: u32) {
        if self.is_raw() {
            return;
        }
        // About as many words as tail rows have.
        let at = lane() as u32 * SECTOR;
        if at < self.tail_rows * LINE as u32 / 2 {
            prefetch(self.at(self.tails + at));
        }
        let mut at = 16 * lane() as u32;
        while at < self.full_rows * LINE as u32 {
            // SAFETY: the full rows are as many as the record says.
            unsafe { async_copy_16(rows + at, self.at(self.full + at)) };
            at += 16 * LANES as u32;
        }
    }

    /// Brings the slab's raw planes of `bytes` bytes into the L2 cache.
    #[inline(always)]
    pub fn prefetch_raw(&self, bytes: u32) {
        let mut at = lane() as u32 * SECTOR;
        while at < bytes {
            prefetch(self.at(self.raw + at));
            at += LANES as u32 * SECTOR;
        }
    }

    /// The byte that says in how many tail rows this lane and its neighbour have words.
    #[inline(always)]
    pub fn tail_lengths(&self) -> u8 {
        // SAFETY: a coded tile starts with them; a raw one takes a line and more.
        unsafe { *self.at(self.lengths + lane() as u32 / 2) }
    }

    /// Sends for the words of tail rows, to `rows` in shared memory; the lanes that a row leaves out get
    /// zeros.
    ///
    /// # Safety
    /// As [`SlabPayload::fetch`]; `lengths` is this slab's [`SlabPayload::tail_lengths`].
    #[inline(always)]
    pub unsafe fn fetch_tails(&self, lengths: u8, rows: u32) {
        if self.is_raw() {
            return;
        }
        let length = u32::from(lengths) >> (4 * (lane() % 2)) & 15;
        let below = (1 << lane()) - 1;
        let mut from = self.at(self.tails).cast::<u32>();
        let mut to = rows + self.full_rows * LINE as u32 + 4 * lane() as u32;
        for row in 0..self.tail_rows {
            let present = length > row;
            let lanes = ballot(present);
            let word = from.wrapping_add((lanes & below).count_ones() as usize);
            // SAFETY: the words are as many as the lengths say.
            unsafe { async_copy_word(to, word, present) };
            from = from.wrapping_add(lanes.count_ones() as usize);
            to += LINE as u32;
        }
    }

    /// What a lane decodes the slab from, once its words are at `rows`.
    #[inline(always)]
    pub fn memory(&self, rows: u32) -> DeviceMemory {
        DeviceMemory { own: rows + 4 * lane() as u32, raw: self.raw(), four: four() }
    }
}

/// Sum of eight bytes.
#[inline(always)]
fn byte_sum(bytes: u64) -> u32 {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let pairs = (bytes & EVEN) + (bytes >> 8 & EVEN);
    (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as u32
}

/// What a lane decodes from: table and words in shared, raw planes in global memory.
#[derive(Clone, Copy)]
pub struct DeviceMemory {
    /// Address of the lane's word in the first row.
    own: u32,
    pub raw: *const u32,
    /// See [`four`].
    four: u32,
}

impl SlabMemory for DeviceMemory {
    #[inline(always)]
    fn entry(&self, index: u32) -> u32 {
        // SAFETY: an index is below `TABLE` by construction of the entries, and shared memory starts
        // with the table.
        unsafe { load_shared(multiply_add(index, self.four, shared_memory())) }
    }

    #[inline(always)]
    fn first_words(&self) -> Words {
        // SAFETY: the host gives every slab two rows and more.
        let window = unsafe { [load_shared(self.own), load_shared(self.own + LINE as u32)] };
        Words { window, next: self.own + 2 * LINE as u32 }
    }

    #[inline(always)]
    fn advance(&self, step: u32, words: &mut Words) {
        // SAFETY: whatever its bits are, a stream takes no more than `MAX_ROWS` words and looks at
        // `LOOK_AHEAD` more; behind the last slab's rows the host leaves room for so many.
        unsafe { advance(step, words) };
    }

    #[inline(always)]
    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        // SAFETY: callers ask for words of the slab's planes only, at multiples of `N` from their start,
        // which is aligned to a line.
        unsafe { load_global(self.raw.wrapping_add(at)) }
    }
}
