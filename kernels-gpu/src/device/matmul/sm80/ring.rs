//! Raw planes and activations on their way through shared memory.
//!
//! A multiprocessor receives loads in the order in which it has requested them, so a load to a register would wait
//! behind all copies that are on their way from device memory. Everything that a stage needs is therefore copied to
//! shared memory, requested as far ahead as the words.

use super::activations::Activations;
use crate::device::ptx::{
    async_copy, async_copy_commit, async_copy_wait_but, lane, load_shared_words,
};
use crate::{RawWords, unrolled};
use fused_rans_layout::{FRAGMENT, LANES, RING_STAGES, ring_raw_bytes, ring_stage_bytes};

/// Groups of copies that may still be on their way when a stage is read: those of the stages after it.
const PENDING: usize = RING_STAGES as usize - 2;

/// Words of four for every lane.
const QUADS: u32 = 4 * LANES as u32;

/// A warp's ring of stages. A stage holds what 32 columns need: for each of `S` slabs the raw words of four fragments,
/// and the activations of two steps. A lane copies what it reads itself, so that lanes need not wait for each other.
pub struct Ring<const B: usize, const S: usize> {
    raw_bits: u32,
    /// Address of the first stage, aligned to 16 bytes.
    start: u32,
    /// Address of the stage that is read next.
    at: u32,
}

/// Where the contents of a panel's two stages come from.
#[derive(Clone, Copy)]
pub struct Source {
    /// Raw planes of the first slab, or null to fill nothing.
    pub raw: *const u32,
    /// Words from a slab's planes to the next one's.
    pub stride: u32,
    /// Panels of the slabs.
    pub panels: u32,
    /// Number of the panel in the slabs.
    pub panel: u32,
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

    /// Returns the address of the stage that comes `ahead` stages, fewer than all, after the one that is read next.
    #[inline(always)]
    fn stage(&self, ahead: u32) -> u32 {
        let at = self.at + ahead * self.stage_bytes();
        let all = RING_STAGES * self.stage_bytes();
        if at >= self.start + all { at - all } else { at }
    }

    /// Requests half `half` of a panel for the stage that comes `ahead` stages after the one that is read next. Ends a
    /// group of copies.
    ///
    /// # Safety
    /// Planes and columns exist; rows of x are aligned; the lane has read what was in the stage.
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
                |octet| {
                    let from = x.at(octet, source.col + half * (2 * FRAGMENT) as u32);
                    // SAFETY: the caller's promise.
                    unsafe { async_copy::<4>(to + (16 * LANES * octet) as u32, from) };
                },
            );
        }
        async_copy_commit();
    }

    /// Requests the raw words of a slab.
    ///
    /// # Safety
    /// As for [`Ring::fill`].
    #[inline(always)]
    unsafe fn fill_raw(&self, mut to: u32, raw: *const u32, source: &Source, half: u32) {
        let Source { panels, panel, .. } = *source;
        let (bits, lane) = (self.raw_bits, lane() as u32);
        let mut plane = 0;
        let at = |plane: u32, word: u32| raw.wrapping_add((plane + word) as usize);
        // SAFETY: the words of four fragments, placed as `Plane::word_offset` places them; only the last quad of words may
        // be incomplete.
        unsafe {
            if bits & 8 != 0 {
                let word = (4 * panel + 2 * half) * QUADS + 4 * lane;
                async_copy::<4>(to + 16 * lane, at(plane, word));
                async_copy::<4>(to + 16 * (lane + LANES as u32), at(plane, word + QUADS));
                (plane, to) = (plane + 4 * panels * QUADS, to + 8 * QUADS);
            }
            if bits & 4 != 0 {
                async_copy::<4>(to + 16 * lane, at(plane, (2 * panel + half) * QUADS + 4 * lane));
                (plane, to) = (plane + 2 * panels * QUADS, to + 4 * QUADS);
            }
            if bits & 2 != 0 {
                let word = panel * QUADS + 4 * lane + 2 * half;
                async_copy::<2>(to + 8 * lane, at(plane, word));
                (plane, to) = (plane + panels * QUADS, to + 2 * QUADS);
            }
            if bits & 1 != 0 {
                // Two words a panel: the last quad may be half of one.
                let stride = (2 * panels - panel / 2 * 4).min(4);
                let word = panel / 2 * QUADS + stride * lane + panel % 2 * 2 + half;
                async_copy::<1>(to + 4 * lane, at(plane, word));
            }
        }
    }

    /// Waits for the stage that is read next. It must have been filled, and after it no more than [`PENDING`] others.
    #[inline(always)]
    pub fn wait(&self) {
        async_copy_wait_but::<PENDING>();
    }

    /// Loads the slabs' raw words of both fragments of step `STEP` of the stage, which must have been waited for. Words of
    /// the other step are 0.
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

    /// Loads the activations of an octet: registers b0 and b1 of the even step, then of the odd one.
    #[inline(always)]
    pub fn activations(&self, octet: usize) -> [u32; 4] {
        // SAFETY: this lane has copied them there, and has waited for them.
        unsafe { load_shared_words(self.activations_at(octet)) }
    }

    /// Loads the activations of an octet, of one step.
    #[inline(always)]
    pub fn activations_of_step<const STEP: usize>(&self, octet: usize) -> [u32; 2] {
        // SAFETY: this lane has copied them there, and has waited for them.
        unsafe { load_shared_words(self.activations_at(octet) + 8 * STEP as u32) }
    }

    #[inline(always)]
    fn activations_at(&self, octet: usize) -> u32 {
        let first = self.at + (S * ring_raw_bytes(self.raw_bits)) as u32;
        first + 16 * (lane() + LANES * octet) as u32
    }

    /// Moves on to the next stage: this one has been read.
    #[inline(always)]
    pub fn next(&mut self) {
        self.at = self.stage(1);
    }
}
