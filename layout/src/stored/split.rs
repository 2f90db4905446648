//! How a weight splits into coded and raw bits.

use crate::{Dtype, WeightsPerSymbol};

/// How the weights of one matrix split into coded bits, which symbols carry, and raw bits, which are stored unchanged.
///
/// The coded bits cover a window of exponents (of values, for integers). A weight outside the window is an exception,
/// listed by its tile; its raw bits are in the raw planes all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    dtype: Dtype,
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: u8,
    base: u8,
    zero: bool,
}

impl Split {
    /// Returns the split of BF16 or F16 weights, two per symbol: coded bits `n` mean exponent field `base + n`; with `zero`,
    /// coded bits 0 mean exponent field 0 instead. Returns `None` if the window would leave the exponent's range, or
    /// for a type without a window.
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

    /// Returns the split of F8_E4M3 weights, two per symbol: the exponent field is coded.
    #[must_use]
    pub const fn f8_e4m3() -> Self {
        let (dtype, weights_per_symbol) = (Dtype::F8E4M3, WeightsPerSymbol::Two);
        Self { dtype, weights_per_symbol, raw_bits: 4, base: 0, zero: false }
    }

    /// Returns the split of integers. With `u = value + half_range`, the coded bits are `u >> raw_bits` and the raw bits are
    /// the low bits of `u`. Returns `None` unless there are 0 to 4 raw bits, or with four weights per symbol, 2 to 5.
    #[must_use]
    pub const fn i8(weights_per_symbol: WeightsPerSymbol, raw_bits: u8) -> Option<Self> {
        match (weights_per_symbol, raw_bits) {
            (WeightsPerSymbol::Two, 0..=4) | (WeightsPerSymbol::Four, 2..=5) => {
                Some(Self { dtype: Dtype::I8, weights_per_symbol, raw_bits, base: 0, zero: false })
            }
            _ => None,
        }
    }

    /// Returns the splits of integers, by ascending raw bits. The first one is that of 4-bit integers.
    pub fn all_i8(weights_per_symbol: WeightsPerSymbol) -> impl Iterator<Item = Self> {
        (0..8).filter_map(move |raw_bits| Self::i8(weights_per_symbol, raw_bits))
    }

    /// Returns the split with these stored fields; `None` if no encoder stores them.
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

    /// Returns this split, for a caller that knows its type. With a constant `dtype`, the compiler leaves the code of other
    /// types out of a loop.
    #[inline(always)]
    #[must_use]
    pub const fn of_type(self, dtype: Dtype) -> Self {
        debug_assert!(self.dtype as u8 == dtype as u8);
        Self { dtype, ..self }
    }

    /// Returns the element type.
    #[inline(always)]
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Returns how many weights share a symbol.
    #[inline(always)]
    #[must_use]
    pub const fn weights_per_symbol(self) -> WeightsPerSymbol {
        self.weights_per_symbol
    }

    /// Returns half of the number of integers in the window, which is `[-half_range, half_range)`.
    #[inline(always)]
    #[must_use]
    pub const fn half_range(self) -> u16 {
        (self.weights_per_symbol.values() as u16) << self.raw_bits >> 1
    }

    /// Returns the number of raw bits of a weight.
    #[must_use]
    pub const fn raw_bits(self) -> u8 {
        self.raw_bits
    }

    /// Returns the exponent field that coded bits 0 mean, if not [`Split::zero`]. That of coded bits 1 is the next one in any
    /// case.
    #[must_use]
    pub const fn base(self) -> u8 {
        self.base
    }

    /// Checks whether coded bits 0 mean exponent field 0.
    #[must_use]
    pub const fn zero(self) -> bool {
        self.zero
    }

    /// Returns the coded bits of `weight`; if the weight is an exception, a number that is not one of their
    /// [values](WeightsPerSymbol::values).
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

    /// Returns the exponent's bits among bits 14 to 7 of a BF16 or FP16 weight with these coded bits: all of them, or the
    /// upper five. Returns `None` for other types.
    #[must_use]
    pub const fn exponent_in_place(self, coded: u8) -> Option<u8> {
        let weight = self.join(coded, 0);
        match self.dtype {
            Dtype::Bf16 | Dtype::F16 => Some((weight >> 7) as u8),
            Dtype::F8E4M3 | Dtype::I8 => None,
        }
    }

    /// Returns the raw bits of `weight`, in the order in which the raw planes hold them: for BF16 and F16
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

    /// Returns the weight with these coded and raw bits.
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
