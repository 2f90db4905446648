//! The decode step.

use crate::ptx::funnel_shift_left;
use crate::slab::SlabMemory;
use fused_rans_layout::{Entry, PROB_BITS, WideEntry};

/// The words that a lane reads from.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The word that the position stands in, and the one after it.
    pub window: [u32; 2],
    /// Where the word to come is; what that means is up to the [`SlabMemory`].
    pub next: u32,
}

/// A lane's place in its stream.
///
/// `position` is the bit position modulo 128 in its low 7 bits; above them it gathers what whole
/// table entries leave there when they are added, which nothing reads.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Index into the table, in `[0, TABLE)` by construction of the entries.
    index: u32,
    position: u32,
    words: Words,
}

impl Lane {
    /// The start of the stream: its first bits are the first index.
    #[inline(always)]
    pub fn new(memory: &impl SlabMemory) -> Self {
        let words = memory.first_words();
        Self { index: words.window[0] >> (32 - PROB_BITS), position: PROB_BITS, words }
    }

    /// The entries of the next two symbols. `WIDE`: the table's are [`WideEntry`]s.
    #[inline(always)]
    pub fn pair<const WIDE: bool>(&mut self, memory: &impl SlabMemory) -> [u32; 2] {
        let shift = if WIDE { WideEntry::SUB_SHIFT } else { Entry::SUB_SHIFT };
        // At most 12 bits each: one window of 32 bits serves both.
        let [first, second] = self.words.window;
        let window = funnel_shift_left(first, second, self.position);
        let first = memory.entry(self.index);
        let index = funnel_shift_left(first >> shift, window, first);
        let window = funnel_shift_left(window, 0, first);
        let second = memory.entry(index);
        self.index = funnel_shift_left(second >> shift, window, second);

        let position = self.position.wrapping_add(first).wrapping_add(second);
        memory.advance((position ^ self.position) & 32, &mut self.words);
        self.position = position;
        [first, second]
    }
}
