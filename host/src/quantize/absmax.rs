//! Quantizers with one scale per row, set by the row's largest magnitude.

use super::number_matrix::absmax;
use super::quantized::Quantized;
use super::rounding::{e4m3s, integers, row_scale};
use super::{NumberMatrix, QuantizeError};
use crate::Dtype;

/// The largest integer in use. -128 is not, so that the range is symmetric.
const MAX_INT8: f32 = 127.0;
/// The largest finite e4m3 number.
const MAX_E4M3: f32 = 448.0;

/// Quantizes to 8-bit integers.
pub(super) fn int8(source: NumberMatrix<'_>) -> Result<Quantized, QuantizeError> {
    let round = |numbers: &[f32], scale, out: &mut [u8]| integers(numbers, scale, MAX_INT8, out);
    by_row(source, Dtype::I8, MAX_INT8, round)
}

/// Quantizes to FP8 e4m3.
pub(super) fn fp8(source: NumberMatrix<'_>) -> Result<Quantized, QuantizeError> {
    by_row(source, Dtype::F8E4M3, MAX_E4M3, e4m3s)
}

/// Quantizes each row with the scale by which its largest magnitude becomes `largest`.
///
/// Rounding the scale to BF16 changes it by a factor of at most 1 +- 2^-9. That is too little to move the largest weight
/// off `largest`, so quantizing the result again changes nothing.
fn by_row(
    source: NumberMatrix<'_>,
    dtype: Dtype,
    largest: f32,
    round: impl Fn(&[f32], f32, &mut [u8]) + Sync,
) -> Result<Quantized, QuantizeError> {
    Quantized::by_row(source, dtype, |row, numbers, out| {
        let scale = row_scale(absmax(row, numbers)? / largest);
        round(numbers, scale.to_f32(), out);
        Ok(scale)
    })
}
