//! Element types, and how a weight splits into coded and raw bits.

use core::fmt;
use core::str::FromStr;

use crate::WeightsPerSymbol;

/// Element type of a compressed matrix. The discriminant is the stored code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dtype {
    /// bfloat16: `[15] sign | [14:7] exponent | [6:0] mantissa`
    Bf16 = 0,
    /// IEEE binary16: `[15] sign | [14:10] exponent | [9:0] mantissa`
    F16 = 1,
    /// FP8 e4m3: `[7] sign | [6:3] exponent | [2:0] mantissa`
    F8E4M3 = 2,
    /// Two's complement 8-bit integer
    I8 = 3,
}

impl Dtype {
    /// All types, by stored code.
    pub const ALL: [Self; 4] = [Self::Bf16, Self::F16, Self::F8E4M3, Self::I8];

    /// The type with this stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Size of one weight in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F8E4M3 | Self::I8 => 1,
        }
    }

    /// Name of the type in a safetensors header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F8E4M3 => "F8_E4M3",
            Self::I8 => "I8",
        }
    }

    /// Bits of the exponent field; for integers, of the whole value. Its order-0 entropy plus
    /// the bits beside it is what `inspect` calls a tensor's entropy.
    #[must_use]
    pub const fn exponent_bits(self) -> u32 {
        match self {
            Self::Bf16 | Self::I8 => 8,
            Self::F16 => 5,
            Self::F8E4M3 => 4,
        }
    }

    /// The exponent field of `weight`; for integers, the whole value.
    #[inline(always)]
    #[must_use]
    pub const fn exponent(self, weight: u16) -> u8 {
        match self {
            Self::Bf16 => (weight >> 7) as u8,
            Self::F16 => (weight >> 10) as u8 & 31,
            Self::F8E4M3 => (weight >> 3) as u8 & 15,
            Self::I8 => weight as u8,
        }
    }

    /// A weight with this [`Dtype::exponent`]: the one whose other bits are 0.
    #[must_use]
    pub const fn with_exponent(self, exponent: u8) -> u16 {
        match self {
            Self::Bf16 => (exponent as u16) << 7,
            Self::F16 => (exponent as u16) << 10,
            Self::F8E4M3 => (exponent as u16) << 3,
            Self::I8 => exponent as u16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = UnknownDtype;

    /// Reads the name of a type in a safetensors header.
    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or(UnknownDtype)
    }
}

/// Refuses a name that is none of [`Dtype::ALL`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDtype;

impl fmt::Display for UnknownDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown element type: weights are BF16, F16, F8_E4M3 or I8")
    }
}

impl core::error::Error for UnknownDtype {}

/// How the weights of one tensor split: `weight = coded bits + raw bits (stored as they are)`.
///
/// A weight whose exponent (or value, for integers) lies outside the window that the coded bits have room for
/// is an exception, listed by its tile. Its raw bits are stored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    dtype: Dtype,
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: u8,
    base: u8,
    zero: bool,
}

impl Split {
    /// The split of BF16 or F16 weights, two a symbol: the coded bits `n` stand for exponent field
    /// `base + n`; with `zero`, 0 stands for exponent field 0 instead. `None` where the window would leave
    /// the exponent's range, or for a type without a window.
    #[must_use]
    pub const fn window(dtype: Dtype, base: u8, zero: bool) -> Option<Self> {
        let (raw_bits, largest) = match dtype {
            Dtype::Bf16 => (8, 255 - 15),
            Dtype::F16 => (11, 31 - 15),
            Dtype::F8E4M3 | Dtype::I8 => return None,
        };
        if base > largest {
            return None;
        }
        Some(Self { dtype, weights_per_symbol: WeightsPerSymbol::Two, raw_bits, base, zero })
    }

    /// The split of F8_E4M3 weights, two a symbol: the exponent field is coded.
    #[must_use]
    pub const fn f8_e4m3() -> Self {
        let (dtype, weights_per_symbol) = (Dtype::F8E4M3, WeightsPerSymbol::Two);
        Self { dtype, weights_per_symbol, raw_bits: 4, base: 0, zero: false }
    }

    /// The split of integers: with `u = value + (half << raw_bits)`, `half` being half of the coded bits' values,
    /// `u >> raw_bits` is coded and the raw bits are the rest of `u`. `None` for more than 4 raw bits, and of
    /// four weights a symbol for fewer than 2 or more than 5.
    #[must_use]
    pub const fn i8(weights_per_symbol: WeightsPerSymbol, raw_bits: u8) -> Option<Self> {
        match (weights_per_symbol, raw_bits) {
            (WeightsPerSymbol::Two, 0..=4) | (WeightsPerSymbol::Four, 2..=5) => {
                Some(Self { dtype: Dtype::I8, weights_per_symbol, raw_bits, base: 0, zero: false })
            }
            _ => None,
        }
    }

    /// The splits of integers, the one with the fewest raw bits first: the one of 4-bit integers.
    pub fn all_i8(weights_per_symbol: WeightsPerSymbol) -> impl Iterator<Item = Self> {
        (0..8).filter_map(move |raw_bits| Self::i8(weights_per_symbol, raw_bits))
    }

    /// The split with these stored fields, if they are ones that an encoder can store.
    #[must_use]
    pub const fn from_fields(
        dtype: Dtype,
        weights_per_symbol: WeightsPerSymbol,
        raw_bits: u8,
        base: u8,
        zero: bool,
    ) -> Option<Self> {
        let split = match dtype {
            Dtype::Bf16 | Dtype::F16 => Self::window(dtype, base, zero),
            Dtype::F8E4M3 => Some(Self::f8_e4m3()),
            Dtype::I8 => Self::i8(weights_per_symbol, raw_bits),
        };
        match split {
            Some(s)
                if s.weights_per_symbol as u8 == weights_per_symbol as u8
                    && s.raw_bits == raw_bits =>
            {
                if s.base == base && s.zero == zero {
                    split
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// This split, for a caller that knows its type: given as a constant, it leaves the other types'
    /// code out of a loop.
    #[inline(always)]
    #[must_use]
    pub const fn of_type(self, dtype: Dtype) -> Self {
        debug_assert!(self.dtype as u8 == dtype as u8);
        Self { dtype, ..self }
    }

    /// Element type.
    #[inline(always)]
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        self.dtype
    }

    /// How many weights share a symbol.
    #[inline(always)]
    #[must_use]
    pub const fn weights_per_symbol(self) -> WeightsPerSymbol {
        self.weights_per_symbol
    }

    /// Integers from this on, and below its negative, are exceptions: half of the range.
    #[inline(always)]
    #[must_use]
    pub const fn half_range(self) -> u16 {
        (self.weights_per_symbol.values() as u16) << self.raw_bits >> 1
    }

    /// Bits of a weight that are stored as they are.
    #[must_use]
    pub const fn raw_bits(self) -> u8 {
        self.raw_bits
    }

    /// Exponent field that the coded bits 0 stand for (that of 1 less one, with [`Split::zero`]).
    #[must_use]
    pub const fn base(self) -> u8 {
        self.base
    }

    /// Whether the coded bits 0 stand for exponent field 0.
    #[must_use]
    pub const fn zero(self) -> bool {
        self.zero
    }

    /// The coded bits of `weight`, or a number that is none of their [values](WeightsPerSymbol::values) if the weight is
    /// an exception.
    #[inline(always)]
    #[must_use]
    pub const fn coded(self, weight: u16) -> u8 {
        match self.dtype {
            Dtype::Bf16 | Dtype::F16 => {
                let exponent = self.dtype.exponent(weight);
                let coded = exponent.wrapping_sub(self.base);
                if !self.zero {
                    coded
                } else if exponent == 0 {
                    0
                } else if coded == 0 {
                    u8::MAX
                } else {
                    coded
                }
            }
            Dtype::F8E4M3 => self.dtype.exponent(weight),
            Dtype::I8 => {
                let u = (weight as u8 as i8 as i16) + self.half_range() as i16;
                let coded = u >> self.raw_bits;
                if coded < 0 || coded >= self.weights_per_symbol.values() as i16 {
                    u8::MAX
                } else {
                    coded as u8
                }
            }
        }
    }

    /// Bits 14 to 7 of a BF16 or FP16 weight with these coded bits that its exponent has: all of them, or the
    /// upper five. `None` for other types.
    #[must_use]
    pub const fn exponent_in_place(self, coded: u8) -> Option<u8> {
        let weight = self.join(coded, 0);
        match self.dtype {
            Dtype::Bf16 | Dtype::F16 => Some((weight >> 7) as u8),
            Dtype::F8E4M3 | Dtype::I8 => None,
        }
    }

    /// The raw bits of `weight`, in the order in which the raw planes hold them: for BF16 and F16
    /// `[10:8] mantissa bits 9..7 (F16 only) | [7] sign | [6:0] mantissa bits 6..0`, for F8_E4M3
    /// `[3] sign | [2:0] mantissa`.
    #[inline(always)]
    #[must_use]
    pub const fn raw(self, weight: u16) -> u16 {
        match self.dtype {
            Dtype::Bf16 => (weight & 0x7F) | (weight >> 15 << 7),
            Dtype::F16 => (weight & 0x7F) | (weight >> 15 << 7) | ((weight >> 7 & 7) << 8),
            Dtype::F8E4M3 => (weight & 7) | (weight >> 7 & 1) << 3,
            Dtype::I8 => weight & ((1 << self.raw_bits) - 1),
        }
    }

    /// The weight with these coded and raw bits.
    #[inline(always)]
    #[must_use]
    pub const fn join(self, coded: u8, raw: u16) -> u16 {
        let exponent =
            if self.zero && coded == 0 { 0 } else { self.base.wrapping_add(coded) as u16 };
        match self.dtype {
            Dtype::Bf16 => (raw & 0x7F) | (raw >> 7 & 1) << 15 | exponent << 7,
            Dtype::F16 => {
                (raw & 0x7F) | (raw >> 7 & 1) << 15 | (raw >> 8 & 7) << 7 | exponent << 10
            }
            Dtype::F8E4M3 => (raw & 7) | exponent << 3 | (raw >> 3 & 1) << 7,
            Dtype::I8 => {
                let u = (coded as u16) << self.raw_bits | raw;
                u.wrapping_sub(self.half_range()) & 0xFF
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits() -> impl Iterator<Item = Split> {
        let windows = [Dtype::Bf16, Dtype::F16].into_iter().flat_map(|dtype| {
            (0..=255).flat_map(move |base| {
                [false, true].into_iter().filter_map(move |zero| Split::window(dtype, base, zero))
            })
        });
        windows
            .chain([Split::f8_e4m3()])
            .chain(WeightsPerSymbol::ALL.into_iter().flat_map(Split::all_i8))
    }

    #[test]
    fn weights_have_the_exponent_they_are_made_with() {
        for dtype in Dtype::ALL {
            for exponent in 0..1u16 << dtype.exponent_bits() {
                let exponent = exponent as u8;
                assert_eq!(dtype.exponent(dtype.with_exponent(exponent)), exponent);
            }
        }
    }

    #[test]
    fn every_weight_but_exceptions_comes_back() {
        for split in splits() {
            let values = 1u32 << (8 * split.dtype().byte_len());
            for weight in (0..values).map(|w| w as u16) {
                let (coded, raw) = (split.coded(weight), split.raw(weight));
                assert!(u32::from(raw) < 1 << split.raw_bits());
                if coded < split.weights_per_symbol().values() {
                    assert_eq!(split.join(coded, raw), weight, "{split:?}");
                }
            }
        }
    }

    #[test]
    fn the_window_covers_all_values_of_the_coded_bits() {
        for split in splits() {
            let (weights, values) =
                (1u32 << (8 * split.dtype().byte_len()), split.weights_per_symbol().values());
            let coded = (0..weights).filter(|&w| split.coded(w as u16) < values).count();
            assert_eq!(coded, usize::from(values) << split.raw_bits(), "{split:?}");
        }
    }

    #[test]
    fn stored_fields_round_trip_and_nothing_else_is_taken() {
        for split in splits() {
            let (dtype, weights_per_symbol, raw_bits) =
                (split.dtype(), split.weights_per_symbol(), split.raw_bits());
            let found =
                Split::from_fields(dtype, weights_per_symbol, raw_bits, split.base(), split.zero());
            assert_eq!(found, Some(split));
        }
        let two = |dtype, raw_bits, base| {
            Split::from_fields(dtype, WeightsPerSymbol::Two, raw_bits, base, false)
        };
        assert_eq!(two(Dtype::Bf16, 7, 0), None);
        assert_eq!(two(Dtype::Bf16, 8, 241), None);
        assert_eq!(two(Dtype::F16, 11, 17), None);
        assert_eq!(two(Dtype::F8E4M3, 4, 1), None);
        assert_eq!(two(Dtype::I8, 5, 0), None);
        let four =
            |dtype, raw_bits| Split::from_fields(dtype, WeightsPerSymbol::Four, raw_bits, 0, false);
        assert_eq!(four(Dtype::I8, 1), None);
        assert_eq!(four(Dtype::I8, 6), None);
        assert_eq!(four(Dtype::Bf16, 8), None);
        assert_eq!(four(Dtype::F8E4M3, 4), None);
    }
}
