//! One stream: symbols to words, and words to symbols, one bit at a time.

use crate::Frequencies;
use crate::blob::frequencies::{FINAL_STATE_SYMBOLS, FINAL_STATES};
use core::cmp::Reverse;
use fused_rans_layout::{Entry, PROB_BITS, TABLE};

/// Returns the states of each symbol, ascending: sub-state f + k leads to state number k.
pub(super) fn symbol_states(frequencies: &Frequencies) -> Vec<Vec<usize>> {
    let spread = frequencies.spread();
    let states = |symbol: u8| {
        let slots = (0..TABLE).filter(|&slot| spread[slot] == symbol);
        slots.map(|slot| TABLE + slot).collect()
    };
    (0..=u8::MAX).map(states).collect()
}

/// Encodes the symbols of a stream. Returns its words: the initial index, then the bits of each symbol, the first bit
/// highest.
pub(super) fn encode_stream(states: &[Vec<usize>], symbols: &[u8]) -> Vec<u32> {
    let (&last, others) = symbols.split_last().expect("a slab has symbols");
    // The candidates are the states of the last symbol with the most trailing zeros.
    let mut candidates = states[usize::from(last)].clone();
    candidates.sort_by_key(|state| Reverse(state.trailing_zeros()));
    candidates.truncate(FINAL_STATES);
    // The first one with the fewest bits before the zeros at the end of the stream wins.
    let nearest = &others[others.len().saturating_sub(FINAL_STATE_SYMBOLS)..];
    let bits_before_zeros = |&state: &usize| {
        let (_, bits) = encode_symbols(states, nearest, state);
        bits.len() - bits.iter().take_while(|&&bit| bit == 0).count()
    };
    let end = candidates.into_iter().min_by_key(bits_before_zeros).expect("the symbol occurs");
    let (state, mut bits) = encode_symbols(states, others, end);
    bits.extend((0..PROB_BITS).map(|bit| (state - TABLE) >> bit & 1));
    bits.reverse();
    let word = |bits: &[usize]| {
        (0..32).fold(0, |word, i| word << 1 | bits.get(i).copied().unwrap_or(0) as u32)
    };
    bits.chunks(32).map(word).collect()
}

/// Encodes `symbols` in front of `state`. Returns the state before them, and their bits, the last one first.
fn encode_symbols(states: &[Vec<usize>], symbols: &[u8], mut state: usize) -> (usize, Vec<usize>) {
    let mut bits = Vec::new();
    for &symbol in symbols.iter().rev() {
        let states = &states[usize::from(symbol)];
        while state >= 2 * states.len() {
            bits.push(state & 1);
            state >>= 1;
        }
        state = states[state - states.len()];
    }
    (state, bits)
}

/// Decodes `count` symbols of a stream; `None` if they take more bits than `words` holds.
pub(crate) fn decode_stream(
    table: &[Entry; TABLE],
    words: &[u32],
    count: usize,
) -> Option<Vec<u8>> {
    let mut bits = words.iter().flat_map(|word| (0..32).rev().map(move |bit| word >> bit & 1));
    let mut take = |n: u32| (0..n).try_fold(0, |v, _| Some(v << 1 | bits.next()?));
    let mut entry = table[take(PROB_BITS)? as usize];
    let mut symbols = vec![entry.symbol()];
    // The bits of the last symbol are not stored: no state follows it.
    for _ in 1..count {
        entry = table[(entry.sub() << entry.bits() | take(entry.bits())?) as usize];
        symbols.push(entry.symbol());
    }
    Some(symbols)
}
