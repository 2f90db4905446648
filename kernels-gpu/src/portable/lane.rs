//! The decode step of a lane's rANS stream.

use crate::portable::slab::SlabMemory;
use crate::portable::twins::funnel_shift_left;
use crate::unrolled;
use fused_rans_layout::{PROB_BITS, TableKind};

/// The words that a lane reads bits from.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The word that has the current bit position, and the word after it.
    pub window: [u32; 2],
    /// Address or index of the word after the window; the [`SlabMemory`] defines which.
    pub next: u32,
}

/// The state of a lane's decoder.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Index into the table, in `[0, TABLE)` by construction of the entries.
    index: u32,
    /// The bit position modulo 128, in the low 7 bits. Whole table entries are added to it, so the higher bits are
    /// garbage, which nothing reads.
    position: u32,
    words: Words,
}

impl Lane {
    /// Returns the state at the start of the stream, whose first bits are the first index.
    #[inline(always)]
    pub fn new(memory: &impl SlabMemory) -> Self {
        let words = memory.first_words();
        Self { index: words.window[0] >> (32 - PROB_BITS), position: PROB_BITS, words }
    }

    /// Returns the words that it reads from.
    #[inline(always)]
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Decodes a fragment. Returns the entries of its symbols: four, or with four weights per symbol, two and zeros.
    #[inline(always)]
    pub fn fragment(&mut self, memory: &impl SlabMemory, table: TableKind) -> [u32; 4] {
        let (stream, memory) = (core::array::from_mut(self), core::array::from_ref(memory));
        let [entries] = Self::fragments(stream, memory, table);
        entries
    }

    /// Decodes a fragment of each of `S` streams, alternating between them.
    #[inline(always)]
    pub fn fragments<const S: usize>(
        streams: &mut [Self; S],
        memory: &[impl SlabMemory; S],
        table: TableKind,
    ) -> [[u32; 4]; S] {
        let mut entries = [[0; 4]; S];
        let first = Self::pairs(streams, memory, table);
        let second = match table {
            TableKind::Plain | TableKind::Exponent => Self::pairs(streams, memory, table),
            TableKind::FourWeight => [[0; 2]; S],
        };
        unrolled::<S>(
            #[inline(always)]
            |s| entries[s] = [first[s][0], first[s][1], second[s][0], second[s][1]],
        );
        entries
    }

    /// Decodes the next two symbols of each of `S` streams. Each step is done for all streams, so that one waits for its
    /// table entry while another one computes.
    #[inline(always)]
    fn pairs<const S: usize>(
        streams: &mut [Self; S],
        memory: &[impl SlabMemory; S],
        table: TableKind,
    ) -> [[u32; 2]; S] {
        let shift = table.sub_shift();
        let mut windows = [0; S];
        let mut entries = [[0; 2]; S];
        unrolled::<S>(
            #[inline(always)]
            |s| {
                // Each symbol takes at most 12 bits: one window of 32 bits is enough for both.
                let [first, second] = streams[s].words.window;
                windows[s] = funnel_shift_left(first, second, streams[s].position);
                entries[s][0] = memory[s].entry(streams[s].index);
            },
        );
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let first = entries[s][0];
                let index = funnel_shift_left(first >> shift, windows[s], first);
                windows[s] = funnel_shift_left(windows[s], 0, first);
                entries[s][1] = memory[s].entry(index);
            },
        );
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let ([first, second], stream) = (entries[s], &mut streams[s]);
                stream.index = funnel_shift_left(second >> shift, windows[s], second);
                let position = stream.position.wrapping_add(first).wrapping_add(second);
                memory[s].advance((position ^ stream.position) & 32, &mut stream.words);
                stream.position = position;
            },
        );
        entries
    }
}
