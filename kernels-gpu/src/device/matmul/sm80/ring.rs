//! Raw planes and activations on their way through shared memory.
//!
//! Loads come back in the order in which a multiprocessor has sent for them, so that one to a register
//! would wait behind all that is on its way from device memory: what every half turn needs comes
//! this way, as far ahead as the rest.

use super::activations::Activations;
use crate::device::ptx::{
    async_copy, async_copy_commit, async_copy_wait_but, lane, load_shared_words,
};
use crate::{RawWords, unrolled};
use fused_rans_layout::{FRAGMENT, LANES, RING_STAGES, ring_raw_bytes, ring_stage_bytes};

/// Groups of copies that may still be on their way when a stage is read: those of the stages after it.
pub const AHEAD: usize = RING_STAGES as usize - 2;

/// Words of a lane's four, of all lanes.
const QUADS: u32 = 4 * LANES as u32;

/// A warp's ring of stages, each of which holds what a half turn needs: of `S` slabs the raw words of four
/// fragments each, and activations of two steps; of each lane those that it needs itself, so that
/// lanes need not wait for each other.
pub struct Ring<const B: usize, const S: usize> {
    raw_bits: u32,
    /// Address of the first stage, aligned to 16 bytes.
    start: u32,
    /// Address of the stage that is read next.
    at: u32,
}

/// What a stage is filled with.
#[derive(Clone, Copy)]
pub struct Source {
    /// Raw planes of the first slab; null for nothing.
    pub raw: *const u32,
    /// Words from a slab's planes to the next one's.
    pub stride: u32,
    /// Turns of the slabs.
    pub turns: u32,
    /// Number of the turn in the slabs.
    pub turn: u32,
    /// Its first column of x.
    pub col: u32,
}

impl<const B: usize, const S: usize> Ring<B, S> {
    #[inline(always)]
    pub fn new(start: u32, raw_bits: u32) -> Self {
        Self { raw_bits, start, at: start }
    }

    #[inline(always)]
    fn stage_bytes(&self) -> u32 {
        ring_stage_bytes(B, self.raw_bits) as u32
    }

    /// Address of the stage that comes `ahead` stages, fewer than all, after the one that is read next.
    #[inline(always)]
    fn stage(&self, ahead: u32) -> u32 {
        let at = self.at + ahead * self.stage_bytes();
        let all = RING_STAGES * self.stage_bytes();
        if at >= self.start + all { at - all } else { at }
    }

    /// Starts to fill the stage that comes `ahead` stages after the one that is read next, with half `half` of a turn.
    /// Ends a group of copies.
    ///
    /// # Safety
    /// The planes and columns are there; rows of x are aligned; the lane has read what was in the stage.
    #[inline(always)]
    pub unsafe fn fill(&self, ahead: u32, source: &Source, half: u32, x: &Activations<B>) {
        if !source.raw.is_null() {
            let stage = self.stage(ahead);
            unrolled::<S>(
                #[inline(always)]
                |s| {
                    let to = stage + (s * ring_raw_bytes(self.raw_bits)) as u32;
                    let raw = source.raw.wrapping_add(s * source.stride as usize);
                    // SAFETY: the caller's promise.
                    unsafe { self.fill_raw(to, raw, source, half) };
                },
            );
            let to = stage + (S * ring_raw_bytes(self.raw_bits)) as u32 + 16 * lane() as u32;
            unrolled::<B>(
                #[inline(always)]
                |tile| {
                    let from = x.at(tile, source.col + half * (2 * FRAGMENT) as u32);
                    // SAFETY: the caller's promise.
                    unsafe { async_copy::<4>(to + (16 * LANES * tile) as u32, from) };
                },
            );
        }
        async_copy_commit();
    }

    /// Raw words of a slab.
    ///
    /// # Safety
    /// As [`Ring::fill`].
    #[inline(always)]
    unsafe fn fill_raw(&self, mut to: u32, raw: *const u32, source: &Source, half: u32) {
        let Source { turns, turn, .. } = *source;
        let (bits, lane) = (self.raw_bits, lane() as u32);
        let mut plane = 0;
        let at = |plane: u32, word: u32| raw.wrapping_add((plane + word) as usize);
        // SAFETY: the words of four fragments, as `Plane::word_offset` has them; hardly a quad of words
        // is incomplete.
        unsafe {
            if bits & 8 != 0 {
                let word = (4 * turn + 2 * half) * QUADS + 4 * lane;
                async_copy::<4>(to + 16 * lane, at(plane, word));
                async_copy::<4>(to + 16 * (lane + LANES as u32), at(plane, word + QUADS));
                (plane, to) = (plane + 4 * turns * QUADS, to + 8 * QUADS);
            }
            if bits & 4 != 0 {
                async_copy::<4>(to + 16 * lane, at(plane, (2 * turn + half) * QUADS + 4 * lane));
                (plane, to) = (plane + 2 * turns * QUADS, to + 4 * QUADS);
            }
            if bits & 2 != 0 {
                let word = turn * QUADS + 4 * lane + 2 * half;
                async_copy::<2>(to + 8 * lane, at(plane, word));
                (plane, to) = (plane + turns * QUADS, to + 2 * QUADS);
            }
            if bits & 1 != 0 {
                // Two words a turn: the last quad may be half of one.
                let stride = (2 * turns - turn / 2 * 4).min(4);
                let word = turn / 2 * QUADS + stride * lane + turn % 2 * 2 + half;
                async_copy::<1>(to + 4 * lane, at(plane, word));
            }
        }
    }

    /// Waits for the stage that is read next, which must have been filled, and after it no more than [`AHEAD`]
    /// others.
    #[inline(always)]
    pub fn wait(&self) {
        async_copy_wait_but::<AHEAD>();
    }

    /// The slabs' raw words of both fragments of step `STEP` of the stage, once it has been waited for; nothing of
    /// the other step's.
    #[inline(always)]
    pub fn raw<const STEP: usize>(&self) -> [RawWords; S] {
        let mut words = [RawWords::default(); S];
        let (bits, lane) = (self.raw_bits, lane() as u32);
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let mut from = self.at + (s * ring_raw_bytes(bits)) as u32;
                let words = &mut words[s];
                // SAFETY: this lane has copied the words there, and has waited for them.
                unsafe {
                    if bits & 8 != 0 {
                        let at = from + 16 * (lane + (STEP * LANES) as u32);
                        words.eight[STEP] = load_shared_words(at);
                        from += 8 * QUADS;
                    }
                    if bits & 4 != 0 {
                        let [a, b] = load_shared_words(from + 16 * lane + 8 * STEP as u32);
                        (words.four[2 * STEP], words.four[2 * STEP + 1]) = (a, b);
                        from += 4 * QUADS;
                    }
                    if bits & 2 != 0 {
                        [words.two[STEP]] = load_shared_words(from + 8 * lane + 4 * STEP as u32);
                        from += 2 * QUADS;
                    }
                    if bits & 1 != 0 {
                        [words.one] = load_shared_words(from + 4 * lane);
                    }
                }
            },
        );
        words
    }

    /// Its activations, of 8 rows of x: registers b0 and b1 of the even step, then of the odd one.
    #[inline(always)]
    pub fn activations(&self, tile: usize) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { load_shared_words(self.activations_at(tile)) }
    }

    /// Likewise, of one step.
    #[inline(always)]
    pub fn activations_of_step<const STEP: usize>(&self, tile: usize) -> [u32; 2] {
        // SAFETY: as above.
        unsafe { load_shared_words(self.activations_at(tile) + 8 * STEP as u32) }
    }

    #[inline(always)]
    fn activations_at(&self, tile: usize) -> u32 {
        let first = self.at + (S * ring_raw_bytes(self.raw_bits)) as u32;
        first + 16 * (lane() + LANES * tile) as u32
    }

    /// The stage has been read.
    #[inline(always)]
    pub fn next(&mut self) {
        self.at = self.stage(1);
    }
}
