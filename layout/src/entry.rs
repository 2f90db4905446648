//! The decode table's entry.

use crate::{PROB_BITS, TABLE};

/// `[31:20] sub-state without its leading one | [14:11] nibble 1 | [10:7] nibble 0 | [6:5] zero | [4:0] bits to take`
///
/// Three properties make the decode step short:
/// - the next table index is `entry >> 20` shifted left by `n` with `n` stream bits shifted in, in
///   `[0, TABLE)` whatever those bits are, since the sub-state without its leading one is below
///   `TABLE >> n`;
/// - a funnel shift takes its distance from the low 5 bits of the whole entry;
/// - bits 6 and 5 are zero, so sums of whole entries hold the bit position modulo 128 in their low
///   7 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub u32);

impl Entry {
    /// Position of the sub-state.
    pub const SUB_SHIFT: u32 = 20;
    /// Position of the symbol: nibble 0 in its low half, nibble 1 in its high half.
    pub const SYMBOL_SHIFT: u32 = 7;

    /// The entry of `symbol` in sub-state `sub_state`, in `[1, 2 * TABLE)`: for a symbol of frequency f
    /// the sub-states are `[f, 2f)`.
    #[must_use]
    pub const fn new(symbol: u8, sub_state: u32) -> Self {
        assert!(sub_state >= 1 && sub_state < 2 * TABLE as u32);
        let bits = PROB_BITS - sub_state.ilog2();
        let sub = sub_state - (TABLE as u32 >> bits);
        Self(sub << Self::SUB_SHIFT | (symbol as u32) << Self::SYMBOL_SHIFT | bits)
    }

    /// Stream bits that this entry takes, at most [`PROB_BITS`].
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 & 31
    }

    /// The symbol.
    #[must_use]
    pub const fn symbol(self) -> u8 {
        (self.0 >> Self::SYMBOL_SHIFT) as u8
    }

    /// The sub-state without its leading one.
    #[must_use]
    pub const fn sub(self) -> u32 {
        self.0 >> Self::SUB_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_index_stays_in_the_table() {
        for sub_state in 1..2 * TABLE as u32 {
            let entry = Entry::new(0xA5, sub_state);
            let largest = entry.sub() << entry.bits() | ((1 << entry.bits()) - 1);
            assert!(largest < TABLE as u32);
            assert_eq!(entry.symbol(), 0xA5);
            assert_eq!(entry.0 >> 5 & 3, 0);
            // The sub-state comes back: its leading one stands at bit `PROB_BITS - bits`.
            assert_eq!(entry.sub() + (TABLE as u32 >> entry.bits()), sub_state);
        }
    }
}
