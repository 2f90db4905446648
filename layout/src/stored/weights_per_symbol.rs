//! Number of weights per symbol.

use crate::register_position;

/// Number of weights that share a symbol of eight coded bits. Four weights per symbol decode in half of the steps; two
/// weights, with four coded bits each, usually compress better. The discriminant is the stored number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WeightsPerSymbol {
    /// Four coded bits of each of two weights: rows g and g + 8 of a column.
    #[default]
    Two = 2,
    /// Two coded bits of each of four weights: rows g and g + 8 of two neighboring columns.
    Four = 4,
}

impl WeightsPerSymbol {
    /// All variants.
    pub const ALL: [Self; 2] = [Self::Two, Self::Four];

    /// Returns the variant with this stored number; `None` if there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            _ => None,
        }
    }

    /// Returns the number of coded bits of a weight.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u32 {
        8 / self as u32
    }

    /// Returns the number of values of the coded bits of a weight.
    #[inline(always)]
    #[must_use]
    pub const fn values(self) -> u8 {
        1 << self.bits()
    }

    /// Returns the number of columns that a symbol spans.
    #[inline(always)]
    #[must_use]
    pub const fn columns(self) -> usize {
        self as usize / 2
    }

    /// Returns the number of symbols that a lane has of one fragment.
    #[inline(always)]
    #[must_use]
    pub const fn symbols_per_fragment(self) -> usize {
        8 / self as usize
    }

    /// Returns the (row, column) in the fragment of the weight in the lowest bits of `lane`'s symbol number `symbol` of the
    /// fragment. The next bits are those of the weight 8 rows below; with four weights, those of the two weights in the
    /// next column follow.
    #[inline(always)]
    #[must_use]
    pub const fn position(self, lane: usize, symbol: usize) -> (usize, usize) {
        match self {
            Self::Two => register_position(lane, symbol / 2 * 2, symbol % 2),
            Self::Four => register_position(lane, 2 * symbol, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LANES, Place};

    #[test]
    fn symbols_hold_the_rows_of_neighboring_registers() {
        for weights_per_symbol in WeightsPerSymbol::ALL {
            let mut seen = [0u32; LANES * 8];
            for (lane, register) in (0..LANES).flat_map(|lane| (0..4).map(move |r| (lane, r))) {
                for half in 0..2 {
                    let place = Place { fragment: 0, lane, register, half };
                    let (symbol, shift) = place.symbol(weights_per_symbol);
                    seen[8 * lane + symbol] |= ((1 << weights_per_symbol.bits()) - 1) << shift;
                    let (row, col) = weights_per_symbol.position(lane, symbol);
                    let field = shift / weights_per_symbol.bits();
                    let expected = (row + 8 * (field as usize % 2), col + field as usize / 2);
                    assert_eq!(register_position(lane, register, half), expected);
                }
            }
            for symbols in seen.chunks(8) {
                let (used, unused) = symbols.split_at(weights_per_symbol.symbols_per_fragment());
                assert!(used.iter().all(|&bits| bits == 0xFF) && unused.iter().all(|&b| b == 0));
            }
        }
    }

    #[test]
    fn stored_numbers_are_the_weights_of_a_symbol() {
        for code in 0..=255 {
            let weights_per_symbol = WeightsPerSymbol::from_code(code);
            assert!(
                weights_per_symbol
                    .is_none_or(|weights_per_symbol| weights_per_symbol as u8 == code)
            );
        }
        assert_eq!(
            WeightsPerSymbol::ALL.map(|p| WeightsPerSymbol::from_code(p as u8)),
            WeightsPerSymbol::ALL.map(Some)
        );
    }
}
