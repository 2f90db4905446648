//! Matrices in, blobs out.

use crate::{BlobError, Dtype};

/// A row-major matrix of weights, little endian, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: Dtype,
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// A view of `data` as `rows` x `cols` weights of `dtype`.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `data` is not `rows * cols * dtype.bytes()` long.
    pub fn new(dtype: Dtype, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self, BlobError> {
        let _ = (dtype, rows, cols, data);
        todo!()
    }
}

/// Compresses `matrix`; `None` if that would not make it smaller.
#[must_use]
pub fn encode(matrix: Matrix<'_>) -> Option<Vec<u8>> {
    let _ = (matrix.dtype, matrix.rows, matrix.cols, matrix.data);
    todo!()
}

/// Order-0 entropy of the exponents (of whole values, for integers) in `data`, plus the bits beside
/// them, in bits per weight. 0 for no data.
#[must_use]
pub fn entropy(dtype: Dtype, data: &[u8]) -> f64 {
    let _ = (dtype, data);
    todo!()
}
