//! The matrices of the golden files. They are generated in integer arithmetic, so that every machine gets the same ones.

use fused_rans::{Dtype, Encoder, LargeInteger, Matrix, WeightsPerSymbol};
use half::slice::HalfBitsSliceExt;

/// A golden file and the matrix that it holds.
pub struct Golden {
    /// Name of the file, without `.blob`.
    pub name: &'static str,
    /// Type of the weights.
    pub dtype: Dtype,
    /// Number of integers that share a symbol.
    pub weights_per_symbol: WeightsPerSymbol,
    /// Number of raw bits; `None` lets the encoder choose.
    raw_bits: Option<u8>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Returns the bits of the weight at (row, column); called row by row.
    weight: fn(&mut Random, usize, usize) -> u16,
    /// Whether groups of weights have scales and zero points.
    pub grouped: bool,
    /// Whether rows have scales.
    pub row_scales: bool,
    /// Whether some integers need more than one byte.
    pub has_large_integers: bool,
}

/// The golden files. Each covers something that no other does.
pub const GOLDEN: [Golden; 15] = [
    // The worked example of docs/format.md: rows and columns to pad, a 1-bit plane, exceptions.
    Golden {
        name: "example",
        raw_bits: Some(1),
        dtype: Dtype::I8,
        rows: 13,
        cols: 103,
        weight: example,
        ..PLAIN
    },
    // Two slabs, the second of a single strip; exceptions of any bit pattern.
    Golden {
        name: "bf16_odd",
        dtype: Dtype::Bf16,
        rows: 47,
        cols: 63,
        weight: bf16_dirty,
        ..PLAIN
    },
    // Coded bits 0 mean exponent field 0.
    Golden {
        name: "bf16_pruned",
        dtype: Dtype::Bf16,
        rows: 30,
        cols: 100,
        weight: bf16_pruned,
        ..PLAIN
    },
    // Planes of 8, 2 and 1 bits.
    Golden { name: "f16_odd", dtype: Dtype::F16, rows: 63, cols: 79, weight: f16_narrow, ..PLAIN },
    Golden {
        name: "f8_e4m3_odd",
        dtype: Dtype::F8E4M3,
        rows: 61,
        cols: 93,
        weight: f8_e4m3,
        ..PLAIN
    },
    // Two tiles, the second of them raw; no raw planes; lanes without a word in a tail row.
    Golden {
        name: "i8_r0_raw_tile",
        raw_bits: Some(0),
        dtype: Dtype::I8,
        rows: 260,
        cols: 40,
        weight: i8_r0,
        ..PLAIN
    },
    // Planes of 2 and 1 bits.
    Golden {
        name: "i8_r3",
        raw_bits: Some(3),
        dtype: Dtype::I8,
        rows: 40,
        cols: 120,
        weight: i8_r3,
        ..PLAIN
    },
    // One symbol of frequency 4096, adjacent tiles, tail rows without a word.
    Golden {
        name: "i8_constant",
        dtype: Dtype::I8,
        rows: 1,
        cols: 3000,
        weight: |_, _, _| 5,
        ..PLAIN
    },
    // Lane 0 of the first slab has 128 symbols of frequency 1, 12 bits each: 48 rows of words.
    Golden {
        name: "i8_longest",
        dtype: Dtype::I8,
        rows: 1024,
        cols: 768,
        weight: i8_longest,
        ..PLAIN
    },
    // Scales and zero points of a coded tile and of a raw one whose number of weights is not a multiple of 16.
    Golden {
        name: "i8_grouped",
        dtype: Dtype::I8,
        rows: 40,
        cols: 261,
        weight: i8_grouped,
        grouped: true,
        ..PLAIN
    },
    // Four weights per symbol, planes of 2 and 1 bits, an exception; slabs of an odd number of steps.
    Golden {
        name: "i8_quads_r3",
        raw_bits: Some(3),
        dtype: Dtype::I8,
        weights_per_symbol: WeightsPerSymbol::Four,
        rows: 45,
        cols: 103,
        weight: i8_quads,
        ..PLAIN
    },
    // Four weights per symbol with scales and zero points; a last slab of one fragment, which has two symbols per lane.
    Golden {
        name: "i8_quads_grouped",
        dtype: Dtype::I8,
        weights_per_symbol: WeightsPerSymbol::Four,
        rows: 240,
        cols: 272,
        weight: |random, _, _| i8_code(around_zero(random)),
        grouped: true,
        ..PLAIN
    },
    // Row scales, of integers and of FP8; an index and scales that end in the middle of a line.
    Golden { name: "i8_row_scales", rows: 300, cols: 70, weight: i8_r3, row_scales: true, ..PLAIN },
    Golden {
        name: "f8_e4m3_row_scales",
        dtype: Dtype::F8E4M3,
        rows: 83,
        cols: 190,
        weight: f8_e4m3,
        row_scales: true,
        ..PLAIN
    },
    // Large integers, two of them in one row of a tile; some of their low bytes are exceptions as well.
    Golden {
        name: "i8_wide",
        rows: 290,
        cols: 270,
        weight: i8_r3,
        raw_bits: Some(2),
        row_scales: true,
        has_large_integers: true,
        ..PLAIN
    },
];

/// Defaults of the fields above.
const PLAIN: Golden = Golden {
    name: "",
    dtype: Dtype::I8,
    weights_per_symbol: WeightsPerSymbol::Two,
    raw_bits: None,
    rows: 0,
    cols: 0,
    weight: |_, _, _| 0,
    grouped: false,
    row_scales: false,
    has_large_integers: false,
};

impl Golden {
    /// Returns the matrix of the weights `data`, the row scales `scales` (if it has any) and the large integers `wide`.
    pub fn matrix<'a>(
        &self,
        data: &'a [u8],
        scales: &'a [u16],
        wide: &'a [LargeInteger],
    ) -> Matrix<'a> {
        let matrix = Matrix::from_bytes(self.dtype, data, self.rows, self.cols);
        let matrix = matrix.expect("it is that long");
        let scaled = || matrix.with_row_scales(scales.reinterpret_cast()).expect("one a row");
        let matrix = if self.row_scales { scaled() } else { matrix };
        matrix.with_large_integers(wide).expect("they are those of the weights")
    }

    /// Returns the encoder with the options of the golden file.
    pub fn encoder(&self) -> Encoder {
        let encoder = Encoder::new().weights_per_symbol(self.weights_per_symbol);
        self.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits))
    }

    /// Returns the integers that need more than one byte: eight significant bits and up to seven trailing zeros.
    pub fn large_integers(&self) -> Vec<LargeInteger> {
        let mut random = Random(0x0BAD_CAFE);
        let places = (0..self.rows).flat_map(|row| (0..self.cols).map(move |col| (row, col)));
        let places = places
            .filter(|(row, col)| self.has_large_integers && (97 * row + 31 * col) % 1009 == 0);
        let mut integer = |(row, col)| {
            let magnitude = (128 + random.bits(7)) << random.bits(3);
            let magnitude = magnitude.min(32512) as i16;
            let integer = if random.bits(1) == 0 { magnitude } else { -magnitude };
            LargeInteger { row, col, integer }
        };
        places.map(&mut integer).collect()
    }

    /// Returns the row scales: any bits.
    pub fn scales(&self) -> Vec<u16> {
        let mut random = Random(0x1234_5678);
        (0..self.rows).map(|_| random.bits(16)).collect()
    }

    /// Returns the weights, row-major, little endian.
    pub fn weights(&self) -> Vec<u8> {
        let mut random = Random(0x9E37_79B9);
        let places = (0..self.rows).flat_map(|row| (0..self.cols).map(move |col| (row, col)));
        let weights = places.map(|(row, col)| (self.weight)(&mut random, row, col));
        let weights = weights.flat_map(|w| w.to_le_bytes().into_iter().take(self.dtype.byte_len()));
        let mut weights: Vec<u8> = weights.collect();
        for LargeInteger { row, col, integer } in self.large_integers() {
            weights[row * self.cols + col] = integer as u8;
        }
        weights
    }

    /// Returns scales and zero points of the groups, row-major.
    pub fn groups(&self) -> (Vec<u16>, Vec<i8>) {
        let mut random = Random(0x2545_F491);
        let groups = (0..self.rows * self.cols.div_ceil(128))
            .map(|_| (0x2000 + random.bits(12), random.bits(4) as i8 - 8));
        groups.unzip()
    }

    /// Returns the golden file's path.
    pub fn path(&self) -> std::path::PathBuf {
        let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden");
        tests.join(self.name).with_extension("blob")
    }
}

/// Marsaglia's xorshift32.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Returns true once in `n` calls, on average.
    fn once_in(&mut self, n: u32) -> bool {
        self.next().is_multiple_of(n)
    }

    /// `n` with probability 2^-(n + 1), at most 15.
    fn geometric(&mut self) -> u16 {
        (self.next() >> 16 | 1 << 15).trailing_zeros() as u16
    }

    fn bits(&mut self, count: u32) -> u16 {
        (self.next() >> 8) as u16 & ((1u32 << count) - 1) as u16
    }
}

fn i8_code(value: i32) -> u16 {
    u16::from(value as u8)
}

fn example(random: &mut Random, row: usize, col: usize) -> u16 {
    let bit = i32::from(random.bits(1));
    match (row, col) {
        (3, 7) => i8_code(100),
        (12, 102) => i8_code(-128),
        _ if (row * 5 + col).is_multiple_of(83) => i8_code(12 + bit),
        _ => i8_code(bit),
    }
}

fn bf16_normal(random: &mut Random) -> u16 {
    let exponent = 124 - random.geometric();
    random.bits(1) << 15 | exponent << 7 | random.bits(7)
}

fn bf16_dirty(random: &mut Random, _: usize, _: usize) -> u16 {
    if random.once_in(100) { random.bits(16) } else { bf16_normal(random) }
}

fn bf16_pruned(random: &mut Random, row: usize, col: usize) -> u16 {
    match (row, col) {
        (0, 0) => 0x7FC1,   // a NaN with payload
        (0, 1) => 0x8000,   // -0.0
        (0, 2) => 0x0001,   // the smallest denormal
        (29, 99) => 0xFF80, // -infinity
        _ if random.once_in(2) => 0,
        _ => bf16_normal(random),
    }
}

fn f16_narrow(random: &mut Random, row: usize, col: usize) -> u16 {
    let exponent = 14 - random.geometric() / 2;
    match (row, col) {
        (62, 78) => 0x7C00, // infinity
        _ => random.bits(1) << 15 | exponent << 10 | random.bits(10),
    }
}

fn f8_e4m3(random: &mut Random, _: usize, _: usize) -> u16 {
    let exponent = if random.once_in(50) { random.bits(4) } else { 7 - random.geometric() / 3 };
    random.bits(1) << 7 | exponent << 3 | random.bits(3)
}

fn i8_r0(random: &mut Random, row: usize, _: usize) -> u16 {
    match row {
        256.. => random.bits(8),
        _ if random.once_in(700) => random.bits(8),
        _ if random.once_in(12) => i8_code(i32::from(random.bits(3)) - 4),
        _ => 0,
    }
}

fn i8_r3(random: &mut Random, _: usize, _: usize) -> u16 {
    let low = i32::from(random.bits(3));
    match random.bits(6) {
        0 => i8_code(40 + low),
        1..20 => i8_code(low - 8),
        _ => i8_code(low),
    }
}

fn i8_longest(_: &mut Random, row: usize, col: usize) -> u16 {
    u16::from(row < 32 && row.is_multiple_of(8) && col < 256 && col % 32 < 8)
}

fn i8_grouped(random: &mut Random, row: usize, col: usize) -> u16 {
    match (row, col) {
        (39, 255) => i8_code(7),
        _ => i8_code((2 - i32::from(random.geometric())).max(-8)),
    }
}

/// Returns an integer from -7 to 7, most often 0.
fn around_zero(random: &mut Random) -> i32 {
    i32::from(random.bits(3)) - i32::from(random.bits(3))
}

fn i8_quads(random: &mut Random, row: usize, col: usize) -> u16 {
    match (row, col) {
        (44, 100) => i8_code(-100),
        _ if random.once_in(20) => i8_code(2 * around_zero(random)),
        _ => i8_code(around_zero(random)),
    }
}
