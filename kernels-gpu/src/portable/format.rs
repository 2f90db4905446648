//! Joins table entries and raw words to the registers of an MMA A fragment.

use crate::portable::twins::{bit_select, byte_permute};
use fused_rans_layout::{Dtype, Split, TableKind, WeightsPerSymbol};

/// A lane's words of the raw planes of four fragments. Words of planes that the format lacks are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawWords {
    /// Plane of 8 bits: two words per fragment.
    pub eight: [[u32; 4]; 2],
    /// Plane of 4 bits: one word per fragment.
    pub four: [u32; 4],
    /// Plane of 2 bits: one word for two fragments.
    pub two: [u32; 2],
    /// Plane of 1 bit: one word for four fragments.
    pub one: u32,
}

impl RawWords {
    /// Returns sign and mantissa of register `register` of fragment `fragment`, from the 8-bit plane, in place at 0x807F of
    /// both halves. Other bits belong to another register: see [`exchange_signs`](fused_rans_layout::exchange_signs).
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

/// How coded and raw bits join to weights: a [`Split`], precomputed for the kernels. Where its fields are constants, the
/// compiler leaves the code of other formats out of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct WeightFormat {
    dtype: Dtype,
    /// Type of the decode table's entries. Symbols of four weights have a type of their own.
    table: TableKind,
    raw_bits: u32,
    /// Added to the coded bits in place, in both halves of a register: the window's base, or what makes integers of offset
    /// binary codes.
    offset: u32,
    /// Whether coded bits 0 mean exponent field 0.
    zero: bool,
}

impl WeightFormat {
    /// Returns the format of weights of type `dtype`. The other parameters are those of a [`Split`]; `raw_bits` is read for I8
    /// only.
    #[inline(always)]
    #[must_use]
    pub fn new(dtype: Dtype, table: TableKind, raw_bits: u32, base: u32, zero: bool) -> Self {
        let format = Self { dtype, table, raw_bits, offset: 0, zero };
        let offset = match dtype {
            Dtype::Bf16 => base << 7,
            Dtype::F16 => base << 10,
            Dtype::F8E4M3 => 0,
            Dtype::I8 => 0x100 - format.half_range(),
        };
        Self { offset: offset * 0x0001_0001, ..format }
    }

    /// Returns the format of weights that split like this, decoded with a table of this type.
    #[must_use]
    pub fn from_split(split: Split, table: TableKind) -> Self {
        let (raw_bits, base) = (split.raw_bits().into(), split.base().into());
        Self::new(split.dtype(), table, raw_bits, base, split.zero())
    }

    /// Returns the type of the decode table's entries.
    #[inline(always)]
    #[must_use]
    pub fn table(&self) -> TableKind {
        self.table
    }

    /// Returns half of the range of integers: the difference between an offset binary code and its integer.
    #[inline(always)]
    pub(crate) fn half_range(&self) -> u32 {
        match self.table {
            TableKind::Plain | TableKind::Exponent => 8 << self.raw_bits,
            TableKind::FourWeight => 2 << self.raw_bits,
        }
    }

    /// Returns the type of the weights.
    #[inline(always)]
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the number of raw bits of a weight.
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

    /// Joins the entries of a fragment's symbols and its raw words (those of number `fragment` of four) to the four A
    /// registers, each with a weight in the low bits of each half.
    #[inline(always)]
    #[must_use]
    pub fn registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        if self.table == TableKind::Exponent {
            return self.exponent_registers(entries, raw, fragment);
        }
        if self.dtype == Dtype::I8 {
            // From offset binary to two's complement.
            let codes = self.codes(entries, raw, fragment);
            return codes.map(|code| (code + self.offset) & 0x00FF_00FF);
        }
        let symbols = both_columns(entries);
        let register = |register: usize| {
            // The second weight's bits are shifted to where the first one's are.
            let coded = symbols[register / 2] >> (4 * (register % 2)) & 0x0780_0780;
            match self.dtype {
                Dtype::Bf16 => {
                    let low = raw.sign_and_mantissa(fragment, register);
                    bit_select(0x7F80_7F80, self.exponent(coded), low)
                }
                Dtype::F16 => {
                    let mantissa =
                        raw.two(fragment, register) << 7 | raw.one(fragment, register) << 9;
                    let exponent = self.exponent(coded << 3);
                    let low = raw.sign_and_mantissa(fragment, register);
                    bit_select(0x7F80_7F80, exponent | mantissa, low)
                }
                Dtype::F8E4M3 | Dtype::I8 => {
                    let raw = raw.four(fragment, register);
                    coded >> 4 | raw & 0x0007_0007 | (raw & 0x0008_0008) << 4
                }
            }
        };
        [register(0), register(1), register(2), register(3)]
    }

    /// Joins [`ExponentEntry`](fused_rans_layout::ExponentEntry)s and raw words of BF16 or FP16 weights. The exponents are in
    /// place, so nothing else of the format is needed.
    #[inline(always)]
    fn exponent_registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        // Bytes 0 and 1 of both columns' entries have the first weight's exponent at bits 14 to 7, bytes 1 and 2 have the
        // second's.
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

    /// Joins entries and raw words of integers to offset binary codes, `value + half_range`, in the registers' halves.
    #[inline(always)]
    pub(crate) fn codes(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        let code = |register: usize| {
            self.coded(entries, register) | self.raw_code(raw, fragment, register)
        };
        [code(0), code(1), code(2), code(3)]
    }

    /// Returns the coded bits of integers, in place in their codes.
    #[inline(always)]
    fn coded(&self, entries: [u32; 4], register: usize) -> u32 {
        let (pair, second) = (register / 2, register as u32 % 2);
        match self.table {
            TableKind::FourWeight => {
                // The first weight's bits are at 3 and 2, the second's at 5 and 4; the bits below are 0.
                let bits = four_weight_columns(entries[pair]) << self.raw_bits >> (2 + 2 * second);
                bits & 0x0003_0003 << self.raw_bits
            }
            TableKind::Plain | TableKind::Exponent => {
                let bits = both_columns(entries)[pair] >> (4 * second);
                bits >> (7 - self.raw_bits) & 0x000F_000F << self.raw_bits
            }
        }
    }

    /// Returns the raw bits of integers, in place in their codes.
    #[inline(always)]
    fn raw_code(&self, raw: &RawWords, fragment: usize, register: usize) -> u32 {
        let mut code = 0;
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

    /// Checks whether the weights are 4-bit integers, four per symbol, for which there is [`WeightFormat::four_bit_codes`].
    #[inline(always)]
    pub(crate) fn has_four_bit_codes(&self) -> bool {
        self.table == TableKind::FourWeight && self.raw_bits == 2
    }

    /// Joins entries and raw words of 4-bit integers, four per symbol, to offset binary codes. Those of registers 1 and 3 are
    /// shifted up by two bits, where both of their parts are already. All other bits are those of `others`.
    #[inline(always)]
    pub(crate) fn four_bit_codes(
        &self,
        entries: [u32; 4],
        raw: &RawWords,
        fragment: usize,
        others: u32,
    ) -> [u32; 4] {
        let code = |register: usize| {
            let (pair, up) = (register / 2, 2 * (register as u32 % 2));
            let low = raw.two[fragment / 2] >> (fragment % 2 * 8 + 4 * pair);
            let code = bit_select(0x0003_0003 << up, low, others);
            bit_select(0x000C_000C << up, four_weight_columns(entries[pair]), code)
        };
        [code(0), code(1), code(2), code(3)]
    }

    /// Adds the window's base to the coded bits in both halves, except where coded bits 0 mean exponent field 0.
    #[inline(always)]
    fn exponent(&self, coded: u32) -> u32 {
        if !self.zero {
            return coded + self.offset;
        }
        // Bit 15 of a half is set if any coded bit below it is, because the sum carries.
        let nonzero = (coded + 0x7FFF_7FFF) >> 15 & 0x0001_0001;
        coded + nonzero * (self.offset & 0xFFFF)
    }
}

/// Returns the coded bits of the four weights of a [`FourWeightEntry`](fused_rans_layout::FourWeightEntry): bits 3 and 2 of
/// each half, and bits 5 and 4. Bits 1 and 0 are 0.
#[inline(always)]
fn four_weight_columns(entry: u32) -> u32 {
    byte_permute(entry, 0, 0x4241)
}

/// Puts the symbols of two columns side by side: each half has the coded bits of two weights at 10..7 and 14..11.
#[inline(always)]
fn both_columns(entries: [u32; 4]) -> [u32; 2] {
    [byte_permute(entries[0], entries[1], 0x5410), byte_permute(entries[2], entries[3], 0x5410)]
}

impl From<Split> for WeightFormat {
    /// Returns the format with the table that has room for all frequencies.
    fn from(split: Split) -> Self {
        let table = match split.weights_per_symbol() {
            WeightsPerSymbol::Two => TableKind::Plain,
            WeightsPerSymbol::Four => TableKind::FourWeight,
        };
        Self::from_split(split, table)
    }
}
