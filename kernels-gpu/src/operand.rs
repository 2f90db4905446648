//! From weights to the operands of an MMA, whose type is that of the activations.

use crate::ptx::fused_multiply_add;
use crate::{Format, RawWords};
use fused_rans_layout::Dtype;

/// Type of an MMA's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// BF16, for weights in BF16, FP8 and I8.
    Bf16,
    /// FP16, for weights in FP16, FP8 and I8.
    F16,
}

/// An integer's distance from its offset binary code: `-(magic + 8 << raw_bits + zero point)`, in
/// both halves of a register. See [`Format::operands`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegerOffset(u32);

impl Operand {
    /// A number in which small integers in the lowest bits count as such: 1024 in FP16, 128 in BF16,
    /// whose seven bits of mantissa leave out bit 7 of the code.
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

    /// 1.0 in both halves.
    const fn one(self) -> u32 {
        match self {
            Self::Bf16 => 0x3F80_3F80,
            Self::F16 => 0x3C00_3C00,
        }
    }

    /// The integers in the halves, in [-1024, 1024] for FP16 and [-256, 256] for BF16, as numbers of
    /// this type.
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
    /// For integers of `raw_bits` raw bits and groups with zero point `zero`. FP16 operands leave room for
    /// any; BF16 with 4 raw bits for the zero point 0 only.
    #[inline(always)]
    #[must_use]
    pub fn new(operand: Operand, raw_bits: u32, zero: i32) -> Self {
        let distance = (8 << raw_bits) + zero;
        Self(match operand {
            Operand::Bf16 => Operand::Bf16.integer(-(128 + distance)),
            // Above 1024 numbers are integers: the distance stands in the lowest bits.
            Operand::F16 => 0xE400_E400 + distance as u32 * 0x0001_0001,
        })
    }
}

impl Format {
    /// As [`Format::registers`], as operands of type `operand`: exactly the weights. Integers less
    /// their zero point: `offsets` are those of registers 0 and 2 (row g), and of 1 and 3 (row g + 8).
    #[inline(always)]
    #[must_use]
    pub fn operands<const WIDE: bool>(
        &self,
        operand: Operand,
        entries: [u32; 4],
        raw: &RawWords,
        fragment: usize,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let registers = match self.dtype() {
            Dtype::Bf16 | Dtype::F16 if WIDE => return self.wide_registers(entries, raw, fragment),
            Dtype::Bf16 | Dtype::F16 => return self.registers(entries, raw, fragment),
            Dtype::F8E4M3 => self.registers(entries, raw, fragment),
            Dtype::I8 => self.codes(entries, raw, fragment),
        };
        let convert = |i: usize| match self.dtype() {
            Dtype::I8 => self.integers(operand, registers[i], offsets[i % 2]),
            _ => f8(operand, registers[i]),
        };
        [convert(0), convert(1), convert(2), convert(3)]
    }

    /// The weights in the halves of a register of [`Format::registers`], as operands.
    #[inline(always)]
    #[must_use]
    pub fn operand(&self, operand: Operand, weights: u32, offset: IntegerOffset) -> u32 {
        match self.dtype() {
            Dtype::Bf16 | Dtype::F16 => weights,
            Dtype::F8E4M3 => f8(operand, weights),
            Dtype::I8 => {
                // Any two's complement integer, whatever the split: as an 8-bit code.
                let value = operand.fused_multiply_add(
                    operand.magic() | (weights ^ 0x0080_0080) & 0x007F_007F,
                    operand.one(),
                    eight_bit_offset(operand, weights ^ 0x0080_0080),
                );
                // The zero point: the offset without the rest of the distance.
                let plain = IntegerOffset::new(operand, self.raw_bits(), 0);
                let minus_zero =
                    operand.fused_multiply_add(plain.0, operand.one() ^ 0x8000_8000, offset.0);
                operand.fused_multiply_add(value, operand.one(), minus_zero)
            }
        }
    }

    /// Integers from offset binary codes in the low bits of the halves: the code is put below the
    /// leading one of a large number, and the difference to the integer taken off.
    #[inline(always)]
    fn integers(&self, operand: Operand, codes: u32, offset: IntegerOffset) -> u32 {
        if operand == Operand::Bf16 && self.raw_bits() == 4 {
            let offset = eight_bit_offset(operand, codes);
            let low = operand.magic() | codes & 0x007F_007F;
            return operand.fused_multiply_add(low, operand.one(), offset);
        }
        operand.fused_multiply_add(operand.magic() | codes, operand.one(), offset.0)
    }
}

/// For 8-bit codes of which only seven bits fit below the leading one: what takes them off 128 + those
/// bits. In BF16 it is -256 (0xC380), or -128 (0xC300) if bit 7 is set.
#[inline(always)]
fn eight_bit_offset(operand: Operand, codes: u32) -> u32 {
    match operand {
        Operand::Bf16 => (codes & 0x0080_0080) ^ 0xC380_C380,
        // -1152 (0xE480), or -1024 (0xE400).
        Operand::F16 => (codes & 0x0080_0080) ^ 0xE480_E480,
    }
}

/// FP8 e4m3 numbers in the low bytes of the halves. Exponent and mantissa are put where the operand
/// has its own, which makes them, subnormal ones too, smaller by the difference of the biases. The
/// two NaNs become 480 and -480, what their bits would mean otherwise.
#[inline(always)]
fn f8(operand: Operand, weights: u32) -> u32 {
    let (magnitude, sign) = (weights & 0x007F_007F, (weights & 0x0080_0080) << 8);
    match operand {
        // Biases 127 and 7: 2^120.
        Operand::Bf16 => {
            fused_multiply_add::<true>(magnitude << 4 | sign, 0x7B80_7B80, 0x8000_8000)
        }
        // Biases 15 and 7: 2^8.
        Operand::F16 => {
            fused_multiply_add::<false>(magnitude << 7 | sign, 0x5C00_5C00, 0x8000_8000)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use half::{bf16, f16};

    const OPERANDS: [Operand; 2] = [Operand::Bf16, Operand::F16];

    fn number(operand: Operand, bits: u32) -> f64 {
        match operand {
            Operand::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            Operand::F16 => f16::from_bits(bits as u16).to_f64(),
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

    #[test]
    fn every_code_becomes_its_integer_less_the_zero_point() {
        for (operand, raw_bits) in OPERANDS.into_iter().flat_map(|o| (0..5).map(move |r| (o, r))) {
            let format = Format::new(Dtype::I8, raw_bits, 0, false);
            // BF16 has no room for zero points of 8-bit codes, nor are there any.
            let zeros = if raw_bits == 0 { -8..8 } else { 0..1 };
            for zero in zeros {
                let offset = IntegerOffset::new(operand, raw_bits, zero);
                for code in 0..16u32 << raw_bits {
                    let integer = code as i32 - (8 << raw_bits) - zero;
                    let operands = format.integers(operand, code * 0x0001_0001, offset);
                    assert_eq!(number(operand, operands & 0xFFFF), f64::from(integer));
                    assert_eq!(operands >> 16, operands & 0xFFFF);
                }
            }
        }
    }

    #[test]
    fn exceptions_become_any_integer() {
        for (operand, raw_bits) in OPERANDS.into_iter().flat_map(|o| (0..5).map(move |r| (o, r))) {
            let format = Format::new(Dtype::I8, raw_bits, 0, false);
            let offset = IntegerOffset::new(operand, raw_bits, 0);
            for value in i8::MIN..=i8::MAX {
                let weights = u32::from(value.cast_unsigned()) * 0x0001_0001;
                let operands = format.operand(operand, weights, offset);
                assert_eq!(number(operand, operands & 0xFFFF), f64::from(value), "{raw_bits}");
            }
        }
    }
}
