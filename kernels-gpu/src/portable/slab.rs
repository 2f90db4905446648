//! Decodes a lane's part of a slab.

use crate::{Lane, RawWords, WeightFormat, Words};
use fused_rans_layout::{LANES, Plane, SlabShape, TABLE};

/// The memory that a lane decodes from: table, words and raw bits. Shared and global memory on the device, slices on the
/// CPU.
pub trait SlabMemory {
    /// Loads the decode table's entry at `index`, which is below `TABLE`.
    fn entry(&self, index: u32) -> u32;
    /// Loads the lane's first words.
    fn first_words(&self) -> Words;
    /// Moves the window on by one word if `step` is not 0. Without a branch, because the lanes of a warp take words at
    /// different times and must stay together.
    fn advance(&self, step: u32, words: &mut Words);
    /// Loads `N` words of the slab's raw planes, from word `at` on, a multiple of `N`.
    fn raw<const N: usize>(&self, at: usize) -> [u32; N];
}

/// Decodes a lane's part of a slab, and calls `emit` with each fragment's strip, step and A registers.
#[inline(always)]
pub fn decode_slab(
    memory: &impl SlabMemory,
    lane: usize,
    shape: SlabShape,
    format: WeightFormat,
    mut emit: impl FnMut(usize, usize, [u32; 4]),
) {
    let mut stream = Lane::new(memory);
    for first in (0..shape.fragments()).step_by(4) {
        let raw = load_raw(memory, lane, shape, format.raw_bits(), first);
        decode_fragment::<0>(memory, &mut stream, shape, format, first, &raw, &mut emit);
        decode_fragment::<1>(memory, &mut stream, shape, format, first, &raw, &mut emit);
        decode_fragment::<2>(memory, &mut stream, shape, format, first, &raw, &mut emit);
        decode_fragment::<3>(memory, &mut stream, shape, format, first, &raw, &mut emit);
    }
}

/// Decodes fragment `first + I`, if it exists. `I` is a constant, so that `raw` stays in registers.
#[inline(always)]
fn decode_fragment<const I: usize>(
    memory: &impl SlabMemory,
    stream: &mut Lane,
    shape: SlabShape,
    format: WeightFormat,
    first: usize,
    raw: &RawWords,
    emit: &mut impl FnMut(usize, usize, [u32; 4]),
) {
    let fragment = first + I;
    if fragment < shape.fragments() {
        let registers = format.registers(stream.fragment(memory, format.table()), raw, I);
        // There are one or two strips, so a shift and a mask divide by their number.
        emit(fragment & (shape.strips - 1), fragment >> (shape.strips - 1), registers);
    }
}

/// Loads the raw words of fragments `first` to `first + 3`.
#[inline(always)]
pub(crate) fn load_raw(
    memory: &impl SlabMemory,
    lane: usize,
    shape: SlabShape,
    raw_bits: u32,
    first: usize,
) -> RawWords {
    let mut words = RawWords::default();
    let [eight, four, two, one] = planes(memory, lane, shape, raw_bits);
    if raw_bits & 8 != 0 {
        words.eight[0] = eight.load(2 * first);
        if first + 2 < shape.fragments() {
            words.eight[1] = eight.load(2 * first + 4);
        }
    }
    if raw_bits & 4 != 0 {
        words.four = four.load(first);
    }
    if raw_bits & 2 != 0 {
        words.two = two.load(first / 2);
    }
    if raw_bits & 1 != 0 {
        [words.one] = one.load(first / 4);
    }
    words
}

/// Loads the raw words of one fragment, as the first of the four fragments of a [`RawWords`].
#[inline(always)]
#[cfg_attr(not(target_arch = "nvptx64"), allow(dead_code, reason = "for the kernels' slow path"))]
pub(crate) fn load_raw_of_fragment(
    memory: &impl SlabMemory,
    lane: usize,
    shape: SlabShape,
    raw_bits: u32,
    fragment: usize,
) -> RawWords {
    let mut words = RawWords::default();
    let [eight, four, two, one] = planes(memory, lane, shape, raw_bits);
    if raw_bits & 8 != 0 {
        let [a, b] = eight.load(2 * fragment);
        words.eight[0] = [a, b, 0, 0];
    }
    if raw_bits & 4 != 0 {
        [words.four[0]] = four.load(fragment);
    }
    if raw_bits & 2 != 0 {
        let [word] = two.load(fragment / 2);
        words.two[0] = word >> (8 * (fragment % 2));
    }
    if raw_bits & 1 != 0 {
        let [word] = one.load(fragment / 4);
        words.one = word >> (4 * (fragment % 4));
    }
    words
}

/// Returns the lane's words of the planes of 8, 4, 2 and 1 bits. Planes that the format lacks take no room.
#[inline(always)]
fn planes<M: SlabMemory>(
    memory: &M,
    lane: usize,
    shape: SlabShape,
    raw_bits: u32,
) -> [PlaneWords<'_, M>; 4] {
    let mut start = 0;
    [8, 4, 2, 1].map(|width| {
        let words = Plane { width, shift: 0 }.words(shape);
        let plane = PlaneWords { memory, start, words, lane };
        if raw_bits & width != 0 {
            start += words * LANES;
        }
        plane
    })
}

/// A lane's words of one plane.
struct PlaneWords<'a, M> {
    memory: &'a M,
    start: usize,
    words: usize,
    lane: usize,
}

impl<M: SlabMemory> PlaneWords<'_, M> {
    /// Loads `N` words from `word` on, a multiple of `N`. Words that the plane lacks are 0.
    #[inline(always)]
    fn load<const N: usize>(&self, word: usize) -> [u32; N] {
        let quad = word / 4 * 4;
        if quad + 4 <= self.words {
            return self.memory.raw(self.start + quad * LANES + 4 * self.lane + word % 4);
        }
        let mut words = [0; N];
        for (i, place) in words.iter_mut().enumerate() {
            if word + i < self.words {
                let at = Plane::word_offset(self.words, self.lane, word + i);
                [*place] = self.memory.raw(self.start + at);
            }
        }
        words
    }
}

/// A lane's memory on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct SliceMemory<'a> {
    /// The decode table.
    pub table: &'a [u32; TABLE],
    /// The slab's rows of words, with zeros for lanes that a row leaves out.
    pub rows: &'a [[u32; LANES]],
    /// Number of the lane.
    pub lane: usize,
    /// The slab's raw planes.
    pub raw: &'a [u32],
}

impl SliceMemory<'_> {
    /// Returns the lane's word in row `row`; 0 beyond the slab's rows.
    fn word(&self, row: u32) -> u32 {
        self.rows.get(row as usize).map_or(0, |row| row[self.lane])
    }
}

impl SlabMemory for SliceMemory<'_> {
    fn entry(&self, index: u32) -> u32 {
        self.table[index as usize]
    }

    fn first_words(&self) -> Words {
        Words { window: [self.word(0), self.word(1)], next: 2 }
    }

    fn advance(&self, step: u32, words: &mut Words) {
        if step != 0 {
            words.window = [words.window[1], self.word(words.next)];
            words.next += 1;
        }
    }

    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        assert!(at.is_multiple_of(N), "a load of {N} words must be aligned");
        core::array::from_fn(|i| self.raw[at + i])
    }
}
