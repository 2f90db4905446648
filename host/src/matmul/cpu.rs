//! Multiplication on the CPU: exact products and F64 sums, as a reference for the kernels.

use super::{Activations, Epilogue, MatmulError, Outputs, check};
use crate::blob::values::DequantizedValues;
use crate::element::zeros;
use crate::vectorized::vectorized;
use crate::{Blob, BlobError};
use fused_rans_layout::TILE;
use rayon::prelude::*;
use std::cell::Cell;

/// Number of rows of activations that each dequantized row of weights is multiplied with.
const ROWS_OF_X: usize = 32;
/// Number of partial sums of a dot product. Fixed, so that every machine adds in the same order.
const PARTIAL_SUMS: usize = 16;

impl Blob<'_> {
    /// Computes y = x W^T with this matrix as W, then applies scale and bias. Verifies every checksum. Use it where
    /// there is no GPU, or as the reference for results of a GPU.
    ///
    /// Products are exact and sums are F64. Outputs are rounded once, to nearest even. They do not depend on the
    /// machine, the number of threads or the other rows of `x`. NaN patterns of FP8 weights are multiplied as +-480:
    /// the documentation of the module [`matmul`](crate::matmul) has the details.
    ///
    /// Runs on rayon's current thread pool. Allocates memory for 256 decoded rows per thread, for 32 rows of x as F32,
    /// for the scales and zero points of groups, and 24 bytes for each large integer.
    ///
    /// ```
    /// use fused_rans_host::{Activations, Epilogue, Matrix, Outputs, encode};
    /// use half::bf16;
    ///
    /// // A 64 x 512 layer of ones, and two rows of 512 activations, of 0.5 and of 2.
    /// let weights = vec![bf16::ONE; 64 * 512];
    /// let blob = encode(Matrix::from_slice(&weights, 64, 512)?)?;
    /// let x = [vec![bf16::from_f32(0.5); 512], vec![bf16::from_f32(2.0); 512]].concat();
    ///
    /// let mut y = vec![0f32; 2 * 64];
    /// blob.matmul(
    ///     Activations::from_slice(&x, 2, 512),
    ///     Outputs::from_slice(&mut y, 64),
    ///     Epilogue { scale: None, bias: Some(&[1.0; 64]) },
    /// )?;
    /// assert_eq!((y[0], y[64]), (257.0, 1025.0));
    /// # Ok::<(), fused_rans_host::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`MatmulError`] for arguments of other types or sizes, before anything is written to `y`;
    /// [`MatmulError::Blob`] for a damaged blob or for too little memory ([`BlobError::Memory`]), after which `y` holds
    /// unspecified numbers. If `x` has no rows, the tiles are not read.
    pub fn matmul(
        &self,
        x: Activations<&[u8]>,
        y: Outputs<&mut [u8]>,
        epilogue: Epilogue<'_>,
    ) -> Result<(), MatmulError> {
        let (x_size, y_size) = (x.sized(x.data.len()), y.sized(y.data.len()));
        check(self.dtype(), self.grid(), x_size, y_size, epilogue)?;
        if x.rows == 0 {
            return Ok(());
        }
        let mut products = Products { blob: self, values: self.values()?, x, y, epilogue };
        let row_bytes = self.cols() * self.dtype().byte_len();
        let part_bytes = rayon::current_num_threads().saturating_mul(TILE * row_bytes);
        let (scratch, mut first_row) = (Cell::new(Vec::new()), 0);
        self.decode_parts(
            None,
            part_bytes,
            || scratch.take(),
            |weights| {
                products.compute(first_row, &weights)?;
                first_row += weights.len() / row_bytes;
                scratch.set(weights);
                Ok(())
            },
        )
    }
}

/// A multiplication in progress, with checked arguments.
struct Products<'a> {
    blob: &'a Blob<'a>,
    values: DequantizedValues,
    x: Activations<&'a [u8]>,
    y: Outputs<&'a mut [u8]>,
    epilogue: Epilogue<'a>,
}

impl Products<'_> {
    /// Computes the outputs of some rows of weights: `stored` holds them, decoded, starting at row `first_row` of the
    /// matrix.
    fn compute(&mut self, first_row: usize, stored: &[u8]) -> Result<(), BlobError> {
        for first in (0..self.x.rows).step_by(ROWS_OF_X) {
            let x = self.load_activations(first, ROWS_OF_X.min(self.x.rows - first))?;
            let sums = self.multiply(&x, first_row, stored)?;
            self.store(first, first_row, x.len() / self.blob.cols(), &sums);
        }
        Ok(())
    }

    /// Loads `rows` rows of x as F32 without gaps, starting at row `first`.
    fn load_activations(&self, first: usize, rows: usize) -> Result<Vec<f32>, BlobError> {
        let (dtype, cols) = (self.x.dtype, self.blob.cols());
        let mut x = zeros(rows * cols)?;
        x.par_chunks_exact_mut(cols).enumerate().for_each(|(row, x)| {
            let start = (first + row) * self.x.row_stride;
            dtype.load(&self.x.data[start * dtype.byte_len()..], x);
        });
        Ok(x)
    }

    /// Computes the dot products of all rows of weights with all rows of `x`: for each row of weights, one sum per row
    /// of x.
    fn multiply(&self, x: &[f32], first_row: usize, stored: &[u8]) -> Result<Vec<f64>, BlobError> {
        let cols = self.blob.cols();
        let x_rows = x.len() / cols;
        let stored = stored.par_chunks_exact(cols * self.blob.dtype().byte_len());
        let mut sums = zeros(stored.len() * x_rows)?;
        let rows = sums.par_chunks_exact_mut(x_rows).zip(stored).enumerate();
        rows.try_for_each_init(
            || zeros(cols),
            |weights, (row, (sums, stored))| {
                let weights = weights.as_mut().map_err(|error| error.clone())?;
                // `store` multiplies the sums by the row scales.
                self.values.load_row(first_row + row, stored, weights);
                for (sum, x) in sums.iter_mut().zip(x.chunks_exact(cols)) {
                    *sum = dot(weights, x);
                }
                Ok(())
            },
        )?;
        Ok(sums)
    }

    /// Multiplies the sums of [`Products::multiply`] by the scales, adds the bias, rounds, and writes the outputs.
    fn store(&mut self, first: usize, first_row: usize, x_rows: usize, sums: &[f64]) {
        let bytes = self.y.dtype.byte_len();
        for m in 0..x_rows {
            let start = (first + m) * self.y.row_stride + first_row;
            let out = self.y.data[start * bytes..].chunks_exact_mut(bytes);
            for ((n, sums), out) in (first_row..).zip(sums.chunks_exact(x_rows)).zip(out) {
                let scale = self.epilogue.scale.map_or(1.0, |scale| f64::from(scale[n]));
                let scale = scale * self.blob.row_scale(n).map_or(1.0, f64::from);
                let bias = self.epilogue.bias.map_or(0.0, |bias| f64::from(bias[n]));
                self.y.dtype.store(sums[m] * scale + bias, out);
            }
        }
    }
}

vectorized! {
    /// Computes the dot product of `a` and `b`. The product of two F32 numbers is exact in F64.
    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let mut sums = [0.0; PARTIAL_SUMS];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTIAL_SUMS>(), b.as_chunks::<PARTIAL_SUMS>());
        for (a, b) in a.iter().zip(b) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += f64::from(a) * f64::from(b);
            }
        }
        for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum += f64::from(a) * f64::from(b);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::header::{HEADER_BYTES, Header, front_crc};
    use crate::{Dtype, Float, Matrix, encode};
    use fused_rans_layout::LINE;

    /// Creates a blob whose tiles are intact, but whose weights do not match their checksum.
    fn other_weights() -> Vec<u8> {
        let weights = vec![3; 1000 * 100];
        let mut bytes = encode(Matrix::from_bytes(Dtype::I8, &weights, 1000, 100).expect("valid"))
            .expect("compressible")
            .into_bytes();
        let blob = Blob::parse(&bytes).expect("valid");
        let front = blob.index()[0].offset as usize * LINE;
        let mut header: Header = bytemuck::pod_read_unaligned(&bytes[..HEADER_BYTES]);
        header.weights_crc ^= 1;
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        header.crc = front_crc(&bytes[..front]);
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        bytes
    }

    #[test]
    fn weights_that_do_not_match_their_checksum_are_an_error() {
        let bytes = other_weights();
        let (x, mut y) = ([0; 2 * 100], vec![0; 2 * 1000]);
        let x = Activations { data: &x[..], dtype: Float::F16, rows: 1, row_stride: 100 };
        let y = Outputs { data: &mut y[..], dtype: Float::F16, row_stride: 1000 };
        let result = Blob::parse(&bytes).expect("valid front").matmul(x, y, Epilogue::default());
        assert_eq!(result, Err(MatmulError::Blob(BlobError::WeightsChecksum)));
    }
}
