//! Compressed layers with random weights, one kind per format.

use clap::ValueEnum;
use fused_rans::layout::GROUP;
use fused_rans::{Dtype, Encoder, Groups, Matrix, WeightsPerSymbol};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::error::Error;

/// A format of weights, and the distribution that they are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// BF16, N(0, 0.02^2)
    Bf16,
    /// FP16, N(0, 0.02^2)
    Fp16,
    /// FP8 e4m3, Gaussian, the largest magnitude scaled to 448
    Fp8,
    /// INT8, round(N(0, 12.6^2))
    Int8,
    /// INT8 with four weights per symbol
    Int8x4,
    /// INT4, round(N(0, 2.5^2)) in -8..=7, with an FP16 scale for every 128 weights
    Int4,
    /// INT4 with four weights per symbol
    Int4x4,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] =
        [Self::Bf16, Self::Fp16, Self::Fp8, Self::Int8, Self::Int8x4, Self::Int4, Self::Int4x4];
}

/// Number of weights that are drawn from one seed.
const CHUNK: usize = 1 << 16;

/// Returns a compressed layer of `rows` x `cols` weights, the same in every run.
pub fn blob(format: Format, rows: usize, cols: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let count = rows * cols;
    let bf16 = |z: f32| bf16::from_f32(0.02 * z).to_le_bytes();
    let f16 = |z: f32| f16::from_f32(0.02 * z).to_le_bytes();
    let (dtype, bytes) = match format {
        Format::Bf16 => (Dtype::Bf16, drawn(count, bf16)),
        Format::Fp16 => (Dtype::F16, drawn(count, f16)),
        Format::Fp8 => {
            let scale = 448.0 / largest(count);
            (Dtype::F8E4M3, drawn(count, |z| [e4m3(scale * z)]))
        }
        Format::Int8 | Format::Int8x4 => {
            (Dtype::I8, drawn(count, |z| [integer(12.6 * z, -128.0, 127.0)]))
        }
        Format::Int4 | Format::Int4x4 => {
            (Dtype::I8, drawn(count, |z| [integer(2.5 * z, -8.0, 7.0)]))
        }
    };
    let weights_per_symbol = match format {
        Format::Int8x4 | Format::Int4x4 => WeightsPerSymbol::Four,
        _ => WeightsPerSymbol::Two,
    };
    let matrix = Matrix::from_bytes(dtype, &bytes, rows, cols)?;
    let encoder = Encoder::new().weights_per_symbol(weights_per_symbol);
    let blob = match format {
        Format::Int4 | Format::Int4x4 => {
            let scales = drawn(rows * cols.div_ceil(GROUP), |z| [scale(z)]);
            encoder.encode(matrix.with_groups(Groups { scales: &scales, zeros: None })?)?
        }
        _ => encoder.encode(matrix)?,
    };
    Ok(blob.into_bytes())
}

/// Draws `count` numbers from N(0, 1), the same in every run, and returns them as `stored` converts them.
fn drawn<const N: usize, T: Copy + Default + Send>(
    count: usize,
    stored: impl Fn(f32) -> [T; N] + Sync,
) -> Vec<T> {
    let mut all = vec![T::default(); N * count];
    let chunks = all.par_chunks_mut(N * CHUNK).enumerate();
    chunks.for_each(|(seed, chunk)| {
        for (place, z) in chunk.as_chunks_mut().0.iter_mut().zip(normals(seed as u64)) {
            *place = stored(z);
        }
    });
    all
}

/// Returns the largest magnitude of the numbers that [`drawn`] draws.
fn largest(count: usize) -> f32 {
    let chunks = (0..count.div_ceil(CHUNK)).into_par_iter();
    let largest = chunks.map(|chunk| {
        let numbers = normals(chunk as u64).take(CHUNK.min(count - chunk * CHUNK));
        numbers.fold(0f32, |largest, z| largest.max(z.abs()))
    });
    largest.reduce(|| 0.0, f32::max)
}

/// Returns numbers from N(0, 1), from one seed.
fn normals(seed: u64) -> impl Iterator<Item = f32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    std::iter::repeat_with(move || StandardNormal.sample(&mut rng))
}

/// Rounds `value` to an integer from `low` to `high`.
fn integer(value: f32, low: f32, high: f32) -> u8 {
    (value.round().clamp(low, high) as i8).cast_unsigned()
}

/// Returns a scale around 0.02 / 2.5 in FP16.
fn scale(z: f32) -> f16 {
    f16::from_f32(0.008 * (0.1 * z).exp())
}

/// Rounds `value`, clamped to [-448, 448], to the nearest e4m3 number, and ties to even. Returns its bits.
fn e4m3(value: f32) -> u8 {
    let sign = u8::from(value.is_sign_negative()) << 7;
    let magnitude = value.abs().min(448.0);
    // Numbers below 2^-6 are 2^-9 apart. From 2^-6 on, the step is an eighth of the power of two.
    let exponent = (magnitude.to_bits() >> 23).cast_signed() - 127;
    let step = 2f32.powi(exponent.max(-6) - 3);
    // 8 to 16 steps, where 16 are 8 of the next exponent. Subnormals have fewer.
    let steps = (magnitude / step).round_ties_even() as u8;
    sign | (steps + 8 * (exponent.max(-6) + 6) as u8)
}
