//! Entries of decode tables: one for each state, with everything that a decoder needs to go to the next state.

use crate::{PROB_BITS, TABLE};

/// `[31:20] sub-state without its leading one | [14:7] symbol | [6:5] zero | [4:0] bits to take`
///
/// Three properties make the decode step short:
/// - The next table index is `entry >> 20` shifted left by `n`, with `n` stream bits shifted in. It is in `[0, TABLE)` for
///   any bits, because the sub-state without its leading one is below `TABLE >> n`.
/// - A funnel shift takes its distance from the low 5 bits of the whole entry.
/// - Bits 6 and 5 are zero, so sums of whole entries have the bit position modulo 128 in their low 7 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub u32);

impl Entry {
    /// Position of the sub-state.
    pub const SUB_SHIFT: u32 = 20;
    /// Position of the symbol.
    pub const SYMBOL_SHIFT: u32 = 7;

    /// Returns the entry of `symbol` in sub-state `sub_state`, in `[1, 2 * TABLE)`. A symbol of frequency f has the
    /// sub-states `[f, 2f)`.
    #[must_use]
    pub const fn new(symbol: u8, sub_state: u32) -> Self {
        assert!(sub_state >= 1 && sub_state < 2 * TABLE as u32);
        let bits = PROB_BITS - sub_state.ilog2();
        let sub = sub_state - (TABLE as u32 >> bits);
        Self(sub << Self::SUB_SHIFT | (symbol as u32) << Self::SYMBOL_SHIFT | bits)
    }

    /// Returns the number of stream bits that this entry takes, at most [`PROB_BITS`].
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 & 31
    }

    /// Returns the symbol.
    #[must_use]
    pub const fn symbol(self) -> u8 {
        (self.0 >> Self::SYMBOL_SHIFT) as u8
    }

    /// Returns the sub-state without its leading one.
    #[must_use]
    pub const fn sub(self) -> u32 {
        self.0 >> Self::SUB_SHIFT
    }
}

/// An entry of the table with which the fused kernels decode BF16 and FP16 weights. In place of the coded bits of each weight
/// it has bits 14 to 7 of the weight, as far as the exponent determines them.
///
/// `[31:23] sub-state without its leading one | [22:15] exponent 1 | [14:7] exponent 0 | [6:4] zero | [3:0] bits to take`
///
/// There is no room for large sub-states, so there are no entries for frequencies above
/// [`ExponentEntry::MAX_FREQUENCY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ExponentEntry(pub u32);

impl ExponentEntry {
    /// Position of the sub-state.
    pub const SUB_SHIFT: u32 = 23;
    /// The largest frequency whose sub-states fit.
    pub const MAX_FREQUENCY: u16 = 512;

    /// Returns the entry of a symbol with these exponents, in the same state as `entry`. The symbol's frequency must be at
    /// most [`ExponentEntry::MAX_FREQUENCY`].
    #[must_use]
    pub const fn new(entry: Entry, exponents: [u8; 2]) -> Self {
        let sub = entry.sub() << Self::SUB_SHIFT;
        assert!(sub >> Self::SUB_SHIFT == entry.sub());
        Self(sub | (exponents[1] as u32) << 15 | (exponents[0] as u32) << 7 | entry.bits())
    }
}

/// An entry of the table with which kernels decode symbols of four weights. The two coded bits of each weight are where one
/// byte permutation brings them into the halves of a pair of registers.
///
/// `[31:22] sub-state without its leading one | [21:18] upper half of the symbol | [17:14] zero | [13:10] lower half |
/// [9:5] zero | [4:0] bits to take`
///
/// The lower half of the symbol has the weights of the even column, which the registers have in their low halves. The lower
/// two bits of each half are those of the first register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FourWeightEntry(pub u32);

impl FourWeightEntry {
    /// Position of the sub-state.
    pub const SUB_SHIFT: u32 = 22;
    /// The largest frequency whose sub-states fit.
    pub const MAX_FREQUENCY: u16 = 1024;

    /// Returns the entry of the same symbol in the same state as `entry`. The symbol's frequency must be at most
    /// [`FourWeightEntry::MAX_FREQUENCY`].
    #[must_use]
    pub const fn new(entry: Entry) -> Self {
        let (sub, symbol) = (entry.sub() << Self::SUB_SHIFT, entry.symbol() as u32);
        assert!(sub >> Self::SUB_SHIFT == entry.sub());
        Self(sub | symbol >> 4 << 18 | (symbol & 15) << 10 | entry.bits())
    }
}

/// Type of the entries of a decode table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// [`Entry`], for any frequencies and two weights per symbol.
    Plain,
    /// [`ExponentEntry`], for floats.
    Exponent,
    /// [`FourWeightEntry`], for four weights per symbol.
    FourWeight,
}

impl TableKind {
    /// Returns the position of the sub-state.
    #[inline(always)]
    #[must_use]
    pub const fn sub_shift(self) -> u32 {
        match self {
            Self::Plain => Entry::SUB_SHIFT,
            Self::Exponent => ExponentEntry::SUB_SHIFT,
            Self::FourWeight => FourWeightEntry::SUB_SHIFT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponent_entries_have_room_for_the_frequencies_they_promise() {
        let largest = 2 * u32::from(ExponentEntry::MAX_FREQUENCY) - 1;
        for sub_state in 1..=largest {
            let entry = Entry::new(0, sub_state);
            let exponents = ExponentEntry::new(entry, [0xAB, 0xCD]).0;
            assert_eq!((exponents >> 23, exponents & 31), (entry.sub(), entry.bits()));
            assert_eq!(
                (exponents >> 15 & 0xFF, exponents >> 7 & 0xFF, exponents >> 4 & 7),
                (0xCD, 0xAB, 0)
            );
        }
        assert_eq!(Entry::new(0, largest).sub() >> 9, 0);
    }

    #[test]
    fn four_weight_entries_have_room_for_the_frequencies_they_promise() {
        for sub_state in 1..2 * u32::from(FourWeightEntry::MAX_FREQUENCY) {
            let entry = Entry::new(0xA5, sub_state);
            let four = FourWeightEntry::new(entry).0;
            assert_eq!((four >> 22, four & 31), (entry.sub(), entry.bits()));
            assert_eq!((four >> 18 & 15, four >> 10 & 15), (0xA, 0x5));
            assert_eq!((four >> 14 & 15, four >> 5 & 31), (0, 0));
        }
    }

    #[test]
    fn the_next_index_stays_in_the_table() {
        for sub_state in 1..2 * TABLE as u32 {
            let entry = Entry::new(0xA5, sub_state);
            let largest = entry.sub() << entry.bits() | ((1 << entry.bits()) - 1);
            assert!(largest < TABLE as u32);
            assert_eq!(entry.symbol(), 0xA5);
            assert_eq!(entry.0 >> 5 & 3, 0);
            // The sub-state comes back: its leading one is bit `PROB_BITS - bits`.
            assert_eq!(entry.sub() + (TABLE as u32 >> entry.bits()), sub_state);
        }
    }
}
