//! Rows of a matrix, and what a step makes of them.

use super::round::{WIDEST, row_scale};
use super::source::absmax;
use super::{NumberMatrix, QuantizeError};
use crate::blob::values::LargeInteger;
use half::bf16;

/// The largest integer of a byte.
const LARGEST: f32 = 127.0;

/// A row's numbers at a glance.
pub(super) struct Row {
    root_mean_square: f32,
    largest: f32,
    /// The largest but for those that may take more than a byte.
    narrow: f32,
}

impl Row {
    /// The rows of `source`, of which one of so many weights may take more than a byte.
    pub(super) fn all(source: NumberMatrix<'_>, one_of: usize) -> Result<Vec<Self>, QuantizeError> {
        let all: Vec<usize> = (0..source.rows()).collect();
        source.map_rows(&all, |row, numbers| Self::of(row, numbers, one_of))
    }

    fn of(row: usize, numbers: &[f32], one_of: usize) -> Result<Self, QuantizeError> {
        let largest = absmax(row, numbers)?;
        // Of numbers up to 1, whose squares neither overflow nor vanish.
        let factor = if largest > 0.0 { 1.0 / f64::from(largest) } else { 0.0 };
        let squares: f64 = numbers.iter().map(|&x| (f64::from(x) * factor).powi(2)).sum();
        let mean = squares / numbers.len() as f64;
        let root_mean_square = (mean.sqrt() * f64::from(largest)) as f32;
        let narrow = match numbers.len() / one_of {
            0 => largest,
            all if all == numbers.len() => 0.0,
            wide => {
                let mut magnitudes: Vec<f32> = numbers.iter().map(|x| x.abs()).collect();
                *magnitudes.select_nth_unstable_by(wide, |a, b| b.total_cmp(a)).1
            }
        };
        Ok(Self { root_mean_square, largest, narrow })
    }

    /// The scale for `step`: not so fine that the largest numbers would be clipped, or take more than a byte if they may
    /// not. By the largest number or more everything is 0; so far steps are finite numbers.
    pub(super) fn scale(&self, step: f64) -> bf16 {
        let wanted = (step.exp2() * f64::from(self.root_mean_square)) as f32;
        let finest = (self.narrow / LARGEST).max(self.largest / WIDEST);
        row_scale(wanted.clamp(finest, self.largest))
    }
}

/// The integers in these rows that take more than a byte.
pub(super) fn wide(rows: &[usize], cols: usize, integers: &[i16]) -> Vec<LargeInteger> {
    let rows = rows.iter().zip(integers.chunks_exact(cols));
    let all = rows.flat_map(|(&row, integers)| {
        integers.iter().enumerate().map(move |(col, &integer)| LargeInteger { row, col, integer })
    });
    all.filter(|wide| i8::try_from(wide.integer).is_err()).collect()
}

/// The scale with which the integers in `rounded` come nearest to `numbers`: a little less than the step, since most
/// numbers that become an integer lie between that and 0. `None` if all are 0.
pub(super) fn best_scale(numbers: &[f32], rounded: &[i16]) -> Option<bf16> {
    let pairs = numbers.iter().zip(rounded);
    let pairs = pairs.map(|(&x, &n)| (f64::from(x), f64::from(n)));
    let (product, square) = pairs.fold((0.0, 0.0), |(a, b), (x, n)| (a + x * n, b + n * n));
    (square > 0.0).then(|| row_scale((product / square) as f32))
}

pub(super) fn squared_error(numbers: &[f32], scale: f32, rounded: &[i16]) -> f64 {
    let error =
        |(&number, &n): (&f32, &i16)| (f64::from(number) - f64::from(scale) * f64::from(n)).powi(2);
    numbers.iter().zip(rounded).map(error).sum()
}
