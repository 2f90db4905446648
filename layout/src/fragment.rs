//! The A fragment of `mma.sync.aligned.m16n8k16` for 16-bit types, and symbols in its order.
//!
//! With g = lane / 4 and t = lane % 4, register 0 holds (row g, columns 2t and 2t + 1), register 1
//! (row g + 8, the same columns), registers 2 and 3 the same rows at columns 2t + 8 and 2t + 9; the
//! even column stands in the low half. Source: PTX ISA, "Matrix Fragments for mma.m16n8k16".

/// (row, column) in the fragment of half `half` (0 low, 1 high) of A register `register` of `lane`.
#[inline(always)]
#[must_use]
pub const fn register_position(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (g + 8 * (register % 2), 2 * t + half + 8 * (register / 2))
}

/// (row, column) of the weight in the low nibble of `lane`'s `symbol`-th symbol of a fragment; the
/// weight of the high nibble stands 8 rows below.
#[inline(always)]
#[must_use]
pub const fn symbol_position(lane: usize, symbol: usize) -> (usize, usize) {
    register_position(lane, symbol / 2 * 2, symbol % 2)
}

/// (lane, symbol) of the weight at (`row`, `col`) of a fragment: the inverse of
/// [`symbol_position`] with the nibble left out, which is `row / 8`.
#[inline(always)]
#[must_use]
pub const fn symbol_of(row: usize, col: usize) -> (usize, usize) {
    (row % 8 * 4 + col % 8 / 2, col / 8 * 2 + col % 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAGMENT, LANES};

    #[test]
    fn the_fragment_map_is_a_bijection() {
        let mut seen = [[false; FRAGMENT]; FRAGMENT];
        for lane in 0..LANES {
            for register in 0..4 {
                for half in 0..2 {
                    let (row, col) = register_position(lane, register, half);
                    assert!(!core::mem::replace(&mut seen[row][col], true));
                }
            }
        }
        assert!(seen.iter().flatten().all(|&s| s));
    }

    #[test]
    fn symbols_pair_the_rows_of_neighbouring_registers() {
        for lane in 0..LANES {
            for symbol in 0..4 {
                let (row, col) = symbol_position(lane, symbol);
                let low = symbol / 2 * 2;
                assert_eq!((row, col), register_position(lane, low, symbol % 2));
                assert_eq!((row + 8, col), register_position(lane, low + 1, symbol % 2));
                assert_eq!(symbol_of(row, col), (lane, symbol));
                assert_eq!(symbol_of(row + 8, col), (lane, symbol));
            }
        }
    }
}
