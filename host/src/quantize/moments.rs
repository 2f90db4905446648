//! Second moments of a layer's inputs.

use super::QuantizeError;
use crate::element::zeros;
use faer::Mat;
use faer::Side;
use faer::linalg::solvers::Llt;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

/// Second moments of a layer's K inputs: the K x K mean of `x x^T` over activations x, or its diagonal.
///
/// Give them to [`QuantizeOptions::moments`](super::QuantizeOptions::moments) to reduce the error of the layer's
/// outputs. Clones share their memory and the Cholesky factor, so clone the moments for layers with the same inputs.
#[derive(Clone, Debug)]
pub struct Moments {
    inputs: usize,
    /// K x K values, row-major, or the K values of the diagonal.
    values: Arc<Vec<f32>>,
    /// Computed on first use.
    factor: Arc<OnceLock<Factor>>,
}

/// Value that is added to the diagonal, as a share of its mean. Moments of a few thousand activations are inexact, and
/// without it the moments of inputs that are always 0 would be singular.
const DAMPING: f64 = 0.01;

impl Moments {
    /// Checks and takes the moments of `inputs` inputs: `inputs * inputs` values, row by row, or the `inputs` values of
    /// the diagonal.
    ///
    /// # Errors
    /// [`QuantizeError::MomentsLength`] for another number of values; [`QuantizeError::InvalidMoments`] for values that
    /// are not finite, or negative on the diagonal.
    pub fn new(inputs: usize, values: Vec<f32>) -> Result<Self, QuantizeError> {
        if inputs == 0 || values.len() != inputs && Some(values.len()) != inputs.checked_mul(inputs)
        {
            return Err(QuantizeError::MomentsLength { inputs, found: values.len() });
        }
        let moments = Self { inputs, values: Arc::new(values), factor: Arc::default() };
        if !moments.values.iter().all(|value| value.is_finite()) {
            return Err(QuantizeError::InvalidMoments("one is NaN or infinite"));
        }
        if moments.diagonal().any(|value| value < 0.0) {
            return Err(QuantizeError::InvalidMoments("one on the diagonal is negative"));
        }
        Ok(moments)
    }

    /// Returns the number of inputs, K.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns whether only the diagonal is known. (The moments of one input are a diagonal.)
    fn is_diagonal(&self) -> bool {
        self.values.len() == self.inputs
    }

    /// Iterates over the diagonal.
    fn diagonal(&self) -> impl Iterator<Item = f64> {
        let stride = if self.is_diagonal() { 1 } else { self.inputs + 1 };
        self.values.iter().step_by(stride).map(|&value| f64::from(value))
    }

    /// Returns one of the K x K moments.
    fn at(&self, row: usize, col: usize) -> f64 {
        match self.is_diagonal() {
            true if row != col => 0.0,
            true => self.values[row].into(),
            false => self.values[row * self.inputs + col].into(),
        }
    }

    /// Returns the mean square of the output of a row of weights: `w H w^T`. Use it with the errors of a quantized row
    /// to measure what they do to the output.
    #[must_use]
    pub fn mean_square_output(&self, weights: &[f32]) -> f64 {
        if self.is_diagonal() {
            return self
                .diagonal()
                .zip(weights)
                .map(|(h, &w)| h * f64::from(w) * f64::from(w))
                .sum();
        }
        let rows = self.values.chunks_exact(self.inputs).zip(weights);
        rows.map(|(row, &w)| {
            let sum: f64 =
                row.iter().zip(weights).map(|(&h, &w)| f64::from(h) * f64::from(w)).sum();
            f64::from(w) * sum
        })
        .sum()
    }

    /// Returns whether these are clones of each other.
    #[cfg(test)]
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.factor, &other.factor)
    }

    /// Returns the Cholesky factor, computed on the first call.
    ///
    /// Two threads may both compute it at first; one result is then kept.
    pub(super) fn factor(&self) -> Result<&Factor, QuantizeError> {
        if let Some(factor) = self.factor.get() {
            return Ok(factor);
        }
        let factor = self.factorize()?;
        Ok(self.factor.get_or_init(|| factor))
    }

    /// Computes the upper Cholesky factor of the damped moments, inputs in the order of [`Factor::order`].
    fn factorize(&self) -> Result<Factor, QuantizeError> {
        let inputs = self.inputs;
        check_memory(inputs)?;
        let diagonal: Vec<f64> = self.diagonal().collect();
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        let mean = diagonal.iter().sum::<f64>() / inputs as f64;
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        // The solver computes lower factors. That of the matrix in reverse order, read backwards, is an upper one.
        let place = |n: usize| order[inputs - 1 - n];
        let reversed = Mat::from_fn(inputs, inputs, |row, col| {
            let value = self.at(place(row), place(col));
            if row == col { value + damping } else { value }
        });
        let lower = Llt::new(reversed.as_ref(), Side::Lower)
            .map_err(|_| QuantizeError::InvalidMoments("they have no Cholesky factor"))?;
        let lower = lower.L();
        let upper = |row: usize, col: usize| lower[(inputs - 1 - row, inputs - 1 - col)];
        let diagonal: Vec<f64> = (0..inputs).map(|n| upper(n, n)).collect();
        let mut ratios = vec![0.0; inputs * inputs];
        for (row, ratios) in ratios.chunks_exact_mut(inputs).enumerate() {
            for col in row + 1..inputs {
                ratios[col] = (upper(row, col) / diagonal[col]) as f32;
            }
        }
        Ok(Factor { order, diagonal, ratios })
    }
}

/// Checks that the factor of the moments of `inputs` inputs fits into memory. The diagonal of moments is small, but its
/// factor is not, and the solver aborts the process if it gets no memory.
fn check_memory(inputs: usize) -> Result<(), QuantizeError> {
    // The moments and the solver's factor, both F64, and the ratios, F32.
    let bytes =
        inputs.saturating_mul(inputs).saturating_mul(2 * size_of::<f64>() + size_of::<f32>());
    // Without the black box the compiler removes an allocation that nothing uses.
    let memory = zeros::<u8>(bytes).map(black_box);
    memory.map(drop).map_err(|_| QuantizeError::Memory { bytes: bytes as u64 })
}

/// The factor R of damped moments `H = R R^T`: upper triangular, with rows and columns in `order`.
#[derive(Debug)]
pub(super) struct Factor {
    /// The inputs by descending second moment. All later weights correct for the error of an earlier one, so the inputs
    /// with the largest moments come first.
    pub(super) order: Vec<usize>,
    /// The diagonal of R.
    pub(super) diagonal: Vec<f64>,
    /// `R[j][k] / R[k][k]` above the diagonal, 0 elsewhere; row-major.
    pub(super) ratios: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_factorized_once_for_all_clones() {
        let moments = Moments::new(2, vec![2.0, 1.0, 1.0, 3.0]).unwrap();
        let clone = moments.clone();
        let factor = moments.factor().unwrap();
        assert!(std::ptr::eq(factor, clone.factor().unwrap()));
        assert!(std::ptr::eq(factor, moments.factor().unwrap()));
        // The larger moment comes first.
        assert_eq!(factor.order, [1, 0]);
    }

    #[test]
    fn a_factor_that_does_not_fit_into_memory_is_an_error() {
        let inputs = 1 << 22;
        let moments = Moments::new(inputs, vec![1.0; inputs]).unwrap();
        let bytes = 20 << 44;
        assert_eq!(moments.factor().err(), Some(QuantizeError::Memory { bytes }));
    }
}
