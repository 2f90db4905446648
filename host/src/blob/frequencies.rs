//! The frequency table of a matrix, and the decode and encode tables that follow from it.

use fused_rans_layout::{
    Entry, ExponentEntry, FourWeightEntry, PROB_BITS, SYMBOLS, Split, TABLE, WeightsPerSymbol,
};

/// Number of final states that an encoder tries for the last symbol of a stream.
pub(crate) const FINAL_STATES: usize = 8;
/// Number of symbols before the last one by which it compares these states.
pub(crate) const FINAL_STATE_SYMBOLS: usize = 2;

/// Frequencies of the 256 symbols. Their sum is [`TABLE`]. Stored as 256 x `u16` = 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies([u16; SYMBOLS]);

impl Frequencies {
    /// Quantizes the counts of symbols to frequencies: at least 1 for every symbol that occurs, and otherwise those
    /// that give the smallest coded size. Uses integer arithmetic, so that every machine computes the same table.
    /// Returns `None` if no symbol occurs.
    #[must_use]
    pub fn from_counts(counts: &[u64; SYMBOLS]) -> Option<Self> {
        let total: u128 = counts.iter().map(|&c| u128::from(c)).sum();
        if total == 0 {
            return None;
        }
        let mut freqs = counts.map(|count| {
            let share = (u128::from(count) * TABLE as u128 / total) as u64;
            share.max(u64::from(count > 0))
        });
        // One more slot for a symbol saves count * log2((f + 1) / f), about count / (f + 1/2) bits.
        let per_slot = |count: u64, twice_f: u64| (u128::from(count) << 32) / u128::from(twice_f);
        while freqs.iter().sum::<u64>() < TABLE as u64 {
            let best = (0..SYMBOLS)
                .max_by_key(|&s| (per_slot(counts[s], 2 * freqs[s] + 1), core::cmp::Reverse(s)));
            freqs[best.expect("there are symbols")] += 1;
        }
        while freqs.iter().sum::<u64>() > TABLE as u64 {
            let cheapest = (0..SYMBOLS)
                .filter(|&s| freqs[s] > 1)
                .min_by_key(|&s| (per_slot(counts[s], 2 * freqs[s] - 1), s));
            freqs[cheapest.expect("256 symbols cannot fill 4096 slots with one each")] -= 1;
        }
        Some(Self(freqs.map(|f| f as u16)))
    }

    /// Takes stored frequencies. Returns `None` unless their sum is [`TABLE`].
    #[must_use]
    pub fn from_stored(freqs: [u16; SYMBOLS]) -> Option<Self> {
        let sum: u32 = freqs.iter().map(|&f| u32::from(f)).sum();
        (sum == TABLE as u32).then_some(Self(freqs))
    }

    /// Returns the frequency of each symbol.
    #[must_use]
    pub fn as_array(&self) -> &[u16; SYMBOLS] {
        &self.0
    }

    /// Returns the largest frequency.
    #[must_use]
    pub fn max(&self) -> u16 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// Assigns the slots of the decode table to symbols. Returns the symbol of each slot.
    ///
    /// The ideal position of occurrence k of a symbol of frequency f is (k + 1/2) / f of the table. The slots go to the
    /// occurrences in the order of `floor((2k + 1) * 2^31 / f)`, to lower symbols first where that is equal. Symbols of
    /// frequency 1 come last: most occur less often than 1 in 4096, and the last slots are visited half as often as the
    /// first ones.
    #[must_use]
    pub fn spread(&self) -> Vec<u8> {
        let mut slots: Vec<(u64, u8)> = Vec::with_capacity(TABLE);
        for (symbol, &f) in (0..=u8::MAX).zip(&self.0) {
            let f = u64::from(f);
            let key = |k| if f == 1 { u64::MAX } else { ((2 * k + 1) << 31) / f };
            slots.extend((0..f).map(|k| (key(k), symbol)));
        }
        slots.sort_unstable();
        slots.into_iter().map(|(_, symbol)| symbol).collect()
    }

    /// Returns the decode table: the entry of each slot.
    #[must_use]
    pub fn decode_table(&self) -> Box<[Entry; TABLE]> {
        let mut next_sub_state = self.0.map(u32::from);
        let mut table = Box::new([Entry(0); TABLE]);
        for (entry, symbol) in table.iter_mut().zip(self.spread()) {
            let sub_state = &mut next_sub_state[usize::from(symbol)];
            *entry = Entry::new(symbol, *sub_state);
            *sub_state += 1;
        }
        table
    }

    /// Returns the decode table with exponents in place, which makes fused kernels faster; `None` if the split has no
    /// such entries, or a frequency is too large for them. Use [`Frequencies::kernel_table`] then.
    #[must_use]
    pub fn exponent_table(&self, split: Split) -> Option<Vec<u32>> {
        if self.max() > ExponentEntry::MAX_FREQUENCY
            || split.weights_per_symbol() != WeightsPerSymbol::Two
        {
            return None;
        }
        let with_exponents = |entry: &Entry| {
            let symbol = entry.symbol();
            let exponents =
                [split.exponent_in_place(symbol & 15)?, split.exponent_in_place(symbol >> 4)?];
            Some(ExponentEntry::new(*entry, exponents).0)
        };
        self.decode_table().iter().map(with_exponents).collect()
    }

    /// Returns the decode table of the kernels, without exponents in place: see [`Frequencies::exponent_table`].
    ///
    /// # Panics
    /// If a frequency is too large for symbols of four weights. The frequencies of a parsed blob never are.
    #[must_use]
    pub fn kernel_table(&self, split: Split) -> Vec<u32> {
        let entry = |&entry: &Entry| match split.weights_per_symbol() {
            WeightsPerSymbol::Two => entry.0,
            WeightsPerSymbol::Four => FourWeightEntry::new(entry).0,
        };
        self.decode_table().iter().map(entry).collect()
    }

    /// Returns the encode table.
    #[must_use]
    pub(crate) fn encode_table(&self) -> EncodeTable {
        let mut start = 0;
        let symbols = self.0.map(|f| {
            let step = EncodeStep::new(u32::from(f), start);
            start += u32::from(f);
            step
        });
        let mut next = symbols.map(|step| step.first);
        let mut states = Box::new([0; TABLE]);
        for (slot, symbol) in self.spread().into_iter().enumerate() {
            let next = &mut next[usize::from(symbol)];
            states[*next as usize] = (TABLE + slot) as u16;
            *next += 1;
        }
        let final_states = symbols.iter().zip(next).map(|(step, end)| {
            let mut own = states[step.first as usize..end as usize].to_vec();
            own.sort_by_key(|state| core::cmp::Reverse(state.trailing_zeros()));
            core::array::from_fn(|i| own.get(i).or(own.first()).copied().unwrap_or(0))
        });
        EncodeTable { final_states: final_states.collect(), symbols, states }
    }
}

/// Constants of an encode step of one symbol.
#[derive(Clone, Copy, Debug)]
struct EncodeStep {
    /// `(state + bits_bias) >> 16` is the number of bits to write. It brings the sub-state `state >> bits` into `[f,
    /// 2f)`.
    bits_bias: u32,
    /// The state after sub-state x is `states[x + states_bias]`.
    states_bias: i32,
    /// Index of the first state of the symbol: `states[first]` follows sub-state f.
    first: u32,
}

impl EncodeStep {
    /// Computes the constants of a symbol of frequency `f` whose states start at index `first`.
    fn new(f: u32, first: u32) -> Self {
        // With b = PROB_BITS - floor(log2 f), a state of at least f << b writes b bits. A lower one writes b - 1: the
        // bias borrows one from the upper half.
        let bits = PROB_BITS - f.max(1).ilog2();
        Self {
            bits_bias: (bits << 16).wrapping_sub(f << bits),
            states_bias: first as i32 - f as i32,
            first,
        }
    }
}

/// Encode table.
#[derive(Clone, Debug)]
pub(crate) struct EncodeTable {
    symbols: [EncodeStep; SYMBOLS],
    /// States, symbol by symbol, ascending for each symbol.
    states: Box<[u16; TABLE]>,
    /// Final states of each symbol: see [`EncodeTable::final_states`].
    final_states: Vec<[u16; FINAL_STATES]>,
}

impl EncodeTable {
    /// Returns candidates for the state at the last symbol of a stream. Every state of the symbol decodes to it, and
    /// none costs a bit. The candidates are those with the most trailing zeros, lower states first, because zeros at
    /// the end of a stream are not stored. A symbol with fewer states repeats the first one.
    #[inline(always)]
    #[must_use]
    pub fn final_states(&self, symbol: u8) -> [u32; FINAL_STATES] {
        self.final_states[usize::from(symbol)].map(u32::from)
    }

    /// Encodes `symbol` in front of the symbols that `state` decodes to. Returns the new state and the number of bits
    /// to write, which are the low bits of the old state. The symbol must have a frequency above 0.
    #[inline(always)]
    #[must_use]
    pub fn step(&self, state: u32, symbol: u8) -> (u32, u32) {
        let step = self.symbols[usize::from(symbol)];
        let bits = state.wrapping_add(step.bits_bias) >> 16;
        let index = ((state >> bits) as i32 + step.states_bias) as usize;
        (u32::from(self.states[index % TABLE]), bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks for every state and symbol that decoding inverts encoding.
    fn assert_inverse(freqs: &Frequencies) {
        let (decode, encode) = (freqs.decode_table(), freqs.encode_table());
        for symbol in (0..=u8::MAX).filter(|&s| freqs.0[usize::from(s)] > 0) {
            for state in TABLE as u32..2 * TABLE as u32 {
                let (next, bits) = encode.step(state, symbol);
                let entry = decode[next as usize - TABLE];
                assert_eq!((entry.symbol(), entry.bits()), (symbol, bits));
                let written = state & ((1 << bits) - 1);
                assert_eq!(entry.sub() << bits | written, state - TABLE as u32);
            }
            for state in encode.final_states(symbol) {
                assert_eq!(decode[state as usize - TABLE].symbol(), symbol);
            }
        }
    }

    #[test]
    fn extreme_frequencies_decode_what_they_encode() {
        for f in [1, 2047, 2048, 2049, 4095, 4096] {
            let mut freqs = [0; SYMBOLS];
            freqs[7] = f;
            freqs[200] = TABLE as u16 - f;
            assert_inverse(&Frequencies::from_stored(freqs).unwrap());
        }
        assert_inverse(&Frequencies::from_stored([16; SYMBOLS]).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn any_counts_give_a_table(counts in prop::array::uniform32(0u64..=u64::MAX / 256)) {
            let mut all = [0; SYMBOLS];
            for (i, count) in counts.into_iter().enumerate() {
                all[i * 7 % SYMBOLS] = count >> (i * 2);
            }
            all[255] = 1;
            let freqs = Frequencies::from_counts(&all).unwrap();
            for (&count, &f) in all.iter().zip(freqs.as_array()) {
                prop_assert_eq!(count > 0, f > 0);
            }
            assert_inverse(&freqs);
        }
    }

    #[test]
    fn no_symbols_have_no_table_and_wrong_sums_are_refused() {
        assert!(Frequencies::from_counts(&[0; SYMBOLS]).is_none());
        assert!(Frequencies::from_stored([15; SYMBOLS]).is_none());
        assert!(Frequencies::from_stored([u16::MAX; SYMBOLS]).is_none());
    }
}
