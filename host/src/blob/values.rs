//! What the weights of a matrix stand for, scales of rows excepted.

use crate::BlobError;
use crate::blob::groups::OwnedGroups;
use crate::float::{load_weights, scale_groups};
use fused_rans_layout::{Dtype, TileEntry};
use std::ops::Range;

/// What turns the weights of a matrix into numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct DequantizedValues {
    /// Their type.
    pub dtype: Dtype,
    /// Scales and zero points of groups.
    pub groups: Option<OwnedGroups>,
    /// Those that take more than a byte.
    pub large_integers: Vec<LargeInteger>,
}

impl DequantizedValues {
    /// The numbers that the weights of row `row` in `stored` are, one for each place in `out`. Exact in F32.
    pub fn load_row(&self, row: usize, stored: &[u8], out: &mut [f32]) {
        load_weights(self.dtype, stored, out);
        for wide in between(&self.large_integers, row, 0..usize::MAX) {
            out[wide.col] = wide.integer.into();
        }
        if let Some(groups) = &self.groups {
            scale_groups(groups.borrow(), row, out);
        }
    }

    /// As [`DequantizedValues::load_row`], multiplied with the row's scale. Exact where they are normal F32 numbers; finite ones
    /// beyond these become the largest.
    pub fn dequantize_row(&self, scale: Option<f32>, row: usize, stored: &[u8], out: &mut [f32]) {
        self.load_row(row, stored, out);
        let Some(scale) = scale else { return };
        for weight in out {
            // Rounded scales may take the largest numbers beyond the last finite one.
            let finite = scale.is_finite() && weight.is_finite();
            let product = *weight * scale;
            *weight = if finite { product.clamp(f32::MIN, f32::MAX) } else { product };
        }
    }
}

/// An integer of a matrix that takes more than a byte: `low + 256 * high`, both of them signed. As a weight of
/// [`Dtype::I8`] it is its low byte; all of it stands among its tile's exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LargeInteger {
    /// Row in the matrix.
    pub row: usize,
    /// Column in the matrix.
    pub col: usize,
    /// From -32768 to 32512, outside -128 to 127, and a number that BF16 has.
    pub integer: i16,
}

impl LargeInteger {
    /// As exceptions have it. `None` if it is none that exceptions can have.
    pub(crate) fn weight(self) -> Option<u16> {
        let (low, high) = bytes(self.integer)?;
        let weight = TileEntry::exception_weight(low, high);
        (high != 0 && may_be_exception(weight, true)).then_some(weight)
    }

    /// The integer at this place, if it is a wide one, of an exception with this weight.
    pub(crate) fn from_weight(row: usize, col: usize, weight: u16) -> Option<Self> {
        let (low, high) = TileEntry::exception_bytes(weight);
        // What has been checked is in range.
        let integer = i16::try_from(sum(low, high)).ok()?;
        (high != 0).then_some(Self { row, col, integer })
    }

    /// Checks that these are large integers of a matrix of `rows` x `cols` integers with the low bytes `weights`.
    pub(crate) fn check(
        all: &[Self],
        (rows, cols): (usize, usize),
        weights: &[u8],
    ) -> Result<(), BlobError> {
        if !all.is_sorted_by(|a, b| (a.row, a.col) < (b.row, b.col)) {
            return Err(BlobError::LargeIntegers(
                "they are not in order, by row and then by column",
            ));
        }
        for wide in all {
            if wide.row >= rows || wide.col >= cols {
                return Err(BlobError::LargeIntegers("one is outside of the matrix"));
            }
            let Some(weight) = wide.weight() else {
                return Err(BlobError::LargeIntegers(
                    "one is in -128 to 127, above 32512, or no number that BF16 has",
                ));
            };
            if weights[wide.row * cols + wide.col] != weight as u8 {
                return Err(BlobError::LargeIntegers(
                    "the weight at the place of one is not its low byte",
                ));
            }
        }
        Ok(())
    }
}

/// Those of `all`, which are in order, that are in row `row` and these columns.
pub fn between(all: &[LargeInteger], row: usize, cols: Range<usize>) -> &[LargeInteger] {
    let place = |wide: &LargeInteger| (wide.row, wide.col);
    let start = all.partition_point(|wide| place(wide) < (row, cols.start));
    let rest = &all[start..];
    &rest[..rest.partition_point(|wide| place(wide) < (row, cols.end))]
}

/// Low and high byte of `integer`; `None` if these are not enough.
fn bytes(integer: i16) -> Option<(i8, i8)> {
    let low = integer as i8;
    let high = (i32::from(integer) - i32::from(low)) / 256;
    Some((low, high.try_into().ok()?))
}

fn sum(low: i8, high: i8) -> i32 {
    i32::from(low) + 256 * i32::from(high)
}

/// Whether an exception that is an integer can have this weight: a high byte only where there are large integers, and
/// together only a number that BF16 has, too, as which it is multiplied.
pub fn may_be_exception(weight: u16, wide: bool) -> bool {
    let (low, high) = TileEntry::exception_bytes(weight);
    let integer = sum(low, high);
    high == 0 || wide && i16::try_from(integer).is_ok() && is_bf16(integer)
}

/// Whether BF16 has this integer: whether F32 has zeros in what BF16 lacks.
fn is_bf16(integer: i32) -> bool {
    (integer as f32).to_bits() & 0xFFFF == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_integer_is_its_bytes() {
        for integer in i16::MIN..=i16::MAX {
            let wide = LargeInteger { row: 1, col: 2, integer };
            let in_bf16 = bf16::from_f32(integer.into()).to_f32() == f32::from(integer);
            let allowed = i8::try_from(integer).is_err() && in_bf16 && integer <= 32512;
            let weight = wide.weight();
            assert_eq!(weight.is_some(), allowed, "{integer}");
            let back = weight.and_then(|weight| LargeInteger::from_weight(1, 2, weight));
            assert_eq!(back, allowed.then_some(wide));
        }
    }

    #[test]
    fn exceptions_are_bytes_or_wide_integers() {
        for weight in 0..=u16::MAX {
            let (low, high) = TileEntry::exception_bytes(weight);
            assert_eq!(may_be_exception(weight, false), high == 0);
            let integer = LargeInteger::from_weight(0, 0, weight);
            let allowed = high == 0 || integer.is_some_and(|wide| wide.weight() == Some(weight));
            assert_eq!(may_be_exception(weight, true), allowed, "{low} {high}");
        }
    }

    #[test]
    fn parts_of_rows_are_found() {
        let at = |row, col| LargeInteger { row, col, integer: 200 };
        let wide = [at(0, 5), at(2, 3), at(2, 256), at(2, 300)];
        assert_eq!(between(&wide, 0, 0..usize::MAX), &wide[..1]);
        assert_eq!(between(&wide, 1, 0..usize::MAX), []);
        assert_eq!(between(&wide, 2, 0..usize::MAX), &wide[1..]);
        assert_eq!(between(&wide, 2, 4..257), &wide[2..3]);
        assert_eq!(between(&wide, 2, 256..512), &wide[2..]);
    }
}
