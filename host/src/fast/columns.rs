//! Rows of a slab in the order of the matrix, and in the order of the fragments: column k of step s at
//! `16 * s + k`.
//!
//! Neighbouring columns stay together, so that pairs of them are moved: within 32 columns, the same
//! way each time, which vectorizes.

use fused_rans_layout::{FRAGMENT, TILE, fragment_column, matrix_column};

/// Pairs of the columns of two steps.
const PAIRS: usize = FRAGMENT;

/// Brings a row of `steps` steps from the matrix's order into the fragments'.
#[inline(always)]
pub fn to_fragments<T: Copy>(row: &mut [T; TILE], steps: usize) {
    permute(row, steps, |steps, pair| {
        matrix_column(steps, 2 * pair / FRAGMENT, 2 * pair % FRAGMENT) / 2
    });
}

/// Undoes [`to_fragments`].
#[inline(always)]
pub fn to_matrix<T: Copy>(row: &mut [T; TILE], steps: usize) {
    permute(row, steps, |steps, pair| {
        let (step, col) = fragment_column(steps, 2 * pair);
        (FRAGMENT * step + col) / 2
    });
}

/// Moves to each pair the pair number `from(steps, pair)`, for two steps and for one without a
/// partner.
#[inline(always)]
fn permute<T: Copy>(row: &mut [T; TILE], steps: usize, from: impl Fn(usize, usize) -> usize) {
    let pairs = row.as_chunks_mut::<2>().0;
    let (whole, rest) = pairs[..steps * FRAGMENT / 2].as_chunks_mut::<PAIRS>();
    for pairs in whole {
        *pairs = core::array::from_fn(|pair| pairs[from(2, pair)]);
    }
    if let Some(last) = rest.first_chunk_mut::<{ PAIRS / 2 }>() {
        *last = core::array::from_fn(|pair| last[from(1, pair)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_their_columns_are_the_layouts() {
        for steps in 1..=TILE / FRAGMENT {
            let matrix: [usize; TILE] = core::array::from_fn(|col| col);
            let mut row = matrix;
            to_fragments(&mut row, steps);
            for (at, &col) in row[..FRAGMENT * steps].iter().enumerate() {
                assert_eq!(col, matrix_column(steps, at / FRAGMENT, at % FRAGMENT));
            }
            to_matrix(&mut row, steps);
            assert_eq!(row, matrix);
        }
    }
}
