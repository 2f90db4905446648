//! From table entries and raw words to the registers of an MMA A fragment.

use crate::portable::twins::{bit_select, byte_permute};
use fused_rans_layout::{Dtype, Split, TableKind, WeightsPerSymbol};

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

/// How the weights of a layer come together: a [`Split`] as the kernels want it. What of it is a constant leaves
/// other formats' code out of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct WeightFormat {
    dtype: Dtype,
    /// What the decode table's entries are. Symbols of four weights have a table of their own.
    table: TableKind,
    raw_bits: u32,
    /// What is added to the coded bits in place, in both halves of a register.
    offset: u32,
    zero: bool,
}

impl WeightFormat {
    /// The format of weights of type `dtype`, with the other fields as [`Split`] has them.
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

    /// The format of weights that split so, decoded with such a table.
    #[must_use]
    pub fn of(split: Split, table: TableKind) -> Self {
        let (raw_bits, base) = (split.raw_bits().into(), split.base().into());
        Self::new(split.dtype(), table, raw_bits, base, split.zero())
    }

    /// What the decode table's entries are.
    #[inline(always)]
    #[must_use]
    pub fn table(&self) -> TableKind {
        self.table
    }

    /// Half of the range of integers: what an offset binary code is above its integer.
    #[inline(always)]
    pub(crate) fn half_range(&self) -> u32 {
        match self.table {
            TableKind::Plain | TableKind::Exponent => 8 << self.raw_bits,
            TableKind::FourWeight => 2 << self.raw_bits,
        }
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
    /// of its halves, from the entries of the fragment's symbols and the raw words.
    #[inline(always)]
    #[must_use]
    pub fn registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        if self.table == TableKind::Exponent {
            return self.wide_registers(entries, raw, fragment);
        }
        if self.dtype == Dtype::I8 {
            // Two's complement, from the offset binary that the code is.
            let codes = self.codes(entries, raw, fragment);
            return codes.map(|code| (code + self.offset) & 0x00FF_00FF);
        }
        let symbols = both_columns(entries);
        let register = |register: usize| {
            // The second weight's bits come down to where the first one's are.
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

    /// For BF16 and FP16, from [`ExponentEntry`](fused_rans_layout::ExponentEntry)s: the exponents are in place, and
    /// nothing else needs to be known of the format.
    #[inline(always)]
    fn wide_registers(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
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

    /// As [`WeightFormat::registers`] for integers, which stay in offset binary: `value + half_range`.
    #[inline(always)]
    pub(crate) fn codes(&self, entries: [u32; 4], raw: &RawWords, fragment: usize) -> [u32; 4] {
        let code = |register: usize| {
            self.coded(entries, register) | self.raw_code(raw, fragment, register)
        };
        [code(0), code(1), code(2), code(3)]
    }

    /// The coded bits of an integer's code.
    #[inline(always)]
    fn coded(&self, entries: [u32; 4], register: usize) -> u32 {
        let (pair, second) = (register / 2, register as u32 % 2);
        match self.table {
            TableKind::FourWeight => {
                // The first weight's bits are at 3 and 2, the second's at 5 and 4, and nothing is below them.
                let bits = quad_columns(entries[pair]) << self.raw_bits >> (2 + 2 * second);
                bits & 0x0003_0003 << self.raw_bits
            }
            TableKind::Plain | TableKind::Exponent => {
                let bits = both_columns(entries)[pair] >> (4 * second);
                bits >> (7 - self.raw_bits) & 0x000F_000F << self.raw_bits
            }
        }
    }

    /// The raw bits of an integer's code.
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

    /// Whether codes come as [`WeightFormat::four_bit_codes`] has them.
    #[inline(always)]
    pub(crate) fn is_four_bit_quad(&self) -> bool {
        self.table == TableKind::FourWeight && self.raw_bits == 2
    }

    /// As [`WeightFormat::codes`], for 4-bit integers, four a symbol: the codes of registers 1 and 3 two bits up, where both
    /// their parts are, and in place of all other bits those of `others`.
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
            bit_select(0x000C_000C << up, quad_columns(entries[pair]), code)
        };
        [code(0), code(1), code(2), code(3)]
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

/// The coded bits of four weights, which a [`FourWeightEntry`](fused_rans_layout::FourWeightEntry) has: bits 3 and 2 of each half, then
/// 5 and 4. Bits 1 and 0 are 0.
#[inline(always)]
fn quad_columns(entry: u32) -> u32 {
    byte_permute(entry, 0, 0x4241)
}

/// A fragment's symbols of two weights, both columns' beside each other: bits 10..7 and 14..11 of each half.
#[inline(always)]
fn both_columns(entries: [u32; 4]) -> [u32; 2] {
    [byte_permute(entries[0], entries[1], 0x5410), byte_permute(entries[2], entries[3], 0x5410)]
}

impl From<Split> for WeightFormat {
    /// With the table that has all frequencies.
    fn from(split: Split) -> Self {
        let table = match split.weights_per_symbol() {
            WeightsPerSymbol::Two => TableKind::Plain,
            WeightsPerSymbol::Four => TableKind::FourWeight,
        };
        Self::of(split, table)
    }
}
