//! Random matrices for tests.

use crate::Job;
#[cfg(feature = "cuda")]
use fused_rans::gpu::{self, Gpu, GpuError};
use fused_rans::layout::{Split, TILE};
use fused_rans::{Dtype, Encoder, Groups, LargeInteger, Matrix, WeightsPerSymbol};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Normal, StudentT};
#[cfg(feature = "cuda")]
use std::sync::OnceLock;

/// Returns the first GPU; prints why a test is skipped and returns `None` if there is none.
#[cfg(feature = "cuda")]
pub fn device() -> Option<&'static Gpu> {
    static DEVICE: OnceLock<Result<Gpu, GpuError>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| gpu::open_as_tested(0)).as_ref();
    device.map_err(|error| eprintln!("skipped: {error}")).ok()
}

/// Distribution of the weights of a test matrix.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// N(0, 0.02^2); for integers N(0, 12.6^2).
    Gaussian,
    /// Student-t with 5 degrees of freedom.
    StudentT,
    /// Laplace.
    Laplace,
    /// Uniform in [-1, 1).
    Uniform,
    /// One value in every place.
    Constant,
    /// 95 % exact zeros, the rest Gaussian.
    MostlyZero,
    /// Every bit pattern with equal probability: does not shrink.
    AnyBits,
    /// Gaussian, but 1 weight in 50 is any bit pattern.
    Dirty,
    /// Integers in -8..=7; floating-point weights are Gaussian.
    Small,
    /// Integers of about this many bits. With fewer than eight bits, 6 adjacent ones in 60,000 are -128 or 127.
    Integers(u32),
    /// Gaussian, but every third tile of a [`Recipe`] has any bit patterns and is stored raw.
    RawTiles,
}

impl Weights {
    /// All distributions, without those for special cases.
    pub const ALL: [Self; 9] = [
        Self::Gaussian,
        Self::StudentT,
        Self::Laplace,
        Self::Uniform,
        Self::Constant,
        Self::MostlyZero,
        Self::AnyBits,
        Self::Dirty,
        Self::Small,
    ];

    /// Returns `count` weights of `dtype`, little endian.
    pub fn bytes(self, dtype: Dtype, count: usize, seed: u64) -> Vec<u8> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let constant = rng.random::<u16>();
        if let Self::Integers(bits) = self {
            let gaussian = Self::Gaussian.bytes(dtype, count, seed).into_iter().enumerate();
            return gaussian.map(|(at, weight)| integer(bits, at, weight)).collect();
        }
        let mut weight = || match self {
            Self::Constant => constant,
            Self::AnyBits => rng.random(),
            Self::Dirty if rng.random_range(0..50) == 0 => rng.random(),
            Self::MostlyZero if rng.random_range(0..20) != 0 => 0,
            Self::Small if dtype == Dtype::I8 => rng.random_range(-8i16..8) as u16,
            _ => from_f32(dtype, self.sample(&mut rng)),
        };
        let bytes = (0..count).map(|_| weight());
        match dtype.byte_len() {
            1 => bytes.map(|w| w as u8).collect(),
            _ => bytes.flat_map(u16::to_le_bytes).collect(),
        }
    }

    fn sample(self, rng: &mut impl Rng) -> f32 {
        0.02 * match self {
            Self::StudentT => StudentT::new(5.0f32).expect("valid").sample(rng),
            Self::Laplace => {
                let (a, b) = (rng.random::<f32>(), rng.random::<f32>());
                ((1.0 - a) / (1.0 - b)).ln()
            }
            Self::Uniform => rng.random_range(-50.0..50.0),
            _ => Normal::new(0.0f32, 1.0).expect("valid").sample(rng),
        }
    }
}

/// Returns an integer of about `bits` bits for index `at`, made from `weight`, one of N(0, 12.6^2).
fn integer(bits: u32, at: usize, weight: u8) -> u8 {
    let value = match weight.cast_signed() {
        value if bits == 8 => value.saturating_mul(2) | (at % 2) as i8,
        _ if at % 60_000 < 6 => [i8::MIN, i8::MAX][at % 2],
        value => value >> (7 - bits),
    };
    value.cast_unsigned()
}

/// Returns the bits of `value` in `dtype`. Integers have a step of 0.02 / 12.6.
fn from_f32(dtype: Dtype, value: f32) -> u16 {
    match dtype {
        Dtype::Bf16 => bf16::from_f32(value).to_bits(),
        Dtype::F16 => f16::from_f32(value).to_bits(),
        // e4m3 is f16 with one exponent bit and seven mantissa bits less; rounding and range do not matter to a codec.
        Dtype::F8E4M3 => {
            let bits = f16::from_f32(value * 16.0).to_bits();
            let exponent = i32::from(bits >> 10 & 31) - 15 + 7;
            bits >> 15 << 7 | (exponent.clamp(0, 15) as u16) << 3 | bits >> 7 & 7
        }
        Dtype::I8 => (value / 0.02 * 12.6).round().clamp(-128.0, 127.0) as i16 as u16 & 0xFF,
    }
}

/// Parameters of a random matrix. A failing test prints them instead of the weights.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Type of the weights.
    pub dtype: Dtype,
    /// Number of integers that share a symbol.
    pub weights_per_symbol: WeightsPerSymbol,
    /// Number of raw bits of integers; `None` lets the encoder choose.
    pub raw_bits: Option<u8>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distribution of the weights.
    pub weights: Weights,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Recipe {
    /// Describes a tile of Gaussian weights.
    pub fn gaussian(dtype: Dtype) -> Self {
        let (weights_per_symbol, weights) = (WeightsPerSymbol::Two, Weights::Gaussian);
        Self { dtype, weights_per_symbol, raw_bits: None, rows: 256, cols: 256, weights, seed: 1 }
    }

    /// Returns the weights, row-major, little endian.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.rows * self.cols;
        let mut bytes = self.weights.bytes(self.dtype, count, self.seed);
        if let Weights::RawTiles = self.weights {
            let any = Weights::AnyBits.bytes(self.dtype, count, self.seed);
            let width = self.dtype.byte_len();
            for at in
                (0..count).filter(|at| (at / self.cols / TILE + at % self.cols / TILE) % 3 == 1)
            {
                bytes[width * at..][..width].copy_from_slice(&any[width * at..][..width]);
            }
        }
        bytes
    }

    /// Returns the matrix of the weights `data`, row-major, and its encoder.
    pub fn job<'a>(&self, data: &'a [u8]) -> Job<'a> {
        let matrix = Matrix::from_bytes(self.dtype, data, self.rows, self.cols);
        let encoder = Encoder::new().weights_per_symbol(self.weights_per_symbol);
        let encoder = self.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits));
        Job { matrix: matrix.expect("it is that long"), encoder }
    }

    /// Returns the lowest four bits of I8 weights, sign-extended: weights that may have groups.
    pub fn nibbles(&self) -> Vec<u8> {
        assert_eq!(self.dtype, Dtype::I8);
        self.bytes()
            .into_iter()
            .map(|bits| (bits.cast_signed() << 4 >> 4).cast_unsigned())
            .collect()
    }
}

/// Random scales and zero points of groups.
pub struct AnyGroups {
    /// F16 bits of the scales, row-major.
    pub scales: Vec<u16>,
    /// Zero points, row-major.
    pub zeros: Option<Vec<i8>>,
}

impl AnyGroups {
    /// Makes scales of any bits and, if `zeros`, zero points from -8 to 7, for a matrix of `rows` x `cols`.
    pub fn new(rows: usize, cols: usize, zeros: bool, seed: u64) -> Self {
        Self::with_scales(rows, cols, zeros, seed, |rng| rng.random())
    }

    /// Makes groups as [`AnyGroups::new`] does, but with scales from 2^-14 to 2, of either sign.
    pub fn with_normal_scales(rows: usize, cols: usize, zeros: bool, seed: u64) -> Self {
        let (lowest, highest) =
            (f16::from_f32(2f32.powi(-14)).to_bits(), f16::from_f32(2.0).to_bits());
        Self::with_scales(rows, cols, zeros, seed, |rng| {
            rng.random_range(lowest..=highest) | rng.random::<u16>() & 0x8000
        })
    }

    fn with_scales(
        rows: usize,
        cols: usize,
        zeros: bool,
        seed: u64,
        scale: impl Fn(&mut SmallRng) -> u16,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = rows * cols.div_ceil(128);
        let scales = (0..count).map(|_| scale(&mut rng)).collect();
        let zeros = zeros.then(|| (0..count).map(|_| rng.random_range(-8..8)).collect());
        Self { scales, zeros }
    }

    /// Returns the groups as the encoder takes them.
    pub fn groups(&self) -> Groups<'_> {
        Groups { scales: self.scales.reinterpret_cast(), zeros: self.zeros.as_deref() }
    }
}

/// Random integers with row scales, some of which need more than one byte.
pub struct AnyLargeIntegers {
    recipe: Recipe,
    /// The low bytes of all integers, row-major.
    pub data: Vec<u8>,
    /// BF16 bits of the row scales.
    pub scales: Vec<u16>,
    /// The integers that need more than one byte.
    pub integers: Vec<LargeInteger>,
}

impl AnyLargeIntegers {
    /// Makes integers of `recipe`, about 1 in `one_of` of which needs more than one byte. Scales lie between 2^-14 and 2.
    pub fn new(recipe: &Recipe, one_of: usize) -> Self {
        assert_eq!(recipe.dtype, Dtype::I8);
        let mut rng = SmallRng::seed_from_u64(recipe.seed);
        let (mut data, mut integers) = (recipe.bytes(), Vec::new());
        for (at, weight) in data.iter_mut().enumerate() {
            if rng.random_range(0..one_of) == 0 {
                let magnitude = rng.random_range(129..256) << rng.random_range(0..8);
                let integer = [1, -1][rng.random_range(0..2)] * magnitude.min(32512i32) as i16;
                let (row, col) = (at / recipe.cols, at % recipe.cols);
                integers.push(LargeInteger { row, col, integer });
                *weight = integer as u8;
            }
        }
        let scale = |_| bf16::from_f32(rng.random_range(-14.0..1.0f32).exp2()).to_bits();
        let scales = (0..recipe.rows).map(scale).collect();
        Self { recipe: recipe.clone(), data, scales, integers }
    }

    /// Returns the matrix, and an encoder that may make a blob of any size of it.
    pub fn job(&self) -> Job<'_> {
        let job = self.recipe.job(&self.data).max_bytes(16 * self.data.len());
        job.with_row_scales(&self.scales).with_large_integers(&self.integers)
    }

    /// Returns the dequantized values, row-major.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers: Vec<f32> =
            self.data.iter().map(|&weight| f32::from(weight.cast_signed())).collect();
        for &LargeInteger { row, col, integer } in &self.integers {
            numbers[row * self.recipe.cols + col] = integer.into();
        }
        for (row, scale) in numbers.chunks_exact_mut(self.recipe.cols).zip(&self.scales) {
            row.iter_mut().for_each(|number| *number *= bf16::from_bits(*scale).to_f32());
        }
        numbers
    }
}

/// Returns all splits of integers, each with weights for which the encoder chooses it.
pub fn integer_splits() -> impl Iterator<Item = (Split, Weights)> {
    let splits = WeightsPerSymbol::ALL.into_iter().flat_map(Split::all_i8);
    splits.map(|split| (split, Weights::Integers((2 * split.half_range()).ilog2())))
}

/// Generates any matrix.
pub fn any_matrix() -> impl Strategy<Value = Recipe> {
    let dtype = prop::sample::select(&Dtype::ALL[..]);
    let weights = prop::sample::select(&Weights::ALL[..]);
    let weights_per_symbol = prop::sample::select(&WeightsPerSymbol::ALL[..]);
    let raw_bits = prop::option::weighted(0.2, 0..6u8);
    (side(), side(), dtype, weights_per_symbol, raw_bits, weights, any::<u64>()).prop_map(
        |(rows, cols, dtype, weights_per_symbol, raw_bits, weights, seed)| Recipe {
            dtype,
            weights_per_symbol,
            raw_bits,
            rows,
            cols,
            weights,
            seed,
        },
    )
}

/// Generates sides of matrices: sizes of fragments and tiles, these plus and minus 1, widths of models, anything up to 600.
fn side() -> impl Strategy<Value = usize> {
    prop_oneof![
        prop::sample::select(vec![1usize, 15, 16, 17, 33, 192, 256, 384, 512, 576, 1000]),
        1usize..600,
    ]
}
