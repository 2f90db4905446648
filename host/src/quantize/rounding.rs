//! Rounds numbers to weights.

use crate::vectorized::vectorized;
use half::bf16;

/// Rounds a finite scale of at least 0 to BF16. The result is finite, and above 0 if `scale` is.
pub(super) fn row_scale(scale: f32) -> bf16 {
    let nearest = bf16::from_f32(scale).min(bf16::MAX);
    if nearest == bf16::ZERO && scale > 0.0 { bf16::from_bits(1) } else { nearest }
}

vectorized! {
    /// Rounds `numbers / scale` to integers from `-most` to `most`, ties to even. A scale of 0 gives 0.
    pub(super) fn integers(numbers: &[f32], scale: f32, most: f32, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = integer(number, scale, most).cast_unsigned();
        }
    }
}

/// Rounds `number / scale` to an integer from `-most` to `most`, ties to even. A scale of 0 gives 0.
#[inline(always)]
pub(super) fn integer(number: f32, scale: f32, most: f32) -> i8 {
    (quotient(number, scale).clamp(-most, most).round_ties_even() as i32) as i8
}

/// Returns `number / scale`, and 0 for a scale of 0.
#[inline(always)]
fn quotient(number: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { number / scale }
}

/// Adds half a unit in the place of bit `dropped` to the bits of an F32 number. Cutting off the lowest `dropped` bits then
/// rounds to nearest, ties to even.
#[inline(always)]
pub(super) fn add_half(bits: u32, dropped: u32) -> u32 {
    bits + (1 << (dropped - 1)) - 1 + (bits >> dropped & 1)
}

/// The largest integer that both BF16 and two signed bytes can represent.
pub(super) const MAX_LARGE_INTEGER: f32 = 32512.0;

vectorized! {
    /// Rounds `numbers / scale` as [`large_integer`] does.
    pub(super) fn large_integers(numbers: &[f32], scale: f32, out: &mut [i16]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = large_integer(number, scale);
        }
    }
}

/// Rounds `number / scale` to an integer that BF16 can represent, from -[`MAX_LARGE_INTEGER`] to [`MAX_LARGE_INTEGER`].
/// Up to 256 these are all integers. A scale of 0 gives 0.
#[inline(always)]
pub(super) fn large_integer(number: f32, scale: f32) -> i16 {
    let nearest =
        quotient(number, scale).clamp(-MAX_LARGE_INTEGER, MAX_LARGE_INTEGER).round_ties_even();
    f32::from_bits(add_half(nearest.to_bits(), 16) & 0xFFFF_0000) as i32 as i16
}

vectorized! {
    /// Copies the low bytes of `integers`. Returns whether every integer fits in its low byte.
    pub(super) fn low_bytes(integers: &[i16], out: &mut [u8]) -> bool {
        let mut differences = 0;
        for (out, &integer) in out.iter_mut().zip(integers) {
            *out = integer as u8;
            differences |= integer ^ i16::from(integer as i8);
        }
        differences == 0
    }
}

vectorized! {
    /// Rounds `numbers / scale` to e4m3 from -448 to 448, ties to even. A scale of 0 gives 0.
    pub(super) fn e4m3s(numbers: &[f32], scale: f32, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = e4m3(quotient(number, scale));
        }
    }
}

/// Returns the bits of the e4m3 number nearest to `number`, which is not NaN. Magnitudes above 448 become 448.
#[inline(always)]
fn e4m3(number: f32) -> u8 {
    /// The smallest normal number, 2^-6. Numbers below it are multiples of 2^-9.
    const SMALLEST_NORMAL: f32 = 1.0 / 64.0;
    let magnitude = number.abs().min(448.0);
    // The mantissa loses 20 of its 23 bits; the exponent's bias changes from 127 to 7.
    let normal = (add_half(magnitude.to_bits(), 20) >> 20).wrapping_sub((127 - 7) << 3);
    let subnormal = (magnitude * 512.0).round_ties_even() as i32 as u32;
    let nearest = if magnitude < SMALLEST_NORMAL { subnormal } else { normal };
    // Zero is written without a sign: both zeros are equally near.
    let sign = if nearest == 0 { 0 } else { number.to_bits() >> 24 & 0x80 };
    (nearest | sign) as u8
}
