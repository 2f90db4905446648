//! 4-bit integers with one scale per group: 128 columns of a row.

use super::number_matrix::absmax;
use super::quantized::Quantized;
use super::rounding::{add_half, integer};
use super::{NumberMatrix, QuantizeError};
use crate::Dtype;
use crate::blob::groups::OwnedGroups;
use crate::blob::values::DequantizedValues;
use crate::vectorized::vectorized;
use fused_rans_layout::GROUP;
use half::{bf16, f16};

/// The largest integer. Without zero points the range is symmetric, so that this is the largest magnitude, too.
const LARGEST: f64 = 7.0;
/// Number of steps from the smallest integer, -8, to the largest.
const STEPS: f64 = 15.0;
/// Exponents that a row's largest scale may have in binary16. Smaller ones are left to the row's other groups.
const SCALE_EXPONENTS: std::ops::RangeInclusive<i32> = -12..=14;

/// The scales of a row.
struct Row {
    /// The row's scale, a power of 2 by which the scales of its groups are multiplied.
    factor: bf16,
    /// Scales of the groups.
    scales: Vec<f16>,
    zeros: Vec<i8>,
}

/// Quantizes to 4-bit integers. Without zero points the largest magnitude of a group becomes 7; with them its smallest
/// number becomes -8 and its largest 7.
pub(super) fn int4(
    source: NumberMatrix<'_>,
    zero_points: bool,
) -> Result<Quantized, QuantizeError> {
    let (weights, rows) = source.map_rows_to_weights(|row, numbers, out| {
        let factor = row_factor(absmax(row, numbers)? / LARGEST as f32);
        let groups = numbers.len().div_ceil(GROUP);
        let (mut scales, mut zeros) = (Vec::with_capacity(groups), Vec::with_capacity(groups));
        for (numbers, out) in numbers.chunks(GROUP).zip(out.chunks_mut(GROUP)) {
            let (scale, zero) = match zero_points {
                true => asymmetric(numbers, factor.to_f32()),
                false => (symmetric(numbers, factor.to_f32()), 0),
            };
            round(numbers, scale.to_f32() * factor.to_f32(), zero, out);
            scales.push(scale);
            zeros.push(zero);
        }
        Ok(Row { factor, scales, zeros })
    })?;
    let has_factors = rows.iter().any(|row| row.factor != bf16::ONE);
    let row_scales = has_factors.then(|| rows.iter().map(|row| row.factor).collect());
    let zeros =
        zero_points.then(|| rows.iter().flat_map(|row| row.zeros.iter().copied()).collect());
    let scales = rows.into_iter().flat_map(|row| row.scales).collect();
    let mut quantized = Quantized { row_scales, ..Quantized::new(source, Dtype::I8, weights) };
    quantized.numbers =
        DequantizedValues { groups: Some(OwnedGroups { scales, zeros }), ..quantized.numbers };
    Ok(quantized)
}

/// Returns the power of 2 by which the scales of a row's groups are divided to fit in binary16. `largest` is about the
/// largest of these scales. The result is 1 unless that is extreme.
fn row_factor(largest: f32) -> bf16 {
    // The scale is rounded to binary16's precision first, so that a matrix quantized twice keeps its factors.
    let stored = f32::from_bits(add_half(largest.to_bits(), 13) & !0x1FFF);
    let exponent = match stored {
        0.0 => 0,
        _ => stored.log2().floor() as i32,
    };
    let beyond = exponent - exponent.clamp(*SCALE_EXPONENTS.start(), *SCALE_EXPONENTS.end());
    // 2^-133 is the smallest number of BF16.
    let beyond = beyond.max(-133);
    bf16::from_f32(f64::from(beyond).exp2() as f32)
}

/// Returns the scale by which the largest magnitude becomes 7. Computed in binary64, so that it is rounded only once.
fn symmetric(numbers: &[f32], factor: f32) -> f16 {
    let (low, high) = ends(numbers);
    f16::from_f64(f64::from(high.max(-low)) / LARGEST / f64::from(factor))
}

/// Returns the scale and the zero point by which the smallest number, or 0, becomes -8 and the largest, or 0, becomes 7.
fn asymmetric(numbers: &[f32], factor: f32) -> (f16, i8) {
    let (low, high) = ends(numbers);
    let (low, high, factor) = (f64::from(low), f64::from(high), f64::from(factor));
    // A rounded zero point may dequantize a number to eight steps. The limit keeps these finite.
    let scale = ((high - low) / STEPS).min(f64::from(f32::MAX) / 8.5);
    let scale = f16::from_f64(scale / factor);
    // The zero point lies this many steps above the smallest number.
    let steps = match scale.to_f64() * factor {
        0.0 => 0.0,
        step => (-low / step).min(STEPS).round_ties_even(),
    };
    (scale, steps as i8 - 8)
}

vectorized! {
    /// Returns the smallest and the largest of `numbers` and 0. Sixteen pairs are kept side by side, because a single one
    /// would make each comparison wait for the one before.
    fn ends(numbers: &[f32]) -> (f32, f32) {
        let (mut low, mut high) = ([0.0f32; 16], [0.0f32; 16]);
        let (chunks, rest) = numbers.as_chunks::<16>();
        for chunk in chunks {
            low.iter_mut().zip(chunk).for_each(|(low, &x)| *low = if x < *low { x } else { *low });
            high.iter_mut().zip(chunk).for_each(|(high, &x)| *high = if x > *high { x } else { *high });
        }
        let low = low.iter().chain(rest).fold(0.0f32, |low, &x| low.min(x));
        (low, high.iter().chain(rest).fold(0.0f32, |high, &x| high.max(x)))
    }
}

vectorized! {
    /// Rounds `numbers / scale + zero` to integers from -8 to 7.
    fn round(numbers: &[f32], scale: f32, zero: i8, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            let steps = integer(number, scale, 2.0 * STEPS as f32);
            *out = (steps + zero).clamp(-8, 7).cast_unsigned();
        }
    }
}
