//! The A fragment of `mma.sync.aligned.m16n8k16` for 16-bit types.
//!
//! With g = lane / 4 and t = lane % 4, register 0 holds (row g, columns 2t and 2t + 1), register 1
//! (row g + 8, the same columns), registers 2 and 3 the same rows at columns 2t + 8 and 2t + 9; the
//! even column is in the low half. Source: PTX ISA, "Matrix Fragments for mma.m16n8k16".
//!
//! Which columns of the matrix a fragment takes is free, as long as both operands agree. [`matrix_column`] gives a lane
//! 8 neighboring columns in two steps, so that it loads activations and stores decoded weights 16 bytes at a time.

use crate::{FRAGMENT, WeightsPerSymbol};

/// Returns the (row, column) in the fragment of half `half` (0 low, 1 high) of A register `register` of `lane`.
#[inline(always)]
#[must_use]
pub const fn register_position(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (g, t) = (lane / 4, lane % 4);
    (g + 8 * (register % 2), 2 * t + half + 8 * (register / 2))
}

/// Returns the column of a slab of `steps` steps that is column `col` of the fragments at `step`.
///
/// Two steps share 32 columns. Lane t has columns 8t to 8t + 7, the first four of them in the even step. A last step without
/// a partner has 16 columns, and lane t has 4t to 4t + 3.
#[inline(always)]
#[must_use]
pub const fn matrix_column(steps: usize, step: usize, col: usize) -> usize {
    let (t, within) = (col % 8 / 2, col / 8 * 2 + col % 2);
    if step | 1 < steps {
        2 * FRAGMENT * (step / 2) + 8 * t + 4 * (step % 2) + within
    } else {
        FRAGMENT * step + 4 * t + within
    }
}

/// Returns the (step, column of the fragment) of column `col` of a slab of `steps` steps: the inverse of
/// [`matrix_column`].
#[inline(always)]
#[must_use]
pub const fn fragment_column(steps: usize, col: usize) -> (usize, usize) {
    let step = col / FRAGMENT;
    let (step, t) = if step | 1 < steps {
        (step / 2 * 2 + col % 8 / 4, col % 32 / 8)
    } else {
        (step, col % FRAGMENT / 4)
    };
    (step, col % 4 / 2 * 8 + 2 * t + col % 2)
}

/// The place of a weight in the fragments of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the fragment in the slab: `step * strips + strip`.
    pub fragment: usize,
    /// Lane of the warp.
    pub lane: usize,
    /// A register of the lane.
    pub register: usize,
    /// Half of the register: 0 low, 1 high.
    pub half: usize,
}

impl Place {
    /// Returns the number of the symbol in the lane's stream, and the position of the weight's bits in that symbol.
    #[inline(always)]
    #[must_use]
    pub const fn symbol(self, weights_per_symbol: WeightsPerSymbol) -> (usize, u32) {
        let (pair, row, half) = (self.register / 2, self.register % 2, self.half);
        let (symbol, field) = match weights_per_symbol {
            WeightsPerSymbol::Two => (2 * pair + half, row),
            WeightsPerSymbol::Four => (pair, 2 * half + row),
        };
        let first = weights_per_symbol.symbols_per_fragment() * self.fragment;
        (first + symbol, weights_per_symbol.bits() * field as u32)
    }
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
    fn matrix_columns_are_a_bijection() {
        for steps in 1..=16 {
            for col in 0..FRAGMENT * steps {
                let (step, within) = fragment_column(steps, col);
                assert!(step < steps && within < FRAGMENT);
                assert_eq!(matrix_column(steps, step, within), col);
            }
        }
        // Lane t = 1 of two steps: columns 8 to 15.
        assert_eq!(matrix_column(4, 0, 2), 8);
        assert_eq!(matrix_column(4, 1, 11), 15);
    }
}
