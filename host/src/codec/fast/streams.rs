//! Coding of the 32 streams of a slab, side by side.

use crate::blob::frequencies::{EncodeTable, FINAL_STATE_SYMBOLS};
use crate::blob::tile::WordRows;
use fused_rans_layout::{Entry, LANES, PROB_BITS, TABLE};

/// Encodes one stream per lane into `rows`. Returns the lengths of the streams in words.
///
/// Encoding runs from the last symbol to the first, so the last bits of a stream come first. Each lane collects them as
/// one long number, lowest word first. When its length is known, [`Writer::finish`] aligns it to the first word.
#[inline(always)]
pub fn encode(table: &EncodeTable, symbols: &[[u8; LANES]], rows: &mut WordRows) -> [usize; LANES] {
    let Some((last, others)) = symbols.split_last() else { return [0; LANES] };
    let mut words: WordRows = [[0; LANES]; 64];
    let mut lanes = [Writer::default(); LANES];
    for (lane, writer) in lanes.iter_mut().enumerate() {
        let before = others.iter().rev().take(FINAL_STATE_SYMBOLS).map(|symbols| symbols[lane]);
        writer.state = best_final_state(table, last[lane], before);
    }
    // Two symbols write at most 24 bits, so `pending` never holds more than 31 + 24.
    for pair in others.rchunks(2) {
        for (lane, writer) in lanes.iter_mut().enumerate() {
            for symbols in pair.iter().rev() {
                let (state, bits) = table.step(writer.state, symbols[lane]);
                writer.put(writer.state & ((1 << bits) - 1), bits);
                writer.state = state;
            }
            writer.flush(&mut words, lane);
        }
    }
    *rows = [[0; LANES]; 64];
    core::array::from_fn(|lane| {
        let mut writer = lanes[lane];
        writer.put(writer.state - TABLE as u32, PROB_BITS);
        writer.finish(&words, rows, lane)
    })
}

/// Chooses the final state that leaves the fewest bits before the zeros at the end of the stream, judged by the symbols
/// `before` the last one, nearest first.
#[inline(always)]
fn best_final_state(
    table: &EncodeTable,
    last: u8,
    before: impl Iterator<Item = u8> + Clone,
) -> u32 {
    let (mut fewest, mut best) = (u32::MAX, 0);
    for candidate in table.final_states(last) {
        let (mut state, mut number, mut bits) = (candidate, 0, 0);
        for symbol in before.clone() {
            let (next, more) = table.step(state, symbol);
            number |= (state & ((1 << more) - 1)) << bits;
            (state, bits) = (next, bits + more);
        }
        let bits_before_zeros = bits - number.trailing_zeros().min(bits);
        if bits_before_zeros < fewest {
            (fewest, best) = (bits_before_zeros, candidate);
        }
    }
    best
}

/// Encoder state of one lane.
#[derive(Clone, Copy, Default)]
struct Writer {
    state: u32,
    /// Number of valid bits of `pending`.
    pending_bits: u32,
    /// Bits that do not fill a word yet.
    pending: u64,
    /// Number of complete words.
    words: usize,
}

impl Writer {
    /// Appends the low `bits` bits of `value`, whose other bits must be 0.
    #[inline(always)]
    fn put(&mut self, value: u32, bits: u32) {
        self.pending |= u64::from(value) << self.pending_bits;
        self.pending_bits += bits;
    }

    /// Writes the lowest pending word, and advances if it is complete. The next call overwrites an incomplete word.
    #[inline(always)]
    fn flush(&mut self, words: &mut WordRows, lane: usize) {
        words[self.words % 64][lane] = self.pending as u32;
        let complete = self.pending_bits / 32;
        self.words += complete as usize;
        self.pending >>= 32 * complete;
        self.pending_bits %= 32;
    }

    /// Converts the words of the number, lowest first, to the words of the stream: the first bit highest, zeros after
    /// the last bit. Returns the number of words.
    #[inline(always)]
    fn finish(mut self, words: &WordRows, rows: &mut WordRows, lane: usize) -> usize {
        let word = |index: usize, writer: &Self| match index.checked_sub(writer.words) {
            None => words[index % 64][lane],
            Some(0) => writer.pending as u32,
            Some(_) => (writer.pending >> 32) as u32,
        };
        let total = 32 * self.words + self.pending_bits as usize;
        let count = total.div_ceil(32);
        let padding = 32 * count - total;
        self.pending &= (1 << self.pending_bits) - 1;
        for (row, index) in rows[..count].iter_mut().zip((0..count).rev()) {
            let below = if index == 0 { 0 } else { word(index - 1, &self) };
            let both = u64::from(word(index, &self)) << 32 | u64::from(below);
            row[lane] = (both << padding >> 32) as u32;
        }
        count
    }
}

/// Decodes one stream per lane from `rows`. Returns the number of words of the longest one.
#[inline(always)]
pub fn decode(table: &[Entry; TABLE], rows: &WordRows, symbols: &mut [[u8; LANES]]) -> u32 {
    let words: &[u32; 64 * LANES] = rows.as_flattened().try_into().expect("64 rows");
    let mut index = rows[0].map(|word| word >> (32 - PROB_BITS));
    let mut position = [PROB_BITS; LANES];
    let Some((last, others)) = symbols.as_chunks_mut().0.split_last_mut() else { return 0 };
    for pair in others {
        decode_pair(table, words, &mut index, &mut position, pair);
    }
    // The bits of the last symbol are not stored, so the stream ends before them.
    let end = |lane: usize| position[lane] + table[index[lane] as usize % TABLE].bits();
    let longest = (0..LANES).map(end).fold(0, u32::max);
    decode_pair(table, words, &mut index, &mut position, last);
    longest.div_ceil(32)
}

/// Decodes two symbols of each stream.
///
/// The loop over the lanes has no branches and only 32-bit values, so that it vectorizes on machines with gather
/// instructions.
#[inline(always)]
fn decode_pair(
    table: &[Entry; TABLE],
    words: &[u32; 64 * LANES],
    index: &mut [u32; LANES],
    position: &mut [u32; LANES],
    pair: &mut [[u8; LANES]; 2],
) {
    for lane in 0..LANES {
        // Two symbols take at most 24 bits, so one window of 32 serves both.
        let row = position[lane] as usize / 32;
        let high = words[(row * LANES + lane) % words.len()];
        let low = words[((row + 1) * LANES + lane) % words.len()];
        let window = funnel_shift_left(high, low, position[lane] % 32);
        let first = table[index[lane] as usize % TABLE];
        let next_index = funnel_shift_left(first.sub(), window, first.bits());
        let window = window << first.bits();
        let second = table[next_index as usize % TABLE];
        index[lane] = funnel_shift_left(second.sub(), window, second.bits());
        position[lane] += first.bits() + second.bits();
        pair[0][lane] = first.symbol();
        pair[1][lane] = second.symbol();
    }
}

/// Returns the upper word of `high:low << bits`, for `bits` below 32.
#[inline(always)]
fn funnel_shift_left(high: u32, low: u32, bits: u32) -> u32 {
    // Shifts twice, because `low >> 32` would overflow if `bits` is 0.
    high << bits | low >> 1 >> (31 - bits)
}
