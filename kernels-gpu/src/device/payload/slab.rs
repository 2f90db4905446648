//! A slab's part of a tile's payload: located from the record, saved to shared memory, requested piece by piece.

use super::record::{PayloadOffsets, Record};
use super::words::{DeviceMemory, FIRST_ROWS, Rows, tail_length};
use crate::device::ptx::{
    async_copy, async_copy_16, async_copy_word, ballot, load_global, load_global_u8,
    load_shared_u8, load_shared_words, opaque_four, prefetch, reread_lane, store_shared_4,
};
use crate::portable::twins::add_bytes;
use crate::unrolled;
use fused_rans_layout::{
    LANES, LINE, LOOK_AHEAD, SLAB_BYTES, TAIL_LENGTH_BYTES, TileKind, TileShape,
};

/// Where the parts of a slab are. Offsets are in bytes from the start of the tile's payload.
#[derive(Clone, Copy)]
pub struct SlabPayload {
    payload: *const u8,
    /// Code of the tile's kind.
    kind: u8,
    /// Offset of the raw planes.
    raw: u32,
    /// Offset of scales and zero points.
    groups: u32,
    /// Offset of the full rows of words.
    full: u32,
    full_rows: u32,
    /// Offset of the words of the tail rows.
    tails: u32,
    tail_rows: u32,
    /// Offset of the tail lengths.
    lengths: u32,
    /// Offset of the exceptions.
    exceptions: u32,
    exception_count: u32,
}

/// Bytes that a cache loads at once.
const SECTOR: u32 = 32;

/// Offset of the number of exceptions in a slot; see [`SlabPayload::save`].
const COUNT_OFFSET: u32 = 36;
/// Offset of the [`Rows`] in a slot.
const ROWS_OFFSET: u32 = 40;
/// Exceptions of a slab that are copied to its slot: few slabs have more.
const SAVED_EXCEPTIONS: u32 = 4;
/// Offset of these exceptions in a slot.
const EXCEPTIONS_OFFSET: u32 = SLAB_BYTES as u32 - 4 * SAVED_EXCEPTIONS;

impl SlabPayload {
    /// Locates the slab of `record`, which the tile must have. `shape` returns the tile's shape; it is called if the tile
    /// is not `whole` and coded. Weights have `raw_bits` raw bits; scales and zero points take `group_bytes` a slab.
    #[inline(always)]
    pub fn locate(
        blob: *const u8,
        record: &Record,
        whole: bool,
        shape: impl FnOnce() -> TileShape,
        raw_bits: u32,
        group_bytes: u32,
    ) -> Self {
        let places = if whole && !record.is_raw() {
            PayloadOffsets::in_whole_tile(raw_bits)
        } else {
            PayloadOffsets::new(record, shape(), raw_bits)
        };
        let Record { slab, head, rows, .. } = record;
        let exceptions = head[2] >> 16;
        let byte =
            |[low, high]: [u32; 2]| (if *slab < 4 { low } else { high }) >> (8 * (slab % 4)) & 0xFF;
        let full_rows = [rows[0], rows[1]];
        let full = places.groups + places.slabs * group_bytes;
        let listed = full + LINE as u32 * add_bytes(full_rows[0], add_bytes(full_rows[1], 0));
        // Full rows of the slabs before this one.
        let part = (1 << (8 * (slab % 4))) - 1;
        let before = if *slab < 4 {
            add_bytes(full_rows[0] & part, 0)
        } else {
            add_bytes(full_rows[0], add_bytes(full_rows[1] & part, 0))
        };
        let end = if slab + 1 < places.slabs { record.exception_end } else { exceptions };
        Self {
            payload: blob.wrapping_add(head[0] as usize * LINE),
            kind: head[3] as u8,
            raw: places.slabs * TAIL_LENGTH_BYTES as u32 + slab * places.slab_raw_bytes,
            groups: places.groups + slab * group_bytes,
            full: full + LINE as u32 * before,
            full_rows: byte(full_rows),
            tails: listed + 4 * (exceptions + record.tail_start),
            tail_rows: byte([rows[2], rows[3]]),
            lengths: slab * TAIL_LENGTH_BYTES as u32,
            exceptions: listed + 4 * record.exception_start,
            exception_count: end.wrapping_sub(record.exception_start),
        }
    }

    /// Saves itself, and where its words go, to the slot at address `at` of shared memory, aligned to 16 bytes, for all
    /// lanes of the warp, because registers are short. One lane calls this.
    ///
    /// # Safety
    /// There is room for [`SLAB_BYTES`].
    #[inline(always)]
    pub unsafe fn save(&self, at: u32, words: Rows) {
        let payload = self.payload.addr() as u64;
        let (low, high) = (payload as u32, (payload >> 32) as u32);
        let rows = self.full_rows | self.tail_rows << 8 | u32::from(self.kind) << 16;
        // SAFETY: the caller's promise.
        unsafe {
            store_shared_4(at, [low, high, rows, self.raw]);
            store_shared_4(at + 16, [self.full, self.tails, self.groups, self.lengths]);
            let exceptions = [self.exceptions, self.exception_count];
            store_shared_4(at + 32, [exceptions[0], exceptions[1], words.first, words.stride]);
        }
    }

    /// Loads what has been saved to the slot at `at`.
    ///
    /// # Safety
    /// A slab has been saved there, and the warp has passed a barrier since.
    #[inline(always)]
    pub unsafe fn load(at: u32) -> Self {
        // SAFETY: the caller's promise.
        let (a, b, c): (_, _, [u32; 2]) = unsafe {
            (load_shared_words(at), load_shared_words(at + 16), load_shared_words(at + 32))
        };
        let ([low, high, rows, raw], [full, tails, groups, lengths]) = (a, b);
        let [exceptions, exception_count] = c;
        let payload = u64::from(high) << 32 | u64::from(low);
        Self {
            payload: core::ptr::with_exposed_provenance(payload as usize),
            kind: (rows >> 16) as u8,
            raw,
            groups,
            full,
            full_rows: rows & 0xFF,
            tails,
            tail_rows: rows >> 8 & 0xFF,
            lengths,
            exceptions,
            exception_count,
        }
    }

    /// Loads where the words of the slab go whose slot is at `at`.
    ///
    /// # Safety
    /// As for [`SlabPayload::load`].
    #[inline(always)]
    pub unsafe fn load_rows(at: u32) -> Rows {
        // SAFETY: the caller's promise.
        let [first, stride] = unsafe { load_shared_words(at + ROWS_OFFSET) };
        Rows { first, stride }
    }

    /// Requests the first exceptions, to the slot at `at`. All lanes of a team call this; this one is number `lane`.
    ///
    /// # Safety
    /// There is room, as for [`SlabPayload::save`].
    #[inline(always)]
    pub unsafe fn request_exceptions(&self, at: u32, lane: u32) {
        let (from, count) = self.exceptions();
        if lane < count.min(SAVED_EXCEPTIONS) {
            // SAFETY: `lane` is below the count, and a slot has room for four.
            unsafe {
                async_copy::<1>(at + EXCEPTIONS_OFFSET + 4 * lane, from.wrapping_add(lane as usize))
            };
        }
    }

    /// Loads exception number `number` of the slab whose slot is at `at`; `None` if there are fewer.
    ///
    /// # Safety
    /// As for [`SlabPayload::load`]; the exceptions have been requested and waited for.
    #[inline(always)]
    pub unsafe fn exception(at: u32, number: u32) -> Option<u32> {
        // SAFETY: the caller's promise.
        let [count] = unsafe { load_shared_words(at + COUNT_OFFSET) };
        // SAFETY: `number` is below the count.
        let [record] = unsafe {
            if number >= count {
                return None;
            } else if number < SAVED_EXCEPTIONS {
                load_shared_words(at + EXCEPTIONS_OFFSET + 4 * number)
            } else {
                load_global(Self::load(at).exceptions().0.wrapping_add(number as usize))
            }
        };
        Some(record)
    }

    /// Checks whether the tile is stored raw.
    #[inline(always)]
    pub fn is_raw(&self) -> bool {
        self.kind == TileKind::Raw as u8
    }

    /// Returns the number of rows of words, including those that a decoder looks ahead at.
    #[inline(always)]
    pub fn rows(&self) -> u32 {
        self.full_rows + self.tail_rows + LOOK_AHEAD as u32
    }

    /// Returns the payload: in a raw tile, the weights.
    #[inline(always)]
    pub fn weights(&self) -> *const u8 {
        self.payload
    }

    /// Returns the slab's raw planes.
    #[inline(always)]
    pub fn raw(&self) -> *const u32 {
        self.at(self.raw).cast()
    }

    /// Returns the slab's exceptions and their number.
    #[inline(always)]
    pub fn exceptions(&self) -> (*const u32, u32) {
        (self.at(self.exceptions).cast(), self.exception_count)
    }

    #[inline(always)]
    fn at(&self, offset: u32) -> *const u8 {
        self.payload.wrapping_add(offset as usize)
    }

    /// Loads the slab's raw planes, `bytes` bytes, into the L2 cache.
    #[inline(always)]
    pub fn prefetch_raw(&self, bytes: u32) {
        let mut at = reread_lane() as u32 * SECTOR;
        while at < bytes {
            prefetch(self.at(self.raw + at));
            at += LANES as u32 * SECTOR;
        }
    }

    /// Requests the slab's tail lengths, to address `at` of shared memory, aligned to 16 bytes. One lane calls this.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub unsafe fn request_tail_lengths(&self, at: u32) {
        // SAFETY: a coded tile starts with them; a raw one is a line long at least.
        unsafe { async_copy_16(at, self.at(self.lengths)) };
    }

    /// Checks whether the first [`FIRST_ROWS`] rows of words are full.
    #[inline(always)]
    pub fn starts_full(&self) -> bool {
        self.full_rows >= FIRST_ROWS
    }

    /// Requests full rows of the slab's words, to `rows`: from row `first` up to row `end` or the last. All lanes of a team
    /// of `lanes`, a multiple of 8, call this; this one is number `lane`.
    ///
    /// # Safety
    /// `rows` has as many rows as the slab, and only this warp uses them.
    #[inline(always)]
    pub unsafe fn request_full_rows(
        &self,
        rows: Rows,
        [first, end]: [u32; 2],
        [lane, lanes]: [u32; 2],
    ) {
        if self.is_raw() {
            return;
        }
        let (row, within, step) = (first + lane / 8, lane % 8 * 16, lanes / 8);
        let mut from = self.at(self.full + LINE as u32 * row + within);
        let mut to = rows.row(row) + within;
        for _ in (row..self.full_rows.min(end)).step_by(step as usize) {
            // SAFETY: the full rows are as many as the record says.
            unsafe { async_copy_16(to, from) };
            from = from.wrapping_add(LINE * step as usize);
            to = to.wrapping_add(rows.stride * step);
        }
    }

    /// Loads the lane's tail length from device memory.
    ///
    /// # Safety
    /// The tile is coded.
    #[inline(always)]
    pub unsafe fn load_tail_length(&self) -> u32 {
        let at = self.at(self.lengths + reread_lane() as u32 / 2);
        // SAFETY: a coded tile starts with the lengths.
        tail_length(unsafe { load_global_u8(at) })
    }

    /// Loads the lane's tail length from where the slab's tail lengths have been requested to.
    ///
    /// # Safety
    /// The tail lengths have been waited for, and are visible to this lane.
    #[inline(always)]
    pub unsafe fn requested_tail_length(at: u32) -> u32 {
        // SAFETY: the caller's promise.
        tail_length(unsafe { load_shared_u8(at + reread_lane() as u32 / 2) })
    }

    /// Requests the tail rows of the words of `S` slabs, to `rows`; lanes that a row leaves out get zeros. `lengths` are the
    /// lane's tail lengths.
    ///
    /// # Safety
    /// All lanes of the warp are here. `rows` has as many rows as the slabs, and only this warp uses them.
    #[inline(always)]
    pub unsafe fn request_tail_rows<const S: usize>(
        slabs: [Self; S],
        rows: [Rows; S],
        lengths: [u32; S],
    ) {
        let below = (1 << reread_lane()) - 1;
        let tail_rows = slabs.map(|slab| if slab.is_raw() { 0 } else { slab.tail_rows });
        let mut from = slabs.map(|slab| slab.at(slab.tails).cast::<u32>());
        let mut to: [u32; S] =
            core::array::from_fn(|s| rows[s].row(slabs[s].full_rows) + 4 * reread_lane() as u32);
        for row in 0..tail_rows.into_iter().fold(0, u32::max) {
            unrolled::<S>(
                #[inline(always)]
                |s| {
                    let present = lengths[s] > row;
                    let lanes = ballot(present);
                    if row < tail_rows[s] {
                        let word = from[s].wrapping_add((lanes & below).count_ones() as usize);
                        // SAFETY: the words are as many as the lengths say; if the lengths lie, they are in the padding behind every blob.
                        unsafe { async_copy_word(to[s], word, present) };
                    }
                    from[s] = from[s].wrapping_add(lanes.count_ones() as usize);
                    to[s] = to[s].wrapping_add(rows[s].stride);
                },
            );
        }
    }

    /// Requests the slab's scales and zero points, `bytes` bytes, to address `to` of shared memory. All lanes of a team of 10
    /// or more call this; this one is number `lane`.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub unsafe fn request_groups(&self, bytes: u32, to: u32, lane: u32) {
        let at = 16 * lane;
        if at < bytes {
            // SAFETY: the caller's promise; the layer has them.
            unsafe { async_copy_16(to + at, self.at(self.groups + at)) };
        }
    }

    /// Returns what a lane decodes the slab from, once its words are at `rows`.
    #[inline(always)]
    pub fn memory(&self, rows: Rows) -> DeviceMemory {
        DeviceMemory { rows: rows.for_lane(), raw: self.raw(), four: opaque_four() }
    }
}
