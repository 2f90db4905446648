//! Raw planes and activations on their way through shared memory.
//!
//! Loads come back in the order in which a multiprocessor has sent for them, so that one to a register
//! would wait behind all that is on its way from device memory: what every half turn needs comes
//! this way, as far ahead as the rest.

use super::Arguments;
use super::activations::Activations;
use crate::RawWords;
use crate::device::instructions::{
    async_copy, async_copy_commit, async_copy_wait_but, lane, load_shared_words,
};
use crate::device::unrolled;
use fused_rans_layout::{
    LANES, RING_STAGES, ring_has_activations, ring_raw_bytes, ring_stage_bytes,
};

/// Groups of copies that may still be on their way when a stage is read: those of the stages after it.
const AHEAD: usize = RING_STAGES as usize - 2;

/// A warp's ring of stages, each of which holds what a half turn needs: the raw words of four fragments
/// and, if they are few, activations of two steps; of each lane those that it needs itself, so that
/// lanes need not wait for each other.
#[derive(Clone, Copy)]
pub struct Ring<const B: usize> {
    /// Address of stage 0, aligned to 16 bytes.
    at: u32,
    raw_bits: u32,
}

/// What a stage is filled with.
#[derive(Clone, Copy)]
pub struct Source {
    /// Raw planes of the slab; null for nothing.
    pub raw: *const u32,
    /// Turns of the slab.
    pub turns: u32,
    /// Number of the half turn in the slab.
    pub number: u32,
    /// Its first column of x.
    pub col: u32,
}

impl<const B: usize> Ring<B> {
    #[inline(always)]
    pub fn new(at: u32, raw_bits: u32) -> Self {
        Self { at, raw_bits }
    }

    #[inline(always)]
    fn stage(self, number: u32) -> u32 {
        self.at + number % RING_STAGES * ring_stage_bytes(B, self.raw_bits) as u32
    }

    /// Starts to fill the stage of a half turn. Ends a group of copies.
    ///
    /// # Safety
    /// The planes and columns are there; the lane has read what was in the stage.
    #[inline(always)]
    pub unsafe fn fill(self, source: Source, x: &Activations<B>, arguments: &Arguments) {
        const QUADS: u32 = 4 * LANES as u32;
        let Source { raw, turns, number, col } = source;
        if !raw.is_null() {
            let (bits, lane, mut to) = (self.raw_bits, lane() as u32, self.stage(number));
            if ring_has_activations(B, bits) {
                let first = to + ring_raw_bytes(bits) as u32 + 16 * lane;
                unrolled::<B>(
                    #[inline(always)]
                    |tile| {
                        let (to, from) =
                            (first + (16 * LANES * tile) as u32, x.at(arguments, tile, col));
                        // SAFETY: the columns are there, and rows of x are aligned.
                        unsafe { async_copy::<4>(to, from) };
                    },
                );
            }
            let mut plane = 0;
            let at = |plane: u32, word: u32| raw.wrapping_add((plane + word) as usize);
            // SAFETY: the words of four fragments, as `Plane::word_offset` has them; hardly a quad of words
            // is incomplete.
            unsafe {
                if bits & 8 != 0 {
                    async_copy::<4>(to + 16 * lane, at(plane, 2 * number * QUADS + 4 * lane));
                    let second = at(plane, (2 * number + 1) * QUADS + 4 * lane);
                    async_copy::<4>(to + 16 * (lane + LANES as u32), second);
                    (plane, to) = (plane + 4 * turns * QUADS, to + 8 * QUADS);
                }
                if bits & 4 != 0 {
                    async_copy::<4>(to + 16 * lane, at(plane, number * QUADS + 4 * lane));
                    (plane, to) = (plane + 2 * turns * QUADS, to + 4 * QUADS);
                }
                if bits & 2 != 0 {
                    let word = number / 2 * QUADS + 4 * lane + number % 2 * 2;
                    async_copy::<2>(to + 8 * lane, at(plane, word));
                    (plane, to) = (plane + turns * QUADS, to + 2 * QUADS);
                }
                if bits & 1 != 0 {
                    // Two words a turn: the last quad may be half of one.
                    let stride = (2 * turns - number / 4 * 4).min(4);
                    let word = number / 4 * QUADS + stride * lane + number % 4;
                    async_copy::<1>(to + 4 * lane, at(plane, word));
                }
            }
        }
        async_copy_commit();
    }

    /// Waits for the stage of half turn `number`, which must have been filled, and after it no more than
    /// [`AHEAD`] others. Returns its raw words, and its activations if they come this way.
    #[inline(always)]
    pub fn read(self, number: u32) -> (RawWords, [[u32; 4]; B]) {
        const QUADS: u32 = 4 * LANES as u32;
        async_copy_wait_but::<AHEAD>();
        let (bits, lane, mut from) = (self.raw_bits, lane() as u32, self.stage(number));
        let mut words = RawWords::default();
        let mut x = [[0; 4]; B];
        if ring_has_activations(B, bits) {
            let first = from + ring_raw_bytes(bits) as u32 + 16 * lane;
            unrolled::<B>(
                #[inline(always)]
                |tile| {
                    // SAFETY: this lane has copied them there, and has waited for them.
                    x[tile] = unsafe { load_shared_words(first + (16 * LANES * tile) as u32) };
                },
            );
        }
        // SAFETY: this lane has copied the words there, and has waited for them.
        unsafe {
            if bits & 8 != 0 {
                words.eight[0] = load_shared_words(from + 16 * lane);
                words.eight[1] = load_shared_words(from + 16 * (lane + LANES as u32));
                from += 8 * QUADS;
            }
            if bits & 4 != 0 {
                words.four = load_shared_words(from + 16 * lane);
                from += 4 * QUADS;
            }
            if bits & 2 != 0 {
                words.two = load_shared_words(from + 8 * lane);
                from += 2 * QUADS;
            }
            if bits & 1 != 0 {
                [words.one] = load_shared_words(from + 4 * lane);
            }
        }
        (words, x)
    }
}
