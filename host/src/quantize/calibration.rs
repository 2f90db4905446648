//! What is known of a layer's inputs.

use super::QuantizeError;
use faer::Mat;
use faer::Side;
use faer::linalg::solvers::Llt;
use std::sync::{Arc, OnceLock};

/// Second moments of a layer's K inputs: the mean of `x x^T` over activations x, K x K, or its diagonal.
///
/// Clones share their memory, and what is computed once for all matrices that have these inputs.
#[derive(Clone, Debug)]
pub struct Moments {
    inputs: usize,
    /// K x K, row-major, or K.
    values: Arc<Vec<f32>>,
    /// Made when it is first asked for.
    factor: Arc<OnceLock<Factor>>,
}

/// What is added to the diagonal, of its mean: moments of a few thousand activations are not the truth, and inputs that
/// are always 0 have none.
const DAMPING: f64 = 0.01;

impl Moments {
    /// Moments of `inputs` inputs: `inputs * inputs` numbers, row by row, or the `inputs` on the diagonal.
    ///
    /// # Errors
    /// [`QuantizeError::Moments`] for another number of numbers, [`QuantizeError::Indefinite`] for such as are not
    /// finite, or negative on the diagonal.
    pub fn new(inputs: usize, values: Vec<f32>) -> Result<Self, QuantizeError> {
        if inputs == 0 || values.len() != inputs && Some(values.len()) != inputs.checked_mul(inputs)
        {
            return Err(QuantizeError::Moments { cols: inputs, found: values.len() });
        }
        let moments = Self { inputs, values: Arc::new(values), factor: Arc::default() };
        if !moments.values.iter().all(|value| value.is_finite()) {
            return Err(QuantizeError::Indefinite("there is a NaN or an infinity"));
        }
        if moments.diagonal().any(|value| value < 0.0) {
            return Err(QuantizeError::Indefinite("a square is negative"));
        }
        Ok(moments)
    }

    /// K.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Whether only the diagonal is known. (For one input, that is all there is.)
    fn is_diagonal(&self) -> bool {
        self.values.len() == self.inputs
    }

    fn diagonal(&self) -> impl Iterator<Item = f64> {
        let stride = if self.is_diagonal() { 1 } else { self.inputs + 1 };
        self.values.iter().step_by(stride).map(|&value| f64::from(value))
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        match self.is_diagonal() {
            true if row != col => 0.0,
            true => self.values[row].into(),
            false => self.values[row * self.inputs + col].into(),
        }
    }

    /// The mean square of the outputs of a row of weights: `w H w^T`.
    #[must_use]
    pub fn output(&self, weights: &[f32]) -> f64 {
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

    /// Whether these are clones of each other.
    #[cfg(test)]
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.factor, &other.factor)
    }

    /// The moments as a factor of themselves.
    pub(super) fn factor(&self) -> Result<&Factor, QuantizeError> {
        if let Some(factor) = self.factor.get() {
            return Ok(factor);
        }
        let factor = self.factorize()?;
        Ok(self.factor.get_or_init(|| factor))
    }

    fn factorize(&self) -> Result<Factor, QuantizeError> {
        let inputs = self.inputs;
        let diagonal: Vec<f64> = self.diagonal().collect();
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        let mean = diagonal.iter().sum::<f64>() / inputs as f64;
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        // From the last to the first, so that its lower factor, read backwards, is an upper one.
        let place = |n: usize| order[inputs - 1 - n];
        let reversed = Mat::from_fn(inputs, inputs, |row, col| {
            let value = self.at(place(row), place(col));
            if row == col { value + damping } else { value }
        });
        let lower = Llt::new(reversed.as_ref(), Side::Lower)
            .map_err(|_| QuantizeError::Indefinite("they have no Cholesky factor"))?;
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

/// Moments H as `R R^T`, R being upper triangular, its rows and columns in another order.
#[derive(Debug)]
pub(super) struct Factor {
    /// The inputs in the order of R: by falling second moment. An error in the first is made up for by all
    /// others; so the largest come first.
    pub(super) order: Vec<usize>,
    /// R's diagonal.
    pub(super) diagonal: Vec<f64>,
    /// `R[j][k] / R[k][k]` above the diagonal, elsewhere 0; row-major.
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
}
