//! Quantized matrices.

use super::{NumberMatrix, QuantizeError};
use crate::blob::values::Numbers;
use crate::{Dtype, Matrix, WeightsPerSymbol};
use half::bf16;

/// A matrix of one-byte weights with scales, as [`Quantizer::quantize`](super::Quantizer::quantize) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantized {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) weights: Vec<u8>,
    /// Bits of BF16 numbers, one per row.
    pub(super) row_scales: Option<Vec<u16>>,
    /// What dequantizes the weights, row scales excepted.
    pub(super) numbers: Numbers,
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
        let row_scales = Some(scales.into_iter().map(bf16::to_bits).collect());
        Ok(Self { row_scales, ..Self::new(source, dtype, weights) })
    }

    /// Takes weights of `dtype`, without scales, that were made of `source`.
    pub(super) fn new(source: NumberMatrix<'_>, dtype: Dtype, weights: Vec<u8>) -> Self {
        Self {
            rows: source.rows(),
            cols: source.cols(),
            weights,
            row_scales: None,
            numbers: Numbers { dtype, groups: None, wide: Vec::new() },
            weights_per_symbol: WeightsPerSymbol::default(),
            raw_bits: None,
            source_bytes: source.byte_len(),
        }
    }

    /// Borrows the weights and scales as a matrix to be encoded.
    ///
    /// # Panics
    /// Never: a quantizer makes weights and scales that fit together.
    #[must_use]
    pub fn matrix(&self) -> Matrix<'_> {
        let Numbers { dtype, groups, wide } = &self.numbers;
        let matrix = Matrix::new(*dtype, self.rows, self.cols, &self.weights);
        let mut matrix = matrix
            .expect("there is one weight per number")
            .instead_of(self.source_bytes)
            .packed(self.weights_per_symbol);
        if let Some(raw_bits) = self.raw_bits {
            matrix = matrix.split_at(raw_bits);
        }
        if let Some(scales) = &self.row_scales {
            matrix = matrix.scaled(scales).expect("each row has a scale");
            matrix = matrix.with_large_integers(wide).expect("the weights are their low bytes");
        }
        match groups {
            Some(groups) => matrix.grouped(groups.borrow()).expect("each group has a scale"),
            None => matrix,
        }
    }

    /// Dequantizes row `row` to F32: the same numbers that its blob gives. Use it to measure errors without encoding.
    ///
    /// # Panics
    /// If there is no such row, or `out` is longer than a row.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let stored = &self.weights[row * self.cols..][..self.cols];
        let scale = self.row_scales.as_ref().map(|scales| bf16::from_bits(scales[row]).to_f32());
        self.numbers.dequantize_row(scale, row, stored, out);
    }
}
