//! A slab's part of a tile's payload in device memory.

use super::record::{Places, Record};
use super::words::{DeviceMemory, FIRST_ROWS, Rows, tail_length};
use crate::device::ptx::{
    async_copy, async_copy_16, async_copy_word, ballot, four, lane_anew, load_global,
    load_shared_u8, load_shared_words, prefetch, store_shared_4,
};
use crate::portable::twins::add_bytes;
use crate::unrolled;
use fused_rans_layout::{
    LANES, LINE, LOOK_AHEAD, SLAB_BYTES, TAIL_LENGTH_BYTES, TileKind, TileShape,
};

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

/// Bytes that a cache fetches at once.
const SECTOR: u32 = 32;

/// Where the number of exceptions stands in what is kept of a slab; see [`SlabPayload::keep`].
const COUNT_AT: u32 = 36;
/// Where it stands where its words go.
const ROWS_AT: u32 = 40;
/// Exceptions of a slab that are kept in shared memory, and where: hardly a slab has more.
const KEPT_EXCEPTIONS: u32 = 4;
const KEPT_AT: u32 = SLAB_BYTES as u32 - 4 * KEPT_EXCEPTIONS;

impl SlabPayload {
    /// The slab of `record`, which the tile must have; `shape` gives the tile's shape if it is not `whole`. Weights
    /// have `raw_bits` raw bits, and slabs groups of `group_bytes`.
    #[inline(always)]
    pub fn new(
        blob: *const u8,
        record: &Record,
        whole: bool,
        shape: impl FnOnce() -> TileShape,
        raw_bits: u32,
        group_bytes: u32,
    ) -> Self {
        let places = if whole && !record.is_raw() {
            Places::of_whole(raw_bits)
        } else {
            Places::of(record, shape(), raw_bits)
        };
        let Record { slab, head, rows, .. } = record;
        let exceptions = head[2] >> 16;
        let byte =
            |[low, high]: [u32; 2]| (if *slab < 4 { low } else { high }) >> (8 * (slab % 4)) & 0xFF;
        let full_rows = [rows[0], rows[1]];
        let full = places.groups + places.slabs * group_bytes;
        let listed = full + LINE as u32 * add_bytes(full_rows[0], add_bytes(full_rows[1], 0));
        // Those of the slabs before this one.
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

    /// Keeps it, and where its words go, at `at` in shared memory, aligned to 16 bytes, for all lanes of the warp:
    /// registers are short. For one lane that knows it.
    ///
    /// # Safety
    /// There is room for [`SLAB_BYTES`](fused_rans_layout::SLAB_BYTES).
    #[inline(always)]
    pub unsafe fn keep(&self, at: u32, words: Rows) {
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

    /// What has been kept at `at`.
    ///
    /// # Safety
    /// It has been kept there, and the warp has come together since.
    #[inline(always)]
    pub unsafe fn kept(at: u32) -> Self {
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

    /// Where the words of the slab go which is kept at `at`.
    ///
    /// # Safety
    /// As [`SlabPayload::kept`].
    #[inline(always)]
    pub unsafe fn kept_rows(at: u32) -> Rows {
        // SAFETY: the caller's promise.
        let [first, stride] = unsafe { load_shared_words(at + ROWS_AT) };
        Rows { first, stride }
    }

    /// Sends for the first exceptions, to what is kept of the slab at `at`. For all lanes of a team, of which this one
    /// is number `lane`.
    ///
    /// # Safety
    /// There is room, as for [`SlabPayload::keep`].
    #[inline(always)]
    pub unsafe fn fetch_exceptions(&self, at: u32, lane: u32) {
        let (from, count) = self.exceptions();
        if lane < count.min(KEPT_EXCEPTIONS) {
            // SAFETY: there are as many, and the room of four words.
            unsafe { async_copy::<1>(at + KEPT_AT + 4 * lane, from.wrapping_add(lane as usize)) };
        }
    }

    /// Exception number `number`, of the slab which is kept at `at`; `None` if there are not so many.
    ///
    /// # Safety
    /// As [`SlabPayload::kept`]; the exceptions have been fetched and waited for.
    #[inline(always)]
    pub unsafe fn exception(at: u32, number: u32) -> Option<u32> {
        // SAFETY: the caller's promise.
        let [count] = unsafe { load_shared_words(at + COUNT_AT) };
        // SAFETY: there are as many exceptions.
        let [record] = unsafe {
            if number >= count {
                return None;
            } else if number < KEPT_EXCEPTIONS {
                load_shared_words(at + KEPT_AT + 4 * number)
            } else {
                load_global(Self::kept(at).exceptions().0.wrapping_add(number as usize))
            }
        };
        Some(record)
    }

    /// Whether the tile is stored as it is.
    #[inline(always)]
    pub fn is_raw(&self) -> bool {
        self.kind == TileKind::Raw as u8
    }

    /// Rows of words, and those that a decoder looks ahead.
    #[inline(always)]
    pub fn rows(&self) -> u32 {
        self.full_rows + self.tail_rows + LOOK_AHEAD as u32
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

    /// Where the slab's exceptions are, and how many.
    #[inline(always)]
    pub fn exceptions(&self) -> (*const u32, u32) {
        (self.at(self.exceptions).cast(), self.exception_count)
    }

    #[inline(always)]
    fn at(&self, offset: u32) -> *const u8 {
        self.payload.wrapping_add(offset as usize)
    }

    /// Brings the slab's raw planes of `bytes` bytes into the L2 cache.
    #[inline(always)]
    pub fn prefetch_raw(&self, bytes: u32) {
        let mut at = lane_anew() as u32 * SECTOR;
        while at < bytes {
            prefetch(self.at(self.raw + at));
            at += LANES as u32 * SECTOR;
        }
    }

    /// Sends for the slab's tail lengths, to `at` in shared memory, aligned to 16 bytes. For one lane.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub unsafe fn fetch_tail_lengths(&self, at: u32) {
        // SAFETY: a coded tile starts with them; a raw one takes a line and more.
        unsafe { async_copy_16(at, self.at(self.lengths)) };
    }

    /// Whether the first [`FIRST_ROWS`] rows of words are full ones.
    #[inline(always)]
    pub fn starts_full(&self) -> bool {
        self.full_rows >= FIRST_ROWS
    }

    /// Sends for full rows of the slab's words, to `rows` in shared memory: from row `first` on up to row `end` or the
    /// last. For all lanes of a team of `lanes`, a multiple of 8, of which this one is number `lane`.
    ///
    /// # Safety
    /// The warp alone uses the rows, which are as many as the slab has.
    #[inline(always)]
    pub unsafe fn fetch_full(&self, rows: Rows, [first, end]: [u32; 2], [lane, lanes]: [u32; 2]) {
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

    /// The lane's tail length, from device memory.
    ///
    /// # Safety
    /// The tile is coded.
    #[inline(always)]
    pub unsafe fn load_tail_length(&self) -> u32 {
        let at = self.at(self.lengths + lane_anew() as u32 / 2);
        // SAFETY: a coded tile starts with the lengths.
        tail_length(unsafe { u32::from(*at) })
    }

    /// Likewise, from where the slab's tail lengths have been fetched to.
    ///
    /// # Safety
    /// They are there, and for all lanes.
    #[inline(always)]
    pub unsafe fn fetched_tail_length(at: u32) -> u32 {
        // SAFETY: the caller's promise.
        tail_length(unsafe { load_shared_u8(at + lane_anew() as u32 / 2) })
    }

    /// Sends for the tail rows of the words of `S` slabs, to `rows` in shared memory; the lanes that a row leaves out
    /// get zeros. `lengths` are the lane's tail lengths.
    ///
    /// # Safety
    /// All lanes of the warp are here; the warp alone uses the rows, which are as many as the slabs have.
    #[inline(always)]
    pub unsafe fn fetch_tails<const S: usize>(
        slabs: [Self; S],
        rows: [Rows; S],
        lengths: [u32; S],
    ) {
        let below = (1 << lane_anew()) - 1;
        let tail_rows = slabs.map(|slab| if slab.is_raw() { 0 } else { slab.tail_rows });
        let mut from = slabs.map(|slab| slab.at(slab.tails).cast::<u32>());
        let mut to: [u32; S] =
            core::array::from_fn(|s| rows[s].row(slabs[s].full_rows) + 4 * lane_anew() as u32);
        for row in 0..tail_rows.into_iter().fold(0, u32::max) {
            unrolled::<S>(
                #[inline(always)]
                |s| {
                    let present = lengths[s] > row;
                    let lanes = ballot(present);
                    if row < tail_rows[s] {
                        let word = from[s].wrapping_add((lanes & below).count_ones() as usize);
                        // SAFETY: as many as the lengths say, or in what is behind every blob.
                        unsafe { async_copy_word(to[s], word, present) };
                    }
                    from[s] = from[s].wrapping_add(lanes.count_ones() as usize);
                    to[s] = to[s].wrapping_add(rows[s].stride);
                },
            );
        }
    }

    /// Sends for the slab's scales and zero points, `bytes` bytes, to `to` in shared memory. For all lanes of a team
    /// of 10 or more, of which this one is number `lane`.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub unsafe fn fetch_groups(&self, bytes: u32, to: u32, lane: u32) {
        let at = 16 * lane;
        if at < bytes {
            // SAFETY: the caller's promise; the layer has them.
            unsafe { async_copy_16(to + at, self.at(self.groups + at)) };
        }
    }

    /// What a lane decodes the slab from, once its words are at `rows`.
    #[inline(always)]
    pub fn memory(&self, rows: Rows) -> DeviceMemory {
        DeviceMemory { rows: rows.of_lane(), raw: self.raw(), four: four() }
    }
}
