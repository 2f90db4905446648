//! Floating-point types, and conversions between stored elements and F32 numbers.

use crate::{Dtype, Groups};
use fused_rans_layout::{GROUP, e4m3_to_f32};
use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// Element type of activations, outputs and dequantized values.
///
/// It parses from and displays as its name in safetensors headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Float {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32. Not a type of activations.
    F32,
}

impl Float {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    /// Returns the size of an element in bytes.
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Returns the name of the type in safetensors headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }

    /// Converts the elements in `stored` to F32, one for each element of `out`.
    pub(crate) fn load(self, stored: &[u8], out: &mut [f32]) {
        match self {
            Self::Bf16 => load_each(stored, out, |bits| bf16::from_le_bytes(bits).to_f32()),
            Self::F16 => load_each(stored, out, |bits| f16::from_le_bytes(bits).to_f32()),
            Self::F32 => load_each(stored, out, f32::from_le_bytes),
        }
    }

    /// Rounds `numbers` to nearest and writes them to `out`, which must have room for them. Finite numbers that
    /// overflow become the largest finite number.
    pub(crate) fn store_all(self, numbers: &[f32], out: &mut [u8]) {
        let bf16_max = bf16::MAX.to_f32();
        let f16_max = f16::MAX.to_f32();
        let clamp = |x: f32, max: f32| if x.is_finite() { x.clamp(-max, max) } else { x };
        match self {
            Self::Bf16 => {
                store_each(numbers, out, |x| bf16::from_f32(clamp(x, bf16_max)).to_le_bytes())
            }
            Self::F16 => {
                store_each(numbers, out, |x| f16::from_f32(clamp(x, f16_max)).to_le_bytes());
            }
            Self::F32 => store_each(numbers, out, f32::to_le_bytes),
        }
    }

    /// Rounds `value` to nearest even and writes it to `out`, which must have the size of an element.
    pub(super) fn store(self, value: f64, out: &mut [u8]) {
        match self {
            Self::Bf16 => {
                out.copy_from_slice(&bf16::from_f32(round_to_odd(value)).to_le_bytes());
            }
            Self::F16 => out.copy_from_slice(&f16::from_f32(round_to_odd(value)).to_le_bytes()),
            Self::F32 => out.copy_from_slice(&(value as f32).to_le_bytes()),
        }
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Float {
    type Err = UnknownFloat;

    /// Parses the name of a type in safetensors headers.
    fn from_str(name: &str) -> Result<Self, UnknownFloat> {
        Self::ALL.into_iter().find(|float| float.name() == name).ok_or(UnknownFloat)
    }
}

/// The error of parsing a name that is not one of the types of [`Float::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown floating-point type: use BF16, F16 or F32")]
pub struct UnknownFloat;

/// Converts the weights in `stored` to F32, one for each element of `out`. Exact for all types.
pub(crate) fn load_weights(dtype: Dtype, stored: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::Bf16 => Float::Bf16.load(stored, out),
        Dtype::F16 => Float::F16.load(stored, out),
        Dtype::F8E4M3 => load_each(stored, out, |[bits]| E4M3[usize::from(bits)]),
        Dtype::I8 => load_each(stored, out, |[bits]| f32::from(bits.cast_signed())),
    }
}

/// Dequantizes the weights of row `row`, integers, with the scales and zero points of their groups.
///
/// Exact in F32: the difference of weight and zero point has at most 9 bits (a crafted raw tile may hold any byte), and
/// the scale has 11. Infinite and NaN scales follow IEEE 754.
pub(crate) fn scale_groups(groups: Groups<'_>, row: usize, weights: &mut [f32]) {
    let first_group = row * weights.len().div_ceil(GROUP);
    for (group, weights) in (first_group..).zip(weights.chunks_mut(GROUP)) {
        let scale = groups.scales[group].to_f32();
        let zero = groups.zeros.map_or(0.0, |zeros| f32::from(zeros[group]));
        weights.iter_mut().for_each(|weight| *weight = scale * (*weight - zero));
    }
}

/// Converts each element of `stored` with `number`.
fn load_each<const BYTES: usize>(
    stored: &[u8],
    out: &mut [f32],
    number: impl Fn([u8; BYTES]) -> f32,
) {
    for (out, &bits) in out.iter_mut().zip(stored.as_chunks().0) {
        *out = number(bits);
    }
}

/// Converts each of `numbers` with `bits`.
fn store_each<const BYTES: usize>(
    numbers: &[f32],
    out: &mut [u8],
    bits: impl Fn(f32) -> [u8; BYTES],
) {
    for (out, &number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
        *out = bits(number);
    }
}

/// Values of all 256 e4m3 bit patterns.
pub(crate) static E4M3: [f32; 256] = {
    let mut numbers = [0.0; 256];
    let mut bits = 0;
    while bits < numbers.len() {
        numbers[bits] = e4m3_to_f32(bits as u8);
        bits += 1;
    }
    numbers
};

/// Rounds `value` to F32, to odd: if F32 does not hold it, returns the neighbor with the odd mantissa.
///
/// Rounding the result again, to a mantissa shorter by at least two bits, gives the same number as rounding `value`
/// itself: the odd last bit distinguishes a cut-off remainder from a tie. (Boldo and Melquiond, "Emulation of FMA and
/// correctly rounded sums: proved algorithms using rounding to odd", 2008.)
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if nearest.to_bits() & 1 == 1 || back == value || nearest.is_nan() {
        nearest
    } else if back.abs() > value.abs() {
        // Towards zero. From infinity, that is the largest number, which is odd.
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        f32::from_bits(nearest.to_bits() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn e4m3_has_known_values() {
        let known = [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x07, 0.013_671_875),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0x3C, 1.5),
            (0xC0, -2.0),
            (0x7E, 448.0),
            (0x7F, 480.0),
            (0xFF, -480.0),
        ];
        for (bits, value) in known {
            assert_eq!(E4M3[bits], value, "{bits:#x}");
        }
        assert!(E4M3[0x80].is_sign_negative() && E4M3[0x80] == 0.0);
    }

    #[test]
    fn e4m3_follows_its_formula() {
        for bits in 0..=u8::MAX {
            let sign = if bits >> 7 == 1 { -1.0 } else { 1.0 };
            let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
            let value = match exponent {
                0 => mantissa * 2f32.powi(-6),
                _ => (1.0 + mantissa) * 2f32.powi(exponent - 7),
            };
            assert_eq!(E4M3[usize::from(bits)].to_bits(), (sign * value).to_bits(), "{bits:#x}");
        }
    }

    /// Tests all bytes, since a crafted raw tile may hold integers of more than four bits.
    #[test]
    fn every_integer_of_a_group_is_scaled_exactly() {
        let integers: Vec<f32> = (i8::MIN..=i8::MAX).map(f32::from).collect();
        for bits in (0..=u16::MAX).step_by(if cfg!(debug_assertions) { 61 } else { 1 }) {
            let zero = (bits % 16) as i8 - 8;
            let (mut weights, scale) = (integers.clone(), f16::from_bits(bits).to_f64());
            // Two rows of two groups each.
            let scales = [0, 0, bits, bits].map(f16::from_bits);
            let groups = Groups { scales: &scales, zeros: Some(&[1, 1, zero, zero]) };
            scale_groups(groups, 1, &mut weights);
            for (&integer, &weight) in integers.iter().zip(&weights) {
                let exact = scale * f64::from(integer - f32::from(zero));
                assert!(
                    exact == f64::from(weight) || exact.is_nan() && weight.is_nan(),
                    "{bits:#x}"
                );
            }
        }
    }

    fn stored(dtype: Float, value: f64) -> u32 {
        let mut bytes = [0; 4];
        dtype.store(value, &mut bytes[..dtype.byte_len()]);
        u32::from_le_bytes(bytes)
    }

    fn loaded(dtype: Float, bits: u32) -> f64 {
        let mut number = [0.0];
        dtype.load(&bits.to_le_bytes(), &mut number);
        number[0].into()
    }

    /// Next to a tie, closer than F32 can resolve, rounding must go to the nearest number.
    #[test]
    fn ties_are_distinguished_from_their_neighbors() {
        for (dtype, infinity) in [(Float::Bf16, 0x7F80), (Float::F16, 0x7C00)] {
            for low in 0..infinity - 1 {
                let tie = f64::midpoint(loaded(dtype, low), loaded(dtype, low + 1));
                let even = low + (low & 1);
                for (value, expected) in
                    [(tie.next_down(), low), (tie, even), (tie.next_up(), low + 1)]
                {
                    assert_eq!(stored(dtype, value), expected, "{dtype:?} {value:e}");
                    assert_eq!(stored(dtype, -value), expected | 0x8000, "{dtype:?} -{value:e}");
                }
            }
            // Halfway between the largest number and the next power of two, rounding gives infinity.
            let (below, largest) = (loaded(dtype, infinity - 2), loaded(dtype, infinity - 1));
            let limit = largest + (largest - below) / 2.0;
            assert_eq!(stored(dtype, limit.next_down()), infinity - 1);
            assert_eq!(stored(dtype, limit), infinity);
            assert_eq!(stored(dtype, f64::MAX), infinity);
            assert_eq!(stored(dtype, f64::INFINITY), infinity);
            assert!(loaded(dtype, stored(dtype, f64::NAN)).is_nan());
            assert_eq!(stored(dtype, -f64::MIN_POSITIVE), 0x8000);
        }
    }

    proptest! {
        #[test]
        fn numbers_of_a_type_are_stored_unchanged(bits in any::<u32>()) {
            for dtype in Float::ALL {
                let bits = if dtype.byte_len() == 2 { bits & 0xFFFF } else { bits };
                let value = loaded(dtype, bits);
                prop_assert!(value.is_nan() || stored(dtype, value) == bits, "{dtype:?}");
            }
        }
    }
}
