//! Integers of 4 bits, a scale for every 128 columns of a row.

use super::quantized::Quantized;
use super::round::{integer, rounded};
use super::source::absmax;
use super::{NumberMatrix, QuantizeError};
use crate::Dtype;
use crate::blob::groups::OwnedGroups;
use crate::blob::values::Numbers;
use crate::vectorized::vectorized;
use fused_rans_layout::GROUP;
use half::{bf16, f16};

/// The largest integer; of those without a zero point also the smallest's magnitude.
const LARGEST: f64 = 7.0;
/// Steps from the smallest integer, -8, to the largest.
const STEPS: f64 = 15.0;
/// Exponents that binary16 has room for: those of a row's largest scale, with some below for its other groups.
const EXPONENTS: std::ops::RangeInclusive<i32> = -12..=14;

/// What becomes of a row.
struct Row {
    /// What the scales of its groups are multiplied with: a power of two.
    factor: bf16,
    scales: Vec<u16>,
    zeros: Vec<i8>,
}

pub(super) fn int4(
    source: NumberMatrix<'_>,
    zero_points: bool,
) -> Result<Quantized, QuantizeError> {
    let (weights, rows) = source.map_rows_to_weights(|row, numbers, out| {
        let factor = factor(absmax(row, numbers)? / LARGEST as f32);
        let across = numbers.len().div_ceil(GROUP);
        let (mut scales, mut zeros) = (Vec::with_capacity(across), Vec::with_capacity(across));
        for (numbers, out) in numbers.chunks(GROUP).zip(out.chunks_mut(GROUP)) {
            let (scale, zero) = match zero_points {
                true => asymmetric(numbers, factor.to_f32()),
                false => (symmetric(numbers, factor.to_f32()), 0),
            };
            round(numbers, scale.to_f32() * factor.to_f32(), zero, out);
            scales.push(scale.to_bits());
            zeros.push(zero);
        }
        Ok(Row { factor, scales, zeros })
    })?;
    let factors = rows.iter().any(|row| row.factor != bf16::ONE);
    let row_scales = factors.then(|| rows.iter().map(|row| row.factor.to_bits()).collect());
    let zeros =
        zero_points.then(|| rows.iter().flat_map(|row| row.zeros.iter().copied()).collect());
    let scales = rows.into_iter().flat_map(|row| row.scales).collect();
    let mut made = Quantized { row_scales, ..Quantized::new(source, Dtype::I8, weights) };
    made.numbers = Numbers { groups: Some(OwnedGroups { scales, zeros }), ..made.numbers };
    Ok(made)
}

/// The power of two that a row's scales are divided by, the largest of which is about `largest`: 1 for nearly all.
fn factor(largest: f32) -> bf16 {
    // Of the scale as binary16 has it: what was quantized once keeps its factor.
    let stored = f32::from_bits(rounded(largest.to_bits(), 13) & !0x1FFF);
    let exponent = match stored {
        0.0 => 0,
        _ => stored.log2().floor() as i32,
    };
    let beyond = exponent - exponent.clamp(*EXPONENTS.start(), *EXPONENTS.end());
    // The smallest number that BF16 has.
    let beyond = beyond.max(-133);
    bf16::from_f32(f64::from(beyond).exp2() as f32)
}

/// The scale by which the largest magnitude becomes 7. (In binary64, for it to be rounded once.)
fn symmetric(numbers: &[f32], factor: f32) -> f16 {
    let (low, high) = ends(numbers);
    f16::from_f64(f64::from(high.max(-low)) / LARGEST / f64::from(factor))
}

/// The scale and the zero point by which the smallest number becomes -8 and the largest 7, 0 lying between.
fn asymmetric(numbers: &[f32], factor: f32) -> (f16, i8) {
    let (low, high) = ends(numbers);
    let (low, high, factor) = (f64::from(low), f64::from(high), f64::from(factor));
    // Eight steps, to which the zero point may round, are a finite number, too.
    let scale = ((high - low) / STEPS).min(f64::from(f32::MAX) / 8.5);
    let scale = f16::from_f64(scale / factor);
    // 0 becomes the zero point: so many steps above the smallest.
    let steps = match scale.to_f64() * factor {
        0.0 => 0.0,
        step => (-low / step).min(STEPS).round_ties_even(),
    };
    (scale, steps as i8 - 8)
}

vectorized! {
    /// The smallest and the largest of `numbers` and 0. (Of sixteen at a time: in one after the other, each would wait for the
    /// one before.)
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
    /// The integers nearest to `numbers / scale + zero`.
    fn round(numbers: &[f32], scale: f32, zero: i8, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            let steps = integer(number, scale, 2.0 * STEPS as f32);
            *out = (steps + zero).clamp(-8, 7).cast_unsigned();
        }
    }
}
