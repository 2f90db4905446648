//! A scale a row, by its largest number.

use super::quantized::Quantized;
use super::round::{e4m3s, integers, row_scale};
use super::source::absmax;
use super::{NumberMatrix, QuantizeError};
use crate::Dtype;

/// The largest integer.
const INT8: f32 = 127.0;
/// The largest e4m3 number.
const FP8: f32 = 448.0;

/// Integers of 8 bits.
pub(super) fn int8(source: NumberMatrix<'_>) -> Result<Quantized, QuantizeError> {
    by_row(source, Dtype::I8, INT8, |numbers, scale, out| integers(numbers, scale, INT8, out))
}

/// FP8 e4m3.
pub(super) fn fp8(source: NumberMatrix<'_>) -> Result<Quantized, QuantizeError> {
    by_row(source, Dtype::F8E4M3, FP8, e4m3s)
}

/// Each row with the scale by which its largest number becomes `largest`. (BF16 rounds that by 2^-9 at most, so that it
/// becomes that indeed, and that quantizing what came out changes nothing.)
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
