//! The multiplication on the CPU: exact enough to stand for the product, whatever the order of sums.

use super::{Activations, Epilogue, MatmulError, Outputs, check};
use crate::blob::values::DequantizedValues;
use crate::codec::parallel_crc;
use crate::vectorized::vectorized;
use crate::{Blob, BlobError};
use fused_rans_layout::{Entry, TABLE, TILE};
use rayon::prelude::*;

/// Rows of activations that are multiplied with a row of weights while it is at hand as F32.
const BLOCK: usize = 32;
/// Partial sums of a dot product. Fixed, so that every machine adds in the same order.
const PARTS: usize = 16;

impl Blob<'_> {
    /// y = x W^T with this blob's matrix as W, then scale and bias. Verifies every checksum. Runs on
    /// rayon's current thread pool and takes the memory of 256 decoded rows for each of its threads,
    /// of 32 rows of x as F32, of the scales and zero points of groups, and 24 bytes for each integer of more than a
    /// byte.
    ///
    /// Products are exact, sums are F64: outputs are rounded once, to nearest even, and do not depend
    /// on the machine, its threads or the other rows of `x`. NaN patterns of FP8 weights are
    /// multiplied as +-480; check inputs beforehand. With groups, every weight is
    /// `scale * (integer - zero point)`, whatever number the scale is.
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
    ///     Activations::from_slice(&x, 2),
    ///     Outputs::from_slice(&mut y, 2),
    ///     Epilogue { scale: None, bias: Some(&[1.0; 64]) },
    /// )?;
    /// assert_eq!((y[0], y[64]), (257.0, 1025.0));
    /// # Ok::<(), fused_rans_host::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`MatmulError`] for operands that [`check`] refuses, which leaves `y` as it was, and for a
    /// damaged blob, after which `y` holds unspecified numbers. With no rows in `x`, nothing is read.
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
        let table = self.frequencies().decode_table();
        let row_bytes = self.cols() * self.dtype().byte_len();
        let rows_at_once = rayon::current_num_threads().saturating_mul(TILE).min(self.rows());
        let mut weights = vec![0; rows_at_once * row_bytes];
        let mut crc = 0;
        for first_row in (0..self.rows()).step_by(rows_at_once) {
            let rows = rows_at_once.min(self.rows() - first_row);
            let weights = &mut weights[..rows * row_bytes];
            self.decode_rows(first_row, weights, &table)?;
            crc = crc32c::crc32c_combine(crc, parallel_crc(weights), weights.len());
            products.add_rows(first_row, weights);
        }
        if crc == self.weights_crc() { Ok(()) } else { Err(BlobError::WeightsChecksum.into()) }
    }

    /// Decodes the rows from `first_row` on, a multiple of [`TILE`], into `out`.
    fn decode_rows(
        &self,
        first_row: usize,
        out: &mut [u8],
        table: &[Entry; TABLE],
    ) -> Result<(), BlobError> {
        let row_bytes = self.cols() * self.dtype().byte_len();
        let bands = out.par_chunks_mut(TILE.min(self.rows()) * row_bytes).enumerate();
        bands.try_for_each(|(band, out)| self.decode_tile_row(first_row / TILE + band, out, table))
    }
}

/// A multiplication under way; the operands have been checked.
struct Products<'a> {
    blob: &'a Blob<'a>,
    values: DequantizedValues,
    x: Activations<&'a [u8]>,
    y: Outputs<&'a mut [u8]>,
    epilogue: Epilogue<'a>,
}

impl Products<'_> {
    /// Computes the outputs of the rows of weights in `stored`, the matrix's from `first_row` on.
    fn add_rows(&mut self, first_row: usize, stored: &[u8]) {
        for first in (0..self.x.rows).step_by(BLOCK) {
            let x = self.load_activations(first, BLOCK.min(self.x.rows - first));
            let sums = self.multiply(&x, first_row, stored);
            self.store(first, first_row, x.len() / self.blob.cols(), &sums);
        }
    }

    /// `rows` rows of x from `first` on, one behind the other.
    fn load_activations(&self, first: usize, rows: usize) -> Vec<f32> {
        let (dtype, cols) = (self.x.dtype, self.blob.cols());
        let mut x = vec![0.0; rows * cols];
        x.par_chunks_exact_mut(cols).enumerate().for_each(|(row, x)| {
            let start = (first + row) * self.x.row_stride;
            dtype.load(&self.x.data[start * dtype.byte_len()..], x);
        });
        x
    }

    /// The sums of products, by rows of weights and then by rows of x.
    fn multiply(&self, x: &[f32], first_row: usize, stored: &[u8]) -> Vec<f64> {
        let cols = self.blob.cols();
        let x_rows = x.len() / cols;
        let stored = stored.par_chunks_exact(cols * self.blob.dtype().byte_len());
        let mut sums = vec![0.0; stored.len() * x_rows];
        let rows = sums.par_chunks_exact_mut(x_rows).zip(stored).enumerate();
        rows.for_each_init(
            || vec![0.0; cols],
            |weights, (row, (sums, stored))| {
                // Scales of rows are the sums' (`store`).
                self.values.load_row(first_row + row, stored, weights);
                for (sum, x) in sums.iter_mut().zip(x.chunks_exact(cols)) {
                    *sum = dot(weights, x);
                }
            },
        );
        sums
    }

    /// Scales, adds the bias, rounds and stores what [`Products::multiply`] gave.
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
    /// The sum of the products of `a` and `b`. A product of two F32s is exact in F64.
    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let mut sums = [0.0; PARTS];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>());
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

    /// A blob whose tiles are intact, but not those of the matrix that its header speaks of.
    fn other_weights() -> Vec<u8> {
        let weights = vec![3; 1000 * 100];
        let mut bytes =
            encode(Matrix::from_bytes(Dtype::I8, &weights, 1000, 100).expect("it fits"))
                .expect("it shrinks")
                .into_bytes();
        let blob = Blob::parse(&bytes).expect("it is one");
        let front = blob.index()[0].offset as usize * LINE;
        let mut header: Header = bytemuck::pod_read_unaligned(&bytes[..HEADER_BYTES]);
        header.weights_crc ^= 1;
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        header.crc = front_crc(&bytes[..front]);
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        bytes
    }

    #[test]
    fn other_weights_than_were_compressed_are_an_error() {
        let bytes = other_weights();
        let (x, mut y) = ([0; 2 * 100], vec![0; 2 * 1000]);
        let x = Activations { data: &x[..], dtype: Float::F16, rows: 1, row_stride: 100 };
        let y = Outputs { data: &mut y[..], dtype: Float::F16, row_stride: 1000 };
        let result =
            Blob::parse(&bytes).expect("its front is intact").matmul(x, y, Epilogue::default());
        assert_eq!(result, Err(MatmulError::Blob(BlobError::WeightsChecksum)));
    }
}
