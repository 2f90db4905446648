//! Dequantized values of weights, and integers that do not fit in a byte.

use crate::BlobError;
use crate::blob::groups::OwnedGroups;
use crate::float::{load_weights, scale_groups};
use fused_rans_layout::{Dtype, TileEntry};
use std::ops::Range;

/// Data that dequantizes the weights of a matrix, except the row scales.
#[derive(Clone, Debug, PartialEq)]
pub struct DequantizedValues {
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Scales and zero points of groups, if weights have groups.
    pub groups: Option<OwnedGroups>,
    /// Integers that do not fit in a byte, sorted by row, then by column.
    pub large_integers: Vec<LargeInteger>,
}

impl DequantizedValues {
    /// Loads the weights of row `row` from `stored` into `out`, with the scales and zero points of their groups, but
    /// without the row scale. Exact in F32.
    pub fn load_row(&self, row: usize, stored: &[u8], out: &mut [f32]) {
        load_weights(self.dtype, stored, out);
        for large in in_row(&self.large_integers, row, 0..usize::MAX) {
            out[large.col] = large.integer.into();
        }
        if let Some(groups) = &self.groups {
            scale_groups(groups.borrow(), row, out);
        }
    }

    /// Loads the weights of row `row` from `stored` into `out` and multiplies them by `scale`, the row scale, if there
    /// is one. Exact where the products are normal F32 numbers. Finite products that overflow become the largest finite
    /// number.
    pub fn dequantize_row(&self, scale: Option<f32>, row: usize, stored: &[u8], out: &mut [f32]) {
        self.load_row(row, stored, out);
        let Some(scale) = scale else { return };
        for weight in out {
            // The scale was rounded to BF16, maybe up: the product with the largest weight may overflow.
            let finite = scale.is_finite() && weight.is_finite();
            let product = *weight * scale;
            *weight = if finite { product.clamp(f32::MIN, f32::MAX) } else { product };
        }
    }
}

/// An integer of an I8 matrix that does not fit in a byte: `low + 256 * high`, both bytes signed. The matrix holds the
/// low byte; the blob stores the whole integer as an exception.
///
/// Pass large integers to [`Matrix::with_large_integers`](crate::Matrix::with_large_integers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LargeInteger {
    /// Row in the matrix.
    pub row: usize,
    /// Column in the matrix.
    pub col: usize,
    /// Value: from -32768 to 32512, outside -128 to 127, and exact in BF16.
    pub integer: i16,
}

impl LargeInteger {
    /// Returns the weight of the exception that stores the integer; `None` if the value is invalid.
    pub(crate) fn weight(self) -> Option<u16> {
        let (low, high) = bytes(self.integer)?;
        let weight = TileEntry::exception_weight(low, high);
        (high != 0 && may_be_exception(weight, true)).then_some(weight)
    }

    /// Reads the large integer from the weight of an exception at (`row`, `col`); `None` if it fits in a byte.
    pub(crate) fn from_weight(row: usize, col: usize, weight: u16) -> Option<Self> {
        let (low, high) = TileEntry::exception_bytes(weight);
        // Always fits for exceptions of a parsed tile, which have been checked.
        let integer = i16::try_from(join(low, high)).ok()?;
        (high != 0).then_some(Self { row, col, integer })
    }

    /// Checks that `all` are sorted and valid, and that `weights`, a matrix of `rows` x `cols` integers, holds their
    /// low bytes.
    pub(crate) fn check(
        all: &[Self],
        (rows, cols): (usize, usize),
        weights: &[u8],
    ) -> Result<(), BlobError> {
        if !all.is_sorted_by(|a, b| (a.row, a.col) < (b.row, b.col)) {
            return Err(BlobError::LargeIntegers("they are not sorted by row, then by column"));
        }
        for large in all {
            if large.row >= rows || large.col >= cols {
                return Err(BlobError::LargeIntegers("one lies outside the matrix"));
            }
            let Some(weight) = large.weight() else {
                return Err(BlobError::LargeIntegers(
                    "one is in -128 to 127, above 32512, or not exact in BF16",
                ));
            };
            if weights[large.row * cols + large.col] != weight as u8 {
                return Err(BlobError::LargeIntegers(
                    "the matrix does not hold the low byte of one at its position",
                ));
            }
        }
        Ok(())
    }
}

/// Returns the integers of `all`, which must be sorted, that lie in row `row` and in columns `cols`.
pub fn in_row(all: &[LargeInteger], row: usize, cols: Range<usize>) -> &[LargeInteger] {
    let place = |large: &LargeInteger| (large.row, large.col);
    let start = all.partition_point(|large| place(large) < (row, cols.start));
    let rest = &all[start..];
    &rest[..rest.partition_point(|large| place(large) < (row, cols.end))]
}

/// Splits `integer` into its low and high byte, both signed; `None` if the high byte overflows.
fn bytes(integer: i16) -> Option<(i8, i8)> {
    let low = integer as i8;
    let high = (i32::from(integer) - i32::from(low)) / 256;
    Some((low, high.try_into().ok()?))
}

/// Joins low and high byte to an integer.
fn join(low: i8, high: i8) -> i32 {
    i32::from(low) + 256 * i32::from(high)
}

/// Returns whether an exception of an I8 matrix can have this weight. A high byte is valid only if the matrix has large
/// integers (`allow_large`), and only if the integer is exact in BF16, since kernels multiply it as BF16.
pub fn may_be_exception(weight: u16, allow_large: bool) -> bool {
    let (low, high) = TileEntry::exception_bytes(weight);
    let integer = join(low, high);
    high == 0 || allow_large && i16::try_from(integer).is_ok() && is_exact_in_bf16(integer)
}

/// Returns whether BF16 holds this integer exactly: the 16 bits that F32 has beyond BF16 must be zero.
fn is_exact_in_bf16(integer: i32) -> bool {
    (integer as f32).to_bits() & 0xFFFF == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn large_integers_survive_the_conversion_to_exceptions() {
        for integer in i16::MIN..=i16::MAX {
            let large = LargeInteger { row: 1, col: 2, integer };
            let in_bf16 = bf16::from_f32(integer.into()).to_f32() == f32::from(integer);
            let allowed = i8::try_from(integer).is_err() && in_bf16 && integer <= 32512;
            let weight = large.weight();
            assert_eq!(weight.is_some(), allowed, "{integer}");
            let back = weight.and_then(|weight| LargeInteger::from_weight(1, 2, weight));
            assert_eq!(back, allowed.then_some(large));
        }
    }

    #[test]
    fn exceptions_are_bytes_or_large_integers() {
        for weight in 0..=u16::MAX {
            let (low, high) = TileEntry::exception_bytes(weight);
            assert_eq!(may_be_exception(weight, false), high == 0);
            let integer = LargeInteger::from_weight(0, 0, weight);
            let allowed = high == 0 || integer.is_some_and(|large| large.weight() == Some(weight));
            assert_eq!(may_be_exception(weight, true), allowed, "{low} {high}");
        }
    }

    #[test]
    fn parts_of_rows_are_found() {
        let at = |row, col| LargeInteger { row, col, integer: 200 };
        let large = [at(0, 5), at(2, 3), at(2, 256), at(2, 300)];
        assert_eq!(in_row(&large, 0, 0..usize::MAX), &large[..1]);
        assert_eq!(in_row(&large, 1, 0..usize::MAX), []);
        assert_eq!(in_row(&large, 2, 0..usize::MAX), &large[1..]);
        assert_eq!(in_row(&large, 2, 4..257), &large[2..3]);
        assert_eq!(in_row(&large, 2, 256..512), &large[2..]);
    }
}
