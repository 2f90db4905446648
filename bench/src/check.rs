//! Checks outputs against products in F64.

use super::BenchError;
use super::numbers::{Weights, uniform};

/// Number of columns of y that are checked, at most.
const MAX_COLUMNS: usize = 64;
/// Largest error of an F32 sum, relative to the sum of its terms' magnitudes.
const RELATIVE_BOUND: f64 = 4e-6;

/// Some columns of y = x W^T, computed in F64.
pub struct Sample {
    /// Sampled columns of y, which are rows of W, in order.
    columns: Vec<usize>,
    /// Exact outputs, by row of x, then by sampled column.
    exact: Vec<Exact>,
    /// Number of columns of y.
    width: usize,
}

/// An output, computed in F64.
#[derive(Clone, Copy)]
struct Exact {
    value: f64,
    /// Sum of |x||w|.
    magnitude: f64,
}

impl Sample {
    /// Multiplies the rows of `x`, of `cols` numbers each, with sampled rows of `weights`, a matrix of `rows` rows.
    pub fn new(weights: &Weights, rows: usize, x: &[f64], cols: usize) -> Self {
        let columns = columns(rows);
        let sampled: Vec<Vec<f64>> = columns.iter().map(|&row| weights.row(row)).collect();
        let exact = x.chunks_exact(cols);
        let exact = exact.flat_map(|x| sampled.iter().map(|weights| Exact::new(weights, x)));
        Self { exact: exact.collect(), columns, width: rows }
    }

    /// Checks the first `rows` rows of y, little-endian F32. `name` is the layer's, for the error.
    ///
    /// # Errors
    /// [`BenchError::Wrong`] for the first output outside its error bound.
    pub fn check(&self, name: &str, rows: usize, y: &[u8]) -> Result<(), BenchError> {
        for (row, col, exact, found) in self.outputs(rows, y) {
            if !exact.allows(found) {
                let (name, bound) = (name.to_owned(), exact.bound());
                let exact = exact.value;
                return Err(BenchError::Wrong { name, rows, row, col, found, exact, bound });
            }
        }
        Ok(())
    }

    /// Returns the relative error of the first `rows` rows of y: the norm of the error over the norm of the product.
    pub fn error(&self, rows: usize, y: &[u8]) -> f64 {
        let (mut error, mut norm) = (0.0, 0.0);
        for (_, _, Exact { value, .. }, found) in self.outputs(rows, y) {
            error += (f64::from(found) - value).powi(2);
            norm += value.powi(2);
        }
        if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
    }

    /// Returns row, column, exact and found output of every sampled output.
    fn outputs<'a>(
        &'a self,
        rows: usize,
        y: &'a [u8],
    ) -> impl Iterator<Item = (usize, usize, Exact, f32)> + 'a {
        let y = y.as_chunks().0;
        let places = (0..rows).flat_map(|row| self.columns.iter().map(move |&col| (row, col)));
        places.zip(&self.exact).map(|((row, col), &exact)| {
            (row, col, exact, f32::from_le_bytes(y[row * self.width + col]))
        })
    }
}

impl Exact {
    /// Computes a product and its error bound.
    fn new(weights: &[f64], x: &[f64]) -> Self {
        let products = weights.iter().zip(x).map(|(weight, x)| weight * x);
        let (value, magnitude) = products.fold((0.0, 0.0), |(sum, magnitude), product| {
            (sum + product, magnitude + product.abs())
        });
        Self { value, magnitude }
    }

    /// Returns the largest error of an output.
    fn bound(self) -> f64 {
        RELATIVE_BOUND * self.magnitude
    }

    /// Returns whether the output `found` is right. Infinities and NaN must be equal. Where an F32 sum may overflow, any output
    /// is right.
    fn allows(self, found: f32) -> bool {
        let Self { value, magnitude } = self;
        let found = f64::from(found);
        match value.is_finite() {
            true => (found - value).abs() <= self.bound() || magnitude > f64::from(f32::MAX),
            false => found == value || value.is_nan() && found.is_nan(),
        }
    }
}

/// Returns the columns to check, in order: all of `width`, or the last one and random ones, always the same.
fn columns(width: usize) -> Vec<usize> {
    if width <= MAX_COLUMNS {
        return (0..width).collect();
    }
    let mut state = width as u64;
    let mut columns = vec![width - 1];
    while columns.len() < MAX_COLUMNS {
        let column = ((uniform(&mut state) + 1.0) / 2.0 * width as f64) as usize;
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns.sort_unstable();
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_rans::{Dtype, Matrix, encode};

    #[test]
    fn columns_are_distinct_and_there() {
        assert_eq!(columns(3), [0, 1, 2]);
        for width in [65, 4096, 28672] {
            let columns = columns(width);
            assert!(columns.len() == MAX_COLUMNS && columns.is_sorted_by(|a, b| a < b));
            assert_eq!(columns.last(), Some(&(width - 1)));
        }
    }

    #[test]
    fn errors_beyond_the_bound_are_found() {
        let exact = Exact { value: 1.0, magnitude: 1000.0 };
        assert!(exact.allows(1.003_9) && exact.allows(0.996_1));
        for wrong in [1.004_1, 0.995_9, -1.0, f32::NAN, f32::INFINITY] {
            assert!(!exact.allows(wrong), "{wrong}");
        }
        let infinite = Exact { value: f64::INFINITY, magnitude: f64::INFINITY };
        assert!(infinite.allows(f32::INFINITY) && !infinite.allows(1.0));
        let nan = Exact { value: f64::NAN, magnitude: f64::NAN };
        assert!(nan.allows(f32::NAN) && !nan.allows(0.0));
        assert!(Exact { value: 1e39, magnitude: 1e39 }.allows(f32::INFINITY));
    }

    /// Multiplies 100 x 256 ones and twos with three rows of x.
    #[test]
    fn a_product_passes_and_one_wrong_output_does_not() {
        let bytes: Vec<u8> = (0..100 * 256).map(|i| 1 + u8::from(i / 256 == 99)).collect();
        let blob = encode(Matrix::from_bytes(Dtype::I8, &bytes, 100, 256).unwrap()).unwrap();
        let weights = Weights::decode(&blob).unwrap();
        let x: Vec<f64> = (0..3 * 256).map(|i| f64::from(i / 256)).collect();
        let sample = Sample::new(&weights, 100, &x, 256);
        let mut y: Vec<u8> = (0..300)
            .map(|i| 256.0 * (i / 100 * (1 + i32::from(i % 100 == 99))) as f32)
            .flat_map(f32::to_le_bytes)
            .collect();
        assert!(sample.check("layer", 3, &y).is_ok());
        assert_eq!(sample.error(3, &y), 0.0);
        y[4 * 299..].copy_from_slice(&1023.0f32.to_le_bytes());
        assert!(sample.check("layer", 2, &y).is_ok());
        let error = sample.check("layer", 3, &y).unwrap_err().to_string();
        assert!(error.contains("layer, 3 rows of x: output [2][99] is 1.023e3"), "{error}");
        assert!(sample.error(3, &y) > 1e-5);
    }
}
