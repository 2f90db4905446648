//! Converts weights to MMA operands, whose type is that of the activations.

use crate::portable::twins::fused_multiply_add;
use crate::{RawWords, WeightFormat};
use fused_rans_layout::Dtype;

/// Type of an MMA's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmaType {
    /// BF16, for weights in BF16, FP8 and I8.
    Bf16,
    /// FP16, for weights in FP16, FP8 and I8.
    F16,
}

/// The offset that makes an integer of a code: `-(magic + half of the range + zero point)`, in both halves of a register. It
/// is added to a large number `magic` whose low bits are the code; see [`WeightFormat::operands`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegerOffset(u32);

impl MmaType {
    /// Returns a number to which small integers are added by putting them in its lowest bits: 1024 in FP16; 128 in BF16, whose
    /// seven bits of mantissa have no room for bit 7 of a code.
    const fn magic(self) -> u32 {
        match self {
            Self::Bf16 => 0x4300_4300,
            Self::F16 => 0x6400_6400,
        }
    }

    #[inline(always)]
    fn fused_multiply_add(self, a: u32, b: u32, c: u32) -> u32 {
        match self {
            Self::Bf16 => fused_multiply_add::<true>(a, b, c),
            Self::F16 => fused_multiply_add::<false>(a, b, c),
        }
    }

    /// Returns 1.0 in both halves.
    const fn one(self) -> u32 {
        match self {
            Self::Bf16 => 0x3F80_3F80,
            Self::F16 => 0x3C00_3C00,
        }
    }

    /// Returns the value of [`MmaType::magic`].
    const fn magic_number(self) -> i32 {
        match self {
            Self::Bf16 => 128,
            Self::F16 => 1024,
        }
    }

    /// Returns 0.25 in both halves.
    const fn quarter(self) -> u32 {
        match self {
            Self::Bf16 => 0x3E80_3E80,
            Self::F16 => 0x3400_3400,
        }
    }

    /// Returns 256.0 in both halves.
    const fn two_hundred_fifty_six(self) -> u32 {
        match self {
            Self::Bf16 => 0x4380_4380,
            Self::F16 => 0x5C00_5C00,
        }
    }

    /// Converts an integer, in [-1024, 1024] for FP16 and [-256, 256] for BF16, to this type, in both halves.
    const fn integer(self, value: i32) -> u32 {
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return 0;
        }
        let exponent = magnitude.ilog2();
        let bits = match self {
            Self::Bf16 => (127 + exponent) << 7 | (magnitude << 7 >> exponent & 0x7F),
            Self::F16 => (15 + exponent) << 10 | (magnitude << 10 >> exponent & 0x3FF),
        };
        let sign = if value < 0 { 0x8000 } else { 0 };
        (bits | sign) * 0x0001_0001
    }
}

impl IntegerOffset {
    /// Returns the offset for a register (`odd`: 1 or 3, else 0 or 2) of integers of this format, with zero point `zero`. FP16
    /// operands have room for any zero point; BF16 operands with 8-bit codes have room for 0 only.
    #[inline(always)]
    #[must_use]
    pub fn new(mma_type: MmaType, format: &WeightFormat, odd: bool, zero: i32) -> Self {
        let distance = format.half_range() as i32 + zero;
        Self(match mma_type {
            _ if odd && format.has_four_bit_codes() => {
                mma_type.integer(-(mma_type.magic_number() / 4 + distance))
            }
            MmaType::Bf16 => mma_type.integer(-(mma_type.magic_number() + distance)),
            // From 1024 on, the lowest bits of an FP16 count integers: the distance is added there.
            MmaType::F16 => 0xE400_E400 + distance as u32 * 0x0001_0001,
        })
    }
}

impl WeightFormat {
    /// Joins entries and raw words like [`WeightFormat::registers`], and converts the weights exactly to operands. Integers
    /// have their zero point subtracted: `offsets` are those of registers 0 and 2 (row g), and of 1 and 3 (row g + 8).
    #[inline(always)]
    #[must_use]
    pub fn operands(
        &self,
        mma_type: MmaType,
        entries: [u32; 4],
        raw: &RawWords,
        fragment: usize,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let registers = match self.dtype() {
            Dtype::Bf16 | Dtype::F16 => return self.registers(entries, raw, fragment),
            Dtype::F8E4M3 => self.registers(entries, raw, fragment),
            Dtype::I8 if self.has_four_bit_codes() => {
                self.four_bit_codes(entries, raw, fragment, mma_type.magic())
            }
            Dtype::I8 => self.codes(entries, raw, fragment),
        };
        let convert = |i: usize| match self.dtype() {
            Dtype::I8 if self.has_four_bit_codes() => {
                let factor = if i.is_multiple_of(2) { mma_type.one() } else { mma_type.quarter() };
                mma_type.fused_multiply_add(registers[i], factor, offsets[i % 2].0)
            }
            Dtype::I8 => self.integers(mma_type, registers[i], offsets[i % 2]),
            _ => f8(mma_type, registers[i]),
        };
        [convert(0), convert(1), convert(2), convert(3)]
    }

    /// Converts the weights in the halves of a register (`odd`: 1 or 3, else 0 or 2), as [`WeightFormat::registers`] returns
    /// them, to operands.
    #[inline(always)]
    #[must_use]
    pub fn operand(
        &self,
        mma_type: MmaType,
        weights: u32,
        odd: bool,
        offset: IntegerOffset,
    ) -> u32 {
        match self.dtype() {
            Dtype::Bf16 | Dtype::F16 => weights,
            Dtype::F8E4M3 => f8(mma_type, weights),
            Dtype::I8 => {
                // Any two's complement integer, whatever the split, is treated as an 8-bit code.
                let value = mma_type.fused_multiply_add(
                    mma_type.magic() | (weights ^ 0x0080_0080) & 0x007F_007F,
                    mma_type.one(),
                    eight_bit_offset(mma_type, weights ^ 0x0080_0080),
                );
                // The zero point is what the offset has beyond that of zero point 0.
                let plain = IntegerOffset::new(mma_type, self, odd, 0);
                let minus_zero =
                    mma_type.fused_multiply_add(plain.0, mma_type.one() ^ 0x8000_8000, offset.0);
                mma_type.fused_multiply_add(value, mma_type.one(), minus_zero)
            }
        }
    }

    /// Converts the weight of an exception, which is in both halves of `weights`, to an operand. Integers, whose zero point is
    /// 0, have a high byte, too.
    #[inline(always)]
    #[must_use]
    pub fn exception(&self, mma_type: MmaType, weights: u32, offset: IntegerOffset) -> u32 {
        let low = self.operand(mma_type, weights, false, offset);
        if self.dtype() != Dtype::I8 {
            return low;
        }
        // Exact: the host has checked that both types have the integer.
        let high = self.operand(mma_type, weights >> 8, false, offset);
        mma_type.fused_multiply_add(high, mma_type.two_hundred_fifty_six(), low)
    }

    /// Converts offset binary codes in the low bits of the halves to integers: puts the code in the low bits of a large number,
    /// and adds the offset.
    #[inline(always)]
    fn integers(&self, mma_type: MmaType, codes: u32, offset: IntegerOffset) -> u32 {
        if mma_type == MmaType::Bf16 && self.half_range() == 128 {
            let offset = eight_bit_offset(mma_type, codes);
            let low = mma_type.magic() | codes & 0x007F_007F;
            return mma_type.fused_multiply_add(low, mma_type.one(), offset);
        }
        mma_type.fused_multiply_add(mma_type.magic() | codes, mma_type.one(), offset.0)
    }
}

/// Returns the offsets of 8-bit codes, of which BF16 has room for seven bits: -256 (0xC380), or -128 (0xC300) if bit 7 is set,
/// to be added to 128 + the seven bits.
#[inline(always)]
fn eight_bit_offset(mma_type: MmaType, codes: u32) -> u32 {
    match mma_type {
        MmaType::Bf16 => (codes & 0x0080_0080) ^ 0xC380_C380,
        // -1152 (0xE480), or -1024 (0xE400).
        MmaType::F16 => (codes & 0x0080_0080) ^ 0xE480_E480,
    }
}

/// Converts FP8 e4m3 numbers in the low bytes of the halves. Exponent and mantissa are put where the operand has its own; a
/// factor corrects the difference of the biases, for subnormal numbers, too. The two NaNs become 480 and -480.
#[inline(always)]
fn f8(mma_type: MmaType, weights: u32) -> u32 {
    let (magnitude, sign) = (weights & 0x007F_007F, (weights & 0x0080_0080) << 8);
    match mma_type {
        // Biases 127 and 7: 2^120.
        MmaType::Bf16 => {
            fused_multiply_add::<true>(magnitude << 4 | sign, 0x7B80_7B80, 0x8000_8000)
        }
        // Biases 15 and 7: 2^8.
        MmaType::F16 => {
            fused_multiply_add::<false>(magnitude << 7 | sign, 0x5C00_5C00, 0x8000_8000)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use fused_rans_layout::{Entry, FourWeightEntry, Split, TABLE, TileEntry, WeightsPerSymbol};
    use half::{bf16, f16};

    const OPERANDS: [MmaType; 2] = [MmaType::Bf16, MmaType::F16];

    fn number(mma_type: MmaType, bits: u32) -> f64 {
        match mma_type {
            MmaType::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            MmaType::F16 => f16::from_bits(bits as u16).to_f64(),
        }
    }

    fn f8_number(bits: u32) -> f64 {
        let (exponent, mantissa) = ((bits >> 3 & 15) as i32, f64::from(bits & 7) / 8.0);
        let magnitude = match exponent {
            0 => mantissa / 64.0,
            _ => (1.0 + mantissa) * 2f64.powi(exponent - 7),
        };
        if bits & 0x80 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_f8_becomes_its_number_in_both_halves() {
        for (operand, bits) in OPERANDS.into_iter().flat_map(|o| (0..256).map(move |b| (o, b))) {
            let both = f8(operand, bits | (bits ^ 0xFF) << 16);
            assert_eq!(number(operand, both), f8_number(bits), "{operand:?} {bits:02x}");
            assert_eq!(number(operand, both >> 16), f8_number(bits ^ 0xFF));
            // Zeros keep their signs.
            assert_eq!(both >> 15 & 1, bits >> 7);
        }
    }

    /// Every format of integers.
    fn integer_formats() -> impl Iterator<Item = (MmaType, Split, WeightFormat)> {
        let splits = || WeightsPerSymbol::ALL.into_iter().flat_map(Split::all_i8);
        let formats = move |operand| splits().map(move |split| (operand, split, split.into()));
        OPERANDS.into_iter().flat_map(formats)
    }

    #[test]
    fn every_code_becomes_its_integer_less_the_zero_point() {
        for (operand, split, format) in integer_formats() {
            // BF16 has no room for zero points of 8-bit codes, nor are there any.
            let zeros = if split.half_range() == 8 { -8..8 } else { 0..1 };
            for zero in zeros {
                let offset = |odd| IntegerOffset::new(operand, &format, odd, zero);
                let half_range = i32::from(split.half_range());
                for code in 0..2 * u32::from(split.half_range()) {
                    let integer = f64::from(code as i32 - half_range - zero);
                    let operands =
                        fragment_of(code, split, &format, operand, [false, true].map(offset));
                    for operands in operands {
                        assert_eq!(number(operand, operands & 0xFFFF), integer, "{split:?}");
                        assert_eq!(operands >> 16, operands & 0xFFFF);
                    }
                }
            }
        }
    }

    /// The operands of fragment 1 of four, all of whose weights have the same code.
    fn fragment_of(
        code: u32,
        split: Split,
        format: &WeightFormat,
        mma_type: MmaType,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let (coded, raw) = (code >> split.raw_bits(), code & ((1 << split.raw_bits()) - 1));
        let entry = match split.weights_per_symbol() {
            WeightsPerSymbol::Two => Entry::new((coded * 0x11) as u8, TABLE as u32).0,
            WeightsPerSymbol::Four => FourWeightEntry::new(Entry::new((coded * 0x55) as u8, 512)).0,
        };
        let bits = u32::from(split.raw_bits());
        let plane = |width: u32| {
            let there = if bits & width != 0 { (1 << width) - 1 } else { 0 };
            raw >> (bits & !(2 * width - 1)) & there
        };
        let words = RawWords {
            four: [0, plane(4) * 0x1111_1111, 0, 0],
            two: [plane(2) * 0x5500_5500, 0],
            one: plane(1) * 0x00F0_00F0,
            ..RawWords::default()
        };
        format.operands(mma_type, [entry; 4], &words, 1, offsets)
    }

    #[test]
    fn raw_weights_become_any_integer() {
        for (operand, _, format) in integer_formats() {
            for (value, odd) in (i8::MIN..=i8::MAX).flat_map(|v| [(v, false), (v, true)]) {
                let offset = IntegerOffset::new(operand, &format, odd, 0);
                let weights = u32::from(value.cast_unsigned()) * 0x0001_0001;
                let operands = format.operand(operand, weights, odd, offset);
                assert_eq!(number(operand, operands & 0xFFFF), f64::from(value), "{format:?}");
            }
        }
    }

    #[test]
    fn exceptions_become_any_integer_of_eight_significant_bits() {
        for (operand, _, format) in integer_formats() {
            let offset = IntegerOffset::new(operand, &format, false, 0);
            for weight in 0..=u16::MAX {
                let (low, high) = TileEntry::exception_bytes(weight);
                let integer = i32::from(low) + 256 * i32::from(high);
                if f64::from(integer) != bf16::from_f32(integer as f32).to_f64() {
                    continue;
                }
                let operands = format.exception(operand, u32::from(weight) * 0x0001_0001, offset);
                assert_eq!(number(operand, operands & 0xFFFF), f64::from(integer), "{format:?}");
                assert_eq!(operands >> 16, operands & 0xFFFF);
            }
        }
    }
}
