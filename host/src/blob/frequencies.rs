//! The frequency table of a matrix, and the coding tables made from it.

use fused_rans_layout::{
    Entry, ExponentEntry, FourWeightEntry, PROB_BITS, SYMBOLS, Split, TABLE, WeightsPerSymbol,
};

/// Slots of a stream's last symbol that an encoder tries.
pub(crate) const ENDS: usize = 8;
/// Symbols before the last by which it judges them, if there are so many.
pub(crate) const END_SYMBOLS: usize = 2;

/// Frequencies of the 256 symbols, which sum to [`TABLE`]. Stored as 256 x `u16` = 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies([u16; SYMBOLS]);

impl Frequencies {
    /// Frequencies for symbols that occur `counts` times: at least 1 for every symbol that occurs,
    /// the rest given so that the coded size grows least. Integers only, so that every machine
    /// makes the same table. `None` if nothing occurs.
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

    /// The stored frequencies, if they sum to [`TABLE`].
    #[must_use]
    pub fn from_stored(freqs: [u16; SYMBOLS]) -> Option<Self> {
        let sum: u32 = freqs.iter().map(|&f| u32::from(f)).sum();
        (sum == TABLE as u32).then_some(Self(freqs))
    }

    /// Frequency of each symbol.
    #[must_use]
    pub fn as_array(&self) -> &[u16; SYMBOLS] {
        &self.0
    }

    /// The largest frequency.
    #[must_use]
    pub fn max(&self) -> u16 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// The symbol in each slot.
    ///
    /// Occurrence k of a symbol of frequency f wants to stand at (k + 1/2) / f of the table. Slots go
    /// to the occurrences in the order of `floor((2k + 1) * 2^31 / f)`, lower symbols first where
    /// that is equal; k ascends with the slot. Symbols of frequency 1 come last: most are rarer than
    /// 1 in 4096, and the slots at the end are visited half as often as those at the start.
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

    /// The decode table: the entry of each slot.
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

    /// The decode table of the fused kernels for weights that split so; `None` if their type has
    /// none, or a frequency is too large.
    #[must_use]
    pub fn exponent_table(&self, split: Split) -> Option<Vec<u32>> {
        if self.max() > ExponentEntry::MAX_FREQUENCY
            || split.weights_per_symbol() != WeightsPerSymbol::Two
        {
            return None;
        }
        let wide = |entry: &Entry| {
            let symbol = entry.symbol();
            let exponents =
                [split.exponent_in_place(symbol & 15)?, split.exponent_in_place(symbol >> 4)?];
            Some(ExponentEntry::new(*entry, exponents).0)
        };
        self.decode_table().iter().map(wide).collect()
    }

    /// The decode table of the kernels for weights that split so, but for those that have a
    /// [wide one](Frequencies::exponent_table).
    ///
    /// # Panics
    /// If a frequency is too large for symbols of four weights; a blob that was parsed has none.
    #[must_use]
    pub fn kernel_table(&self, split: Split) -> Vec<u32> {
        let entry = |&entry: &Entry| match split.weights_per_symbol() {
            WeightsPerSymbol::Two => entry.0,
            WeightsPerSymbol::Four => FourWeightEntry::new(entry).0,
        };
        self.decode_table().iter().map(entry).collect()
    }

    /// The encode table.
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
        let ends = symbols.iter().zip(next).map(|(step, end)| {
            let mut ends = states[step.first as usize..end as usize].to_vec();
            ends.sort_by_key(|state| core::cmp::Reverse(state.trailing_zeros()));
            core::array::from_fn(|i| ends.get(i).or(ends.first()).copied().unwrap_or(0))
        });
        EncodeTable { ends: ends.collect(), symbols, states }
    }
}

/// What the encoder needs of one symbol.
#[derive(Clone, Copy, Debug)]
struct EncodeStep {
    /// `(state + bits_bias) >> 16` is the number of bits to give out, so that the sub-state
    /// `state >> bits` lies in `[f, 2f)`.
    bits_bias: u32,
    /// Sub-state x leads to `states[x + states_bias]`.
    states_bias: i32,
    /// Where the symbol's states start: `states[first]` is the state of sub-state f.
    first: u32,
}

impl EncodeStep {
    fn new(f: u32, first: u32) -> Self {
        // With b = PROB_BITS - floor(log2 f), a state takes b bits if it is at least f << b, else
        // b - 1: below that, the bias borrows one from the upper half.
        let bits = PROB_BITS - f.max(1).ilog2();
        Self {
            bits_bias: (bits << 16).wrapping_sub(f << bits),
            states_bias: first as i32 - f as i32,
            first,
        }
    }
}

/// The encoder's tables.
#[derive(Clone, Debug)]
pub(crate) struct EncodeTable {
    symbols: [EncodeStep; SYMBOLS],
    /// The states of each symbol, ascending, symbol after symbol.
    states: Box<[u16; TABLE]>,
    /// See [`EncodeTable::ends`].
    ends: Vec<[u16; ENDS]>,
}

impl EncodeTable {
    /// States at the last symbol of a stream. Any of the symbol's states will do and none costs a
    /// bit; these are the ones with the most trailing zeros, the lowest of equals first, so that
    /// the stream may end in zeros, which are not stored. The first fills up for those that a rare
    /// symbol lacks.
    #[inline(always)]
    #[must_use]
    pub fn ends(&self, symbol: u8) -> [u32; ENDS] {
        self.ends[usize::from(symbol)].map(u32::from)
    }

    /// Encodes `symbol` in front of what led to `state`: (new state, bits to give out, which are the
    /// low bits of the old state). The symbol's frequency must not be 0.
    #[inline(always)]
    #[must_use]
    pub fn step(&self, state: u32, symbol: u8) -> (u32, u32) {
        let step = self.symbols[usize::from(symbol)];
        let bits = state.wrapping_add(step.bits_bias) >> 16;
        let at = ((state >> bits) as i32 + step.states_bias) as usize;
        (u32::from(self.states[at % TABLE]), bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every state and symbol: encoding, then decoding, gives both back.
    fn assert_inverse(freqs: &Frequencies) {
        let (decode, encode) = (freqs.decode_table(), freqs.encode_table());
        for symbol in (0..=u8::MAX).filter(|&s| freqs.0[usize::from(s)] > 0) {
            for state in TABLE as u32..2 * TABLE as u32 {
                let (next, bits) = encode.step(state, symbol);
                let entry = decode[next as usize - TABLE];
                assert_eq!((entry.symbol(), entry.bits()), (symbol, bits));
                let given = state & ((1 << bits) - 1);
                assert_eq!(entry.sub() << bits | given, state - TABLE as u32);
            }
            for end in encode.ends(symbol) {
                assert_eq!(decode[end as usize - TABLE].symbol(), symbol);
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
    fn nothing_has_no_table_and_wrong_sums_are_refused() {
        assert!(Frequencies::from_counts(&[0; SYMBOLS]).is_none());
        assert!(Frequencies::from_stored([15; SYMBOLS]).is_none());
        assert!(Frequencies::from_stored([u16::MAX; SYMBOLS]).is_none());
    }
}
