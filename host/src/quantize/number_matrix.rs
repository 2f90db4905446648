//! Matrices of numbers to be quantized.

use super::QuantizeError;
use crate::element::as_bytes;
use crate::vectorized::vectorized;
use crate::{Float, FloatElement};
use fused_rans_layout::TileGrid;
use rayon::prelude::*;

/// A row-major matrix of BF16, FP16 or F32 numbers: the input of [`Quantizer::quantize`](super::Quantizer::quantize).
#[derive(Clone, Copy, Debug)]
pub struct NumberMatrix<'a> {
    dtype: Float,
    rows: usize,
    cols: usize,
    /// Little-endian numbers, at any alignment.
    data: &'a [u8],
}

impl<'a> NumberMatrix<'a> {
    /// Borrows `numbers` as a matrix of `rows` x `cols`, both at least 1. Use it for numbers that have a type;
    /// [`NumberMatrix::from_bytes`] is for bytes of a file.
    ///
    /// # Errors
    /// [`QuantizeError::BufferSize`] unless `numbers` has `rows * cols` elements, at least one.
    pub fn from_slice<T: FloatElement>(
        numbers: &'a [T],
        rows: usize,
        cols: usize,
    ) -> Result<Self, QuantizeError> {
        Self::from_bytes(T::FLOAT, as_bytes(numbers), rows, cols)
    }

    /// Borrows little-endian `bytes`, at any alignment, as a matrix of `rows` x `cols`, both at least 1.
    ///
    /// # Errors
    /// [`QuantizeError::BufferSize`] unless `bytes` has the bytes of `rows * cols` numbers, at least one.
    pub fn from_bytes(
        dtype: Float,
        bytes: &'a [u8],
        rows: usize,
        cols: usize,
    ) -> Result<Self, QuantizeError> {
        let expected =
            rows.checked_mul(cols).and_then(|numbers| numbers.checked_mul(dtype.byte_len()));
        if expected != Some(bytes.len()) || bytes.is_empty() {
            return Err(QuantizeError::BufferSize { dtype, rows, cols, found: bytes.len() });
        }
        Ok(Self { dtype, rows, cols, data: bytes })
    }

    /// Returns the type of the numbers.
    #[must_use]
    pub fn dtype(self) -> Float {
        self.dtype
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn cols(self) -> usize {
        self.cols
    }

    /// Returns the size of the matrix in bytes.
    #[must_use]
    pub fn byte_len(self) -> usize {
        self.data.len()
    }

    /// Returns the tiles of a matrix of this shape.
    pub(super) fn grid(self) -> TileGrid {
        TileGrid { rows: self.rows, cols: self.cols }
    }

    /// Converts the first `out.len()` numbers of row `row` to F32, which is exact.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn load_row(self, row: usize, out: &mut [f32]) {
        let bytes = self.cols * self.dtype.byte_len();
        self.dtype.load(&self.data[row * bytes..][..bytes], out);
    }

    /// Runs `job` on each row in parallel. The job gets the row's index, its numbers, which it may change, and the place of
    /// its weights, one byte each. Returns the weights of all rows, and what the jobs returned, in order.
    pub(super) fn map_rows_to_weights<T: Send>(
        self,
        job: impl Fn(usize, &mut [f32], &mut [u8]) -> Result<T, QuantizeError> + Sync,
    ) -> Result<(Vec<u8>, Vec<T>), QuantizeError> {
        let mut weights = vec![0; self.rows * self.cols];
        // A matrix has at least one column, as chunks need.
        let rows = weights.par_chunks_mut(self.cols).enumerate().map_init(
            || vec![0.0; self.cols],
            |numbers, (row, out)| {
                self.load_row(row, numbers);
                job(row, numbers, out)
            },
        );
        let results = rows.collect::<Result<_, _>>()?;
        Ok((weights, results))
    }

    /// Runs `job` on the index and the numbers of each of `rows` in parallel. Returns the results in order.
    pub(super) fn map_rows<T: Send>(
        self,
        rows: &[usize],
        job: impl Fn(usize, &[f32]) -> Result<T, QuantizeError> + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        let load = |numbers: &mut Vec<f32>, &row: &usize| {
            self.load_row(row, numbers);
            job(row, numbers)
        };
        rows.par_iter().map_init(|| vec![0.0; self.cols], load).collect()
    }
}

/// Returns the largest magnitude of row `row`, or [`QuantizeError::NotFinite`] for its first number that is not finite.
pub(super) fn absmax(row: usize, numbers: &[f32]) -> Result<f32, QuantizeError> {
    let largest = largest_bits(numbers);
    if largest < f32::INFINITY.to_bits() {
        return Ok(f32::from_bits(largest));
    }
    let found = numbers.iter().enumerate().find(|(_, number)| !number.is_finite());
    let (col, &value) = found.expect("the largest one is not finite");
    Err(QuantizeError::NotFinite { row, col, value })
}

vectorized! {
    /// Returns the bits of the largest magnitude. Bits of magnitudes ascend with them, then infinity and NaN follow.
    fn largest_bits(numbers: &[f32]) -> u32 {
        numbers.iter().fold(0, |largest, number| largest.max(number.abs().to_bits()))
    }
}
