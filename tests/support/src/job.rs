//! A matrix with its encoder.

use fused_rans::{Encoder, Groups, LargeInteger, Matrix, encode, reference};
use half::bf16;
use half::slice::HalfBitsSliceExt;

/// A matrix and its encoder.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The matrix.
    pub matrix: Matrix<'a>,
    /// Its encoder.
    pub encoder: Encoder,
}

impl<'a> Job<'a> {
    /// Accepts blobs of less than `bytes` bytes.
    pub fn max_bytes(self, bytes: usize) -> Self {
        Self { encoder: self.encoder.max_bytes(bytes), ..self }
    }

    /// Adds row scales: the bits of BF16 numbers.
    pub fn with_row_scales(self, scales: &'a [u16]) -> Self {
        let matrix = self.matrix.with_row_scales(scales.reinterpret_cast()).unwrap();
        Self { matrix, ..self }
    }

    /// Adds scales of groups.
    pub fn with_groups(self, groups: Groups<'a>) -> Self {
        Self { matrix: self.matrix.with_groups(groups).unwrap(), ..self }
    }

    /// Adds large integers.
    pub fn with_large_integers(self, integers: &'a [LargeInteger]) -> Self {
        Self { matrix: self.matrix.with_large_integers(integers).unwrap(), ..self }
    }

    /// Encodes with the public encoder; returns `None` if the matrix does not shrink.
    pub fn encode(&self) -> Option<Vec<u8>> {
        self.encoder.encode(self.matrix).ok().map(Into::into)
    }

    /// Encodes with the reference codec.
    pub fn encode_by_reference(&self) -> Option<Vec<u8>> {
        reference::encode(&self.encoder, self.matrix).ok().map(Into::into)
    }
}

/// Encodes with the default options; returns `None` if the matrix does not shrink.
pub fn encoded(matrix: Matrix<'_>) -> Option<Vec<u8>> {
    encode(matrix).ok().map(Into::into)
}

/// Returns the numbers that have these bits.
pub fn bf16s(bits: &[u16]) -> &[bf16] {
    bits.reinterpret_cast()
}
