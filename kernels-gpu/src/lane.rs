//! The decode step.

use crate::ptx::funnel_shift_left;
use crate::slab::SlabMemory;
use fused_rans_layout::{Entry, PROB_BITS};

/// A lane's place in its stream.
///
/// `position` is the bit position modulo 128 in its low 7 bits; above them it gathers what whole
/// table entries leave there when they are added, which nothing reads.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Index into the table, in `[0, TABLE)` by construction of the entries.
    index: u32,
    position: u32,
    /// The word that `position` stands in, and the one after it.
    words: [u32; 2],
    /// The row of the word to come.
    next_row: u32,
}

impl Lane {
    /// The start of the stream: its first bits are the first index.
    #[inline(always)]
    pub fn new(memory: &impl SlabMemory) -> Self {
        let words = [memory.word(0), memory.word(1)];
        let index = words[0] >> (32 - PROB_BITS);
        Self { index, position: PROB_BITS, words, next_row: 2 }
    }

    /// The entries of the next two symbols.
    #[inline(always)]
    pub fn pair(&mut self, memory: &impl SlabMemory) -> [u32; 2] {
        // At most 12 bits each: one window of 32 bits serves both.
        let window = funnel_shift_left(self.words[0], self.words[1], self.position);
        let first = memory.entry(self.index);
        let index = funnel_shift_left(first >> Entry::SUB_SHIFT, window, first);
        let window = funnel_shift_left(window, 0, first);
        let second = memory.entry(index);
        self.index = funnel_shift_left(second >> Entry::SUB_SHIFT, window, second);

        let position = self.position.wrapping_add(first).wrapping_add(second);
        if (position ^ self.position) & 32 != 0 {
            self.words = [self.words[1], memory.word(self.next_row)];
            self.next_row += 1;
        }
        self.position = position;
        [first, second]
    }
}
