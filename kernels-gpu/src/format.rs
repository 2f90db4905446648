//! From table entries and raw words to the registers of an MMA A fragment.

use crate::ptx::{bit_select, byte_permute};
use fused_rans_layout::{Dtype, Split};

/// The words of a lane's raw planes for four fragments, by plane. Planes that the format lacks are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawWords {
    /// Plane of 8 bits: two words a fragment.
    pub eight: [[u32; 4]; 2],
    /// Plane of 4 bits: a word a fragment.
    pub four: [u32; 4],
    /// Plane of 2 bits: a word for two fragments.
    pub two: [u32; 2],
    /// Plane of 1 bit: a word for four fragments.
    pub one: u32,
}

impl RawWords {
    /// Bits of the 8-bit plane for register `register` of fragment `fragment`, sign and mantissa in
    /// place, at 0x807F of both halves; other bits are another's: see [`exchange_signs`](fused_rans_layout::exchange_signs).
    #[inline(always)]
    fn sign_and_mantissa(&self, fragment: usize, register: usize) -> u32 {
        let word = self.eight[fragment / 2][fragment % 2 * 2 + register / 2];
        if register & 1 == 0 { word } else { byte_permute(word, 0, 0x2301) }
    }

    #[inline(always)]
    fn four(&self, fragment: usize, register: usize) -> u32 {
        self.four[fragment] >> (4 * register) & 0x000F_000F
    }

    #[inline(always)]
    fn two(&self, fragment: usize, register: usize) -> u32 {
        self.two[fragment / 2] >> (fragment % 2 * 8 + 2 * register) & 0x0003_0003
    }

    #[inline(always)]
    fn one(&self, fragment: usize, register: usize) -> u32 {
        self.one >> (4 * fragment + register) & 0x0001_0001
    }
}

/// How the weights of a layer come together: a [`Split`] as the kernels want it.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    dtype: Dtype,
    raw_bits: u32,
    /// What is added to the coded bits in place, in both halves of a register.
    offset: u32,
    zero: bool,
}

impl Format {
    /// The format of `split`. `dtype` must be `split.dtype()`; given as a constant it leaves the other
    /// types' code out of a kernel.
    #[inline(always)]
    #[must_use]
    pub fn new(dtype: Dtype, raw_bits: u32, base: u32, zero: bool) -> Self {
        let offset = match dtype {
            Dtype::Bf16 => base << 7,
            Dtype::F16 => base << 10,
            Dtype::F8E4M3 => 0,
            Dtype::I8 => 0x100 - (8 << raw_bits),
        };
        Self { dtype, raw_bits, offset: offset * 0x0001_0001, zero }
    }

    /// Type of the weights.
    #[inline(always)]
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bits of a weight in the raw planes.
    #[inline(always)]
    #[must_use]
    pub fn raw_bits(&self) -> u32 {
        match self.dtype {
            Dtype::Bf16 => 8,
            Dtype::F16 => 11,
            Dtype::F8E4M3 => 4,
            Dtype::I8 => self.raw_bits,
        }
    }

    /// The four A registers of fragment number `fragment` of four: two weights each, in the low bits
    /// of its halves, from the fragment's four table entries and the raw words.
    #[inline(always)]
    #[must_use]
    pub fn registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        let symbols = both_columns(entries);
        let register = |register: usize| {
            // Nibble 1 of the symbols (rows g + 8) comes down to where nibble 0 is.
            let nibbles = symbols[register / 2] >> (4 * (register % 2));
            match self.dtype {
                Dtype::Bf16 => {
                    let exponent = self.exponent(nibbles & 0x0780_0780);
                    bit_select(0x7F80_7F80, exponent, raw.sign_and_mantissa(fragment, register))
                }
                Dtype::F16 => {
                    let mantissa =
                        raw.two(fragment, register) << 7 | raw.one(fragment, register) << 9;
                    let exponent = self.exponent((nibbles & 0x0780_0780) << 3);
                    let low = raw.sign_and_mantissa(fragment, register);
                    bit_select(0x7F80_7F80, exponent | mantissa, low)
                }
                Dtype::F8E4M3 => {
                    let raw = raw.four(fragment, register);
                    (nibbles & 0x0780_0780) >> 4 | raw & 0x0007_0007 | (raw & 0x0008_0008) << 4
                }
                Dtype::I8 => {
                    // Two's complement, from the offset binary that the code is.
                    (self.code(nibbles, raw, fragment, register) + self.offset) & 0x00FF_00FF
                }
            }
        };
        [register(0), register(1), register(2), register(3)]
    }

    /// As [`Format::registers`] for BF16 and FP16, from [`WideEntry`](fused_rans_layout::WideEntry)s: the
    /// exponents are in place, and nothing else needs to be known of the format.
    #[inline(always)]
    #[must_use]
    pub fn wide_registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        // Bytes 0 and 1 of both columns' entries have the first weight's exponent at bits 14 to 7, bytes
        // 1 and 2 the second's.
        let exponents = |register: usize| {
            let (first, second) = (entries[register / 2 * 2], entries[register / 2 * 2 + 1]);
            byte_permute(first, second, if register & 1 == 0 { 0x5410 } else { 0x6521 })
        };
        let register = |register: usize| {
            let low = raw.sign_and_mantissa(fragment, register);
            match self.dtype {
                Dtype::F16 => {
                    let high = raw.two(fragment, register) << 7 | raw.one(fragment, register) << 9;
                    bit_select(0x7C00_7C00, exponents(register), bit_select(0x0380_0380, high, low))
                }
                _ => bit_select(0x7F80_7F80, exponents(register), low),
            }
        };
        [register(0), register(1), register(2), register(3)]
    }

    /// As [`Format::registers`] for integers, which stay in offset binary: `value + (8 << raw_bits)`.
    #[inline(always)]
    pub(crate) fn codes(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        let symbols = both_columns(entries);
        let code = |register: usize| {
            self.code(symbols[register / 2] >> (4 * (register % 2)), raw, fragment, register)
        };
        [code(0), code(1), code(2), code(3)]
    }

    #[inline(always)]
    fn code(&self, nibbles: u32, raw: &RawWords, fragment: usize, register: usize) -> u32 {
        let high = nibbles >> (7 - self.raw_bits) & (0x000F_000F << self.raw_bits);
        let mut code = high;
        if self.raw_bits & 4 != 0 {
            code |= raw.four(fragment, register);
        }
        if self.raw_bits & 2 != 0 {
            code |= raw.two(fragment, register) << (self.raw_bits & 4);
        }
        if self.raw_bits & 1 != 0 {
            code |= raw.one(fragment, register) << (self.raw_bits & 6);
        }
        code
    }

    /// Adds the window's base to the exponents in both halves; not where the coded bits are 0 and
    /// stand for exponent field 0.
    #[inline(always)]
    fn exponent(&self, coded: u32) -> u32 {
        if !self.zero {
            return coded + self.offset;
        }
        // Bit 15 of a half is set if any coded bit is: they lie below it, and the sum carries.
        let nonzero = (coded + 0x7FFF_7FFF) >> 15 & 0x0001_0001;
        coded + nonzero * (self.offset & 0xFFFF)
    }
}

/// A fragment's symbols, both columns' beside each other: bits 10..7 and 14..11 of each half.
#[inline(always)]
fn both_columns(entries: [u32; 4]) -> [u32; 2] {
    [byte_permute(entries[0], entries[1], 0x5410), byte_permute(entries[2], entries[3], 0x5410)]
}

impl From<Split> for Format {
    fn from(split: Split) -> Self {
        Self::new(split.dtype(), split.raw_bits().into(), split.base().into(), split.zero())
    }
}
