//! Scales of single rows.

use crate::blob::values::LargeInteger;
use crate::quantize::number_matrix::absmax;
use crate::quantize::rounding::{MAX_LARGE_INTEGER, row_scale};
use crate::quantize::{NumberMatrix, QuantizeError};
use half::bf16;

/// The largest integer of a byte.
const MAX_BYTE_INTEGER: f32 = 127.0;

/// The magnitudes of a row that decide on its scale.
pub(super) struct Row {
    root_mean_square: f32,
    /// The largest magnitude.
    largest: f32,
    /// The largest magnitude whose integer must fit in a byte.
    largest_in_byte: f32,
}

impl Row {
    /// Measures all rows of `source`. At most one in `weights_per_large_integer` weights of a row may become a large
    /// integer.
    pub(super) fn all(
        source: NumberMatrix<'_>,
        weights_per_large_integer: usize,
    ) -> Result<Vec<Self>, QuantizeError> {
        let all: Vec<usize> = (0..source.rows()).collect();
        source.map_rows(&all, |row, numbers| Self::new(row, numbers, weights_per_large_integer))
    }

    fn new(
        row: usize,
        numbers: &[f32],
        weights_per_large_integer: usize,
    ) -> Result<Self, QuantizeError> {
        let largest = absmax(row, numbers)?;
        // The numbers are divided by the largest first, so that squares neither overflow nor underflow.
        let factor = if largest > 0.0 { 1.0 / f64::from(largest) } else { 0.0 };
        let squares: f64 = numbers.iter().map(|&x| (f64::from(x) * factor).powi(2)).sum();
        let mean = squares / numbers.len() as f64;
        let root_mean_square = (mean.sqrt() * f64::from(largest)) as f32;
        let largest_in_byte = match numbers.len() / weights_per_large_integer {
            0 => largest,
            all if all == numbers.len() => 0.0,
            large => {
                let mut magnitudes: Vec<f32> = numbers.iter().map(|x| x.abs()).collect();
                *magnitudes.select_nth_unstable_by(large, |a, b| b.total_cmp(a)).1
            }
        };
        Ok(Self { root_mean_square, largest, largest_in_byte })
    }

    /// Returns the scale for a step, given as log2 of its ratio to the root mean square.
    ///
    /// The scale is at least so coarse that no integer exceeds the range it must fit in. It is at most the largest
    /// magnitude, beyond which all integers are 0, so that it is finite.
    pub(super) fn scale(&self, step_log2: f64) -> bf16 {
        let requested = (step_log2.exp2() * f64::from(self.root_mean_square)) as f32;
        let finest =
            (self.largest_in_byte / MAX_BYTE_INTEGER).max(self.largest / MAX_LARGE_INTEGER);
        row_scale(requested.clamp(finest, self.largest))
    }
}

/// Lists the integers of these rows that take more than a byte.
pub(super) fn large_integers_of(
    rows: &[usize],
    cols: usize,
    integers: &[i16],
) -> Vec<LargeInteger> {
    let rows = rows.iter().zip(integers.chunks_exact(cols));
    let all = rows.flat_map(|(&row, integers)| {
        integers.iter().enumerate().map(move |(col, &integer)| LargeInteger { row, col, integer })
    });
    all.filter(|large| i8::try_from(large.integer).is_err()).collect()
}

/// Returns the scale by which `integers` have the least squared error from `numbers`; `None` if all are 0.
///
/// It is a little less than the step, because most numbers that round to an integer lie between that integer and 0.
pub(super) fn best_scale(numbers: &[f32], integers: &[i16]) -> Option<bf16> {
    let pairs = numbers.iter().zip(integers);
    let pairs = pairs.map(|(&x, &n)| (f64::from(x), f64::from(n)));
    let (product, square) = pairs.fold((0.0, 0.0), |(a, b), (x, n)| (a + x * n, b + n * n));
    (square > 0.0).then(|| row_scale((product / square) as f32))
}

/// Returns the sum of the squared differences between `numbers` and `scale * integers`.
pub(super) fn squared_error(numbers: &[f32], scale: f32, integers: &[i16]) -> f64 {
    let error =
        |(&number, &n): (&f32, &i16)| (f64::from(number) - f64::from(scale) * f64::from(n)).powi(2);
    numbers.iter().zip(integers).map(error).sum()
}
