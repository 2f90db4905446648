//! What a step gives on the rows of a matrix.

use super::feedback::round_rows;
use super::rows::{Row, best_scale, large_integers_of, squared_error};
use crate::Dtype;
use crate::blob::values::LargeInteger;
use crate::codec::coding_model::add_counts;
use crate::codec::fast::count_exponents;
use crate::quantize::moments::Factor;
use crate::quantize::rounding::{large_integers, low_bytes};
use crate::quantize::{NumberMatrix, QuantizeError, QuantizeOptions};
use fused_rans_layout::FRAGMENT;
use half::bf16;
use rayon::prelude::*;

/// Rows that one task rounds at a time. Feedback multiplies matrices with as many rows, which is faster than row by row.
pub(super) const ROWS_PER_TASK: usize = 32;
/// Weights on which steps are tried.
const SAMPLE_WEIGHTS: usize = 1 << 18;
/// Weights on which steps are tried with feedback, which takes far longer per weight.
const FEEDBACK_SAMPLE_WEIGHTS: usize = SAMPLE_WEIGHTS / 4;
/// Least number of rows in the sample, if the matrix has as many: rows can be very different from each other.
const MIN_SAMPLE_ROWS: usize = 32;

/// A matrix on which steps are tried.
///
/// A step is given as `step_log2`: log2 of its ratio to a row's root mean square.
pub(super) struct Trial<'a> {
    pub(super) source: NumberMatrix<'a>,
    pub(super) options: QuantizeOptions<'a>,
    /// The Cholesky factor of the inputs' second moments, if there are moments.
    factor: Option<&'a Factor>,
    rows: Vec<Row>,
    /// At most one in this many weights of a row may become a large integer; 1 for no limit.
    weights_per_large_integer: usize,
    /// Indexes of the rows on which steps are tried.
    sample: Vec<usize>,
}

/// What a step gives on some rows.
pub(super) struct Outcome {
    /// How often each low byte of an integer occurs.
    pub(super) counts: [u64; 256],
    /// How many integers take more than a byte.
    pub(super) large_integers: u64,
    /// Sum of the squared errors: of the outputs if there are moments, else of the weights.
    pub(super) squared_error: f64,
}

/// Some rows, rounded.
pub(super) struct RoundedRows {
    pub(super) scales: Vec<bf16>,
    /// Sum of the squared errors, as in [`Outcome`].
    pub(super) squared_error: f64,
    /// The integers that take more than a byte.
    pub(super) large_integers: Vec<LargeInteger>,
}

impl<'a> Trial<'a> {
    /// Checks the matrix and its moments, and chooses the sample.
    pub(super) fn new(
        source: NumberMatrix<'a>,
        options: QuantizeOptions<'a>,
    ) -> Result<Self, QuantizeError> {
        let (rows, cols) = (source.rows(), source.cols());
        if rows.min(cols) < FRAGMENT {
            return Err(QuantizeError::TooSmall { rows, cols });
        }
        let factor = options.moments.map(|moments| match moments.inputs() == cols {
            true => moments.factor(),
            false => Err(QuantizeError::MomentsInputs { cols, found: moments.inputs() }),
        });
        let weights = if factor.is_some() { FEEDBACK_SAMPLE_WEIGHTS } else { SAMPLE_WEIGHTS };
        Ok(Self {
            source,
            options,
            factor: factor.transpose()?,
            rows: Row::all(source, 1)?,
            weights_per_large_integer: 1,
            sample: sample(rows, cols, weights),
        })
    }

    /// Allows at most one in `weights_per_large_integer` weights of a row to become a large integer; 1 removes the limit.
    pub(super) fn allow_large_integers(
        &mut self,
        weights_per_large_integer: usize,
    ) -> Result<(), QuantizeError> {
        self.rows = Row::all(self.source, weights_per_large_integer)?;
        self.weights_per_large_integer = weights_per_large_integer;
        Ok(())
    }

    /// Returns whether the number of large integers in a row is limited.
    pub(super) fn limits_large_integers(&self) -> bool {
        self.weights_per_large_integer > 1
    }

    /// Returns the sum of squares over the sample: of the outputs if there are moments, else of the numbers.
    pub(super) fn energy(&self) -> f64 {
        let square = |numbers: &[f32]| match self.options.moments {
            Some(moments) => moments.mean_square_output(numbers),
            None => numbers.iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
        };
        let energies = self.source.map_rows(&self.sample, |_, numbers| Ok(square(numbers)));
        energies.map_or(0.0, |energies| energies.iter().sum())
    }

    /// Rounds the sample with a step, and counts the integers.
    pub(super) fn try_step(&self, step_log2: f64) -> Outcome {
        let cols = self.source.cols();
        let batches = self.sample.par_chunks(ROWS_PER_TASK).map(|rows| {
            let mut out = vec![0; rows.len() * cols];
            let rounded = self.round(rows, step_log2, &mut out);
            Outcome {
                counts: count_exponents(Dtype::I8, &out),
                large_integers: rounded.large_integers.len() as u64,
                squared_error: rounded.squared_error,
            }
        });
        batches.reduce(Outcome::zero, Outcome::plus)
    }

    /// Rounds some rows, and writes the low bytes of the integers to `out`.
    pub(super) fn round(&self, rows: &[usize], step_log2: f64, out: &mut [u8]) -> RoundedRows {
        let cols = self.source.cols();
        let mut numbers = vec![0.0; rows.len() * cols];
        for (&row, numbers) in rows.iter().zip(numbers.chunks_exact_mut(cols)) {
            self.source.load_row(row, numbers);
        }
        let scale = |&row: &usize| self.rows[row].scale(step_log2);
        let mut scales: Vec<bf16> = rows.iter().map(scale).collect();
        let mut integers = vec![0; rows.len() * cols];
        let mut error = 0.0;
        if let Some(factor) = &self.factor {
            let steps: Vec<f32> = scales.iter().map(|scale| scale.to_f32()).collect();
            error = round_rows(factor, &numbers, &steps, &mut integers);
        } else {
            let rows = numbers.chunks_exact(cols).zip(integers.chunks_exact_mut(cols));
            for ((numbers, integers), scale) in rows.zip(&mut scales) {
                large_integers(numbers, scale.to_f32(), integers);
                *scale = best_scale(numbers, integers).unwrap_or(*scale);
                error += squared_error(numbers, scale.to_f32(), integers);
            }
        }
        let all_fit = low_bytes(&integers, out);
        let large_integers =
            if all_fit { Vec::new() } else { large_integers_of(rows, cols, &integers) };
        RoundedRows { scales, squared_error: error, large_integers }
    }
}

/// Chooses rows that have about `weights` weights together.
///
/// One row is drawn from each run of equal length, because rows may repeat at regular distances. The generator is a fixed
/// one, so that the same matrix always gives the same sample.
fn sample(rows: usize, cols: usize, weights: usize) -> Vec<usize> {
    let stride = (rows * cols).div_ceil(weights).min(rows.div_ceil(MIN_SAMPLE_ROWS));
    let mut random = 1u64;
    let draw = |first: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (first + (random >> 33) as usize % stride).min(rows - 1)
    };
    (0..rows).step_by(stride).map(draw).collect()
}

impl Outcome {
    fn zero() -> Self {
        Self { counts: [0; 256], large_integers: 0, squared_error: 0.0 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            counts: add_counts(self.counts, other.counts),
            large_integers: self.large_integers + other.large_integers,
            squared_error: self.squared_error + other.squared_error,
        }
    }
}
