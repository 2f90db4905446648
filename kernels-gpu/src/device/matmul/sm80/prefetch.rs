//! Preparing a segment while the one before it is decoded.
//!
//! Three phases, each of which needs what the one before it has requested: request the tile's record, locate the
//! slabs from it, request the slabs' words.

use super::memory::WarpMemory;
use super::segment::{Segment, SegmentInput, across};
use crate::WeightFormat;
use crate::device::matmul::Arguments;
use crate::device::payload::{FIRST_ROWS, Record, SlabPayload};
use crate::device::ptx::{
    async_copy_commit, async_copy_wait, async_copy_wait_but, reread_lane, warp_barrier,
};
use fused_rans_layout::{LANES, TAIL_LENGTH_BYTES};

/// Steps that prepare the next segment between panels of this one.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Request the record of the tile.
    RequestRecord,
    /// Locate the slabs, save what the record says, and request the tail lengths.
    Locate,
    /// Request the words, and with them the first exceptions and the scales.
    RequestWords,
}

/// How far a segment is prepared.
#[derive(Clone, Copy)]
pub enum Prefetch {
    /// Nothing is there: the record may be requested, but nothing has waited for it.
    Nothing,
    /// The record is there.
    Record,
    /// The slabs are located, and their tail lengths requested.
    Located,
    /// The words are requested, too.
    Words,
}

impl Prefetch {
    #[inline(always)]
    fn is_located(self) -> bool {
        matches!(self, Self::Located | Self::Words)
    }
}

/// Full rows of words, from one to another: those that the first stage reads, the others, all.
const FIRST: [u32; 2] = [0, FIRST_ROWS];
const OTHERS: [u32; 2] = [FIRST_ROWS, u32::MAX];
const ALL: [u32; 2] = [0, u32::MAX];

/// Prepares the segments of a warp.
pub struct Prefetcher<'a> {
    pub arguments: &'a Arguments,
    pub memory: &'a WarpMemory,
    pub format: WeightFormat,
    /// Bytes of a slab's scales and zero points.
    pub group_bytes: u32,
}

impl Prefetcher<'_> {
    /// Does `phase` for `segment`; its last one only if there is `room` for the words. Returns how far the segment is
    /// prepared after a phase that was done to the end, else `None`.
    ///
    /// # Safety
    /// The segment is one of the warp's; its parity's slots, and if there is room, its rows are not read any more; all
    /// lanes of the warp are here. What the phase before has requested has been waited for by each lane.
    #[inline(always)]
    pub unsafe fn advance<const S: usize>(
        &self,
        segment: Segment<S>,
        parity: u32,
        phase: Phase,
        room: bool,
    ) -> Option<Prefetch> {
        // SAFETY: the caller's promise.
        unsafe {
            match phase {
                Phase::RequestRecord => {
                    self.request_record(segment);
                    None
                }
                Phase::Locate => {
                    warp_barrier();
                    self.locate(segment, parity);
                    Some(Prefetch::Located)
                }
                Phase::RequestWords if room => {
                    warp_barrier();
                    self.request_full_rows(segment, parity, ALL);
                    self.request_tail_rows(segment, parity);
                    Some(Prefetch::Words)
                }
                Phase::RequestWords => None,
            }
        }
    }

    /// Does what was not done while the last segment was decoded: for the first segment, everything. `prime` requests the
    /// first stages of the ring and returns whether it has done so now. After this the segment can be decoded,
    /// though some of its words may still be on their way.
    ///
    /// # Safety
    /// Slots and rows of the segment's parity are not read any more; all lanes of the warp are here.
    #[inline(always)]
    pub unsafe fn complete<const S: usize>(
        &self,
        done: Prefetch,
        input: &SegmentInput<'_, S>,
        prime: impl FnOnce() -> bool,
    ) {
        let SegmentInput { segment, parity, .. } = *input;
        let words_requested = matches!(done, Prefetch::Words);
        // SAFETY: the caller's promise, and each step waits for what it needs.
        unsafe {
            if !done.is_located() {
                if !matches!(done, Prefetch::Record) {
                    self.request_record(segment);
                    async_copy_wait();
                    warp_barrier();
                }
                self.locate(segment, parity);
                // The slots are visible to all lanes.
                warp_barrier();
            }
            if !words_requested {
                self.request_full_rows(segment, parity, FIRST);
            }
            let primed = prime();
            let mut early = false;
            if !words_requested {
                self.request_full_rows(segment, parity, OTHERS);
                if primed {
                    // Tail lengths, first rows and the first stage are there; the second stage may not be.
                    async_copy_wait_but::<1>();
                    early = input.starts_full();
                } else {
                    async_copy_wait();
                }
                warp_barrier();
                self.request_tail_rows(segment, parity);
                async_copy_commit();
            }
            // If everything was prepared before, the mainloop has waited.
            if (primed || !words_requested) && !early {
                async_copy_wait();
                warp_barrier();
            }
        }
    }

    /// Requests the record of the segment's tile.
    ///
    /// # Safety
    /// The segment is one of the warp's; the last record is not read any more.
    #[inline(always)]
    pub unsafe fn request_record<const S: usize>(&self, segment: Segment<S>) {
        let tile = segment.tile(across(self.arguments));
        let entry = self.arguments.index.wrapping_add(tile as usize);
        // SAFETY: the segment is one of the layer.
        unsafe { Record::request(entry, self.memory.record()) };
    }

    /// Locates the segment's slabs, saves them to their slots, and requests their tail lengths.
    ///
    /// # Safety
    /// The segment's record is there; slots of this parity are not read any more.
    #[inline(always)]
    unsafe fn locate<const S: usize>(&self, segment: Segment<S>, parity: u32) {
        let slots = self.memory.slots::<S>(parity);
        // A lane for each slab.
        let s = reread_lane();
        if s < segment.slabs(self.arguments) {
            // SAFETY: the caller's promise.
            let record = unsafe { Record::load(self.memory.record(), segment.slab() + s as u32) };
            let whole = segment.is_whole(self.arguments);
            let shape = || segment.tile_shape(self.arguments);
            let (blob, raw_bits) = (self.arguments.blob, self.format.raw_bits());
            let slab = SlabPayload::locate(blob, &record, whole, shape, raw_bits, self.group_bytes);
            // SAFETY: the caller's promise.
            unsafe {
                let lengths = self.memory.tail_lengths() + (s * TAIL_LENGTH_BYTES) as u32;
                slab.request_tail_lengths(lengths);
                slab.save(slots.at(s), self.memory.rows::<S>(s, &slab, parity));
            }
        }
    }

    /// Requests full rows of words of the segment, from one row to another; with the first ones, exceptions and scales.
    /// A team of lanes for each slab.
    ///
    /// # Safety
    /// The segment is located; slots and rows of this parity are not read any more.
    #[inline(always)]
    unsafe fn request_full_rows<const S: usize>(
        &self,
        segment: Segment<S>,
        parity: u32,
        rows: [u32; 2],
    ) {
        let lanes = LANES / S;
        let (s, lane) = (reread_lane() / lanes, (reread_lane() % lanes) as u32);
        if s < segment.slabs(self.arguments) {
            let slots = self.memory.slots::<S>(parity);
            // SAFETY: the slab is located; the rest is the caller's promise.
            unsafe {
                let slab = slots.slab(s);
                slab.request_full_rows(slots.rows(s), rows, [lane, lanes as u32]);
                if rows[0] == 0 {
                    slab.request_exceptions(slots.at(s), lane);
                    slab.request_groups(self.group_bytes, slots.groups(s), lane);
                }
            }
        }
    }

    /// Requests the tail rows of words of the segment.
    ///
    /// # Safety
    /// As for [`Prefetcher::request_full_rows`]; the tail lengths are there; all lanes of the warp are here.
    #[inline(always)]
    unsafe fn request_tail_rows<const S: usize>(&self, segment: Segment<S>, parity: u32) {
        let (slots, lengths) = (self.memory.slots::<S>(parity), self.memory.tail_lengths());
        // SAFETY: the slabs are located; the rest is the caller's promise.
        unsafe {
            let length =
                |s| SlabPayload::requested_tail_length(lengths + (s * TAIL_LENGTH_BYTES) as u32);
            if segment.slabs(self.arguments) == S {
                let slabs: [SlabPayload; S] = core::array::from_fn(|s| slots.slab(s));
                let rows = core::array::from_fn(|s| slots.rows(s));
                SlabPayload::request_tail_rows(slabs, rows, core::array::from_fn(length));
            } else {
                SlabPayload::request_tail_rows([slots.slab(0)], [slots.rows(0)], [length(0)]);
            }
        }
    }
}
