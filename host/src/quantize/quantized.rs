//! Quantized matrices.

use super::{NumberMatrix, QuantizeError};
use crate::blob::values::DequantizedValues;
use crate::{Blob, BlobError, Dtype, Encoder, Matrix, WeightsPerSymbol};
use half::bf16;

/// A matrix of one-byte weights with scales, as [`Quantizer::quantize`](super::Quantizer::quantize) returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) weights: Vec<u8>,
    /// A scale for each row.
    pub(super) row_scales: Option<Vec<bf16>>,
    /// What dequantizes the weights, row scales excepted.
    pub(super) numbers: DequantizedValues,
    pub(super) weights_per_symbol: WeightsPerSymbol,
    pub(super) raw_bits: Option<u8>,
    /// Size of the numbers in bytes. A blob must be smaller.
    pub(super) source_bytes: usize,
}

impl Quantized {
    /// Makes weights of `dtype` by running `round` on each row. `round` returns the row's scale.
    pub(super) fn by_row(
        source: NumberMatrix<'_>,
        dtype: Dtype,
        round: impl Fn(usize, &mut [f32], &mut [u8]) -> Result<bf16, QuantizeError> + Sync,
    ) -> Result<Self, QuantizeError> {
        let (weights, scales) = source.map_rows_to_weights(round)?;
        Ok(Self { row_scales: Some(scales), ..Self::new(source, dtype, weights) })
    }

    /// Takes weights of `dtype`, without scales, that were made of `source`.
    pub(super) fn new(source: NumberMatrix<'_>, dtype: Dtype, weights: Vec<u8>) -> Self {
        Self {
            rows: source.rows(),
            cols: source.cols(),
            weights,
            row_scales: None,
            numbers: DequantizedValues { dtype, groups: None, large_integers: Vec::new() },
            weights_per_symbol: WeightsPerSymbol::default(),
            raw_bits: None,
            source_bytes: source.byte_len(),
        }
    }

    /// Compresses the matrix with the options that the quantizer was given, to less than its numbers took.
    ///
    /// # Errors
    /// The errors of [`Encoder::encode`].
    pub fn encode(&self) -> Result<Blob<'static>, BlobError> {
        self.encoder().encode(self.matrix())
    }

    /// Returns the encoder of [`Quantized::encode`].
    #[doc(hidden)]
    pub fn encoder(&self) -> Encoder {
        let encoder = Encoder::new().max_bytes(self.source_bytes);
        let encoder = encoder.weights_per_symbol(self.weights_per_symbol);
        self.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits))
    }

    /// Borrows the weights and scales as a matrix. [`Quantized::encode`] compresses it.
    ///
    /// # Panics
    /// Never: a quantizer makes weights and scales that fit together.
    #[must_use]
    pub fn matrix(&self) -> Matrix<'_> {
        let DequantizedValues { dtype, groups, large_integers } = &self.numbers;
        let matrix = Matrix::from_bytes(*dtype, &self.weights, self.rows, self.cols);
        let mut matrix = matrix.expect("there is one weight per number");
        if let Some(scales) = &self.row_scales {
            matrix = matrix.with_row_scales(scales).expect("each row has a scale");
            matrix = matrix
                .with_large_integers(large_integers)
                .expect("the weights are their low bytes");
        }
        match groups {
            Some(groups) => matrix.with_groups(groups.borrow()).expect("each group has a scale"),
            None => matrix,
        }
    }

    /// Dequantizes row `row` to F32: the same numbers that its blob gives. Use it to measure errors without encoding.
    ///
    /// # Panics
    /// If there is no such row, or `out` is longer than a row.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let stored = &self.weights[row * self.cols..][..self.cols];
        let scale = self.row_scales.as_ref().map(|scales| scales[row].to_f32());
        self.numbers.dequantize_row(scale, row, stored, out);
    }
}
