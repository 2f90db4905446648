//! From a number and a scale to the nearest weight.

use crate::vectorized::vectorized;
use half::bf16;

/// The BF16 number nearest to `scale`, of a finite scale of at least 0. At least the smallest above 0 if `scale` is above 0,
/// and finite.
pub(super) fn row_scale(scale: f32) -> bf16 {
    let nearest = bf16::from_f32(scale).min(bf16::MAX);
    if nearest == bf16::ZERO && scale > 0.0 { bf16::from_bits(1) } else { nearest }
}

vectorized! {
    /// The integers nearest to `numbers / scale`, halves to the even one, from `-most` to `most`; 0 where the
    /// scale is.
    pub(super) fn integers(numbers: &[f32], scale: f32, most: f32, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = integer(number, scale, most).cast_unsigned();
        }
    }
}

/// As [`integers`], one.
#[inline(always)]
pub(super) fn integer(number: f32, scale: f32, most: f32) -> i8 {
    (quotient(number, scale).clamp(-most, most).round_ties_even() as i32) as i8
}

/// How many scales a number is: 0 where the scale is.
#[inline(always)]
fn quotient(number: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { number / scale }
}

/// The bits of an F32 number, ready for the lowest `dropped` ones to be cut off: what is left then is the nearest, of two the
/// even one.
#[inline(always)]
pub(super) fn rounded(bits: u32, dropped: u32) -> u32 {
    bits + (1 << (dropped - 1)) - 1 + (bits >> dropped & 1)
}

/// The largest integer that both BF16 and two signed bytes have.
pub(super) const WIDEST: f32 = 32512.0;

vectorized! {
    /// The integers nearest to `numbers / scale`, as [`large_integer`] has them.
    pub(super) fn large_integers(numbers: &[f32], scale: f32, out: &mut [i16]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = large_integer(number, scale);
        }
    }
}

/// The integer nearest to `number / scale` that BF16 has, which are all up to 256, from -[`WIDEST`] to [`WIDEST`]; 0 where
/// the scale is.
#[inline(always)]
pub(super) fn large_integer(number: f32, scale: f32) -> i16 {
    let nearest = quotient(number, scale).clamp(-WIDEST, WIDEST).round_ties_even();
    f32::from_bits(rounded(nearest.to_bits(), 16) & 0xFFFF_0000) as i32 as i16
}

vectorized! {
    /// The low bytes of `integers`; returns whether these are all that there is.
    pub(super) fn low_bytes(integers: &[i16], out: &mut [u8]) -> bool {
        let mut wide = 0;
        for (out, &integer) in out.iter_mut().zip(integers) {
            *out = integer as u8;
            wide |= integer ^ i16::from(integer as i8);
        }
        wide == 0
    }
}

vectorized! {
    /// The e4m3 numbers nearest to `numbers / scale`, of two the one with the even mantissa, at most 448; 0 where the scale
    /// is.
    pub(super) fn e4m3s(numbers: &[f32], scale: f32, out: &mut [u8]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = e4m3(quotient(number, scale));
        }
    }
}

/// Bits of the e4m3 number nearest to `number`, which is not NaN; magnitudes above 448 become that.
#[inline(always)]
fn e4m3(number: f32) -> u8 {
    /// The smallest normal number, 2^-6; below, numbers are multiples of 2^-9.
    const NORMAL: f32 = 1.0 / 64.0;
    let magnitude = number.abs().min(448.0);
    // Twenty bits of the mantissa go; the exponent's bias is 7 instead of 127.
    let normal = (rounded(magnitude.to_bits(), 20) >> 20).wrapping_sub((127 - 7) << 3);
    let subnormal = (magnitude * 512.0).round_ties_even() as i32 as u32;
    let nearest = if magnitude < NORMAL { subnormal } else { normal };
    // Zero has no sign here: a number that rounds to it is as near to the one as to the other.
    let sign = if nearest == 0 { 0 } else { number.to_bits() >> 24 & 0x80 };
    (nearest | sign) as u8
}
