//! Matrices of numbers for tests of quantizers, and short ways to quantize and compare them.

use fused_rans::Float;
use fused_rans::quantize::{NumberMatrix, QuantizeOptions, Quantized, Quantizer};
use half::{bf16, f16};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal, StudentT};

use crate::craft::{Tensor, tensor};

/// A matrix of numbers.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The numbers, row-major.
    pub values: Vec<f32>,
}

impl Numbers {
    /// Returns the matrix as quantizers take it.
    pub fn source(&self) -> NumberMatrix<'_> {
        NumberMatrix::from_slice(&self.values, self.rows, self.cols).unwrap()
    }
}

fn sample(rows: usize, cols: usize, scale: f64, seed: u64, of: impl Distribution<f64>) -> Numbers {
    let random = StdRng::seed_from_u64(seed);
    let values = of.sample_iter(random).take(rows * cols).map(|x| (x * scale) as f32).collect();
    Numbers { rows, cols, values }
}

/// Returns normally distributed numbers of standard deviation `scale`.
pub fn normal(rows: usize, cols: usize, scale: f64, seed: u64) -> Numbers {
    sample(rows, cols, scale, seed, StandardNormal)
}

/// Returns `scale` times Student-t distributed numbers with `freedom` degrees of freedom: heavy tails.
pub fn student_t(freedom: f64, rows: usize, cols: usize, scale: f64, seed: u64) -> Numbers {
    sample(rows, cols, scale, seed, StudentT::new(freedom).unwrap())
}

/// Generates small matrices of any shape and magnitude, some with zeros, some with outliers.
pub fn numbers() -> impl Strategy<Value = Numbers> {
    (1..40usize, 1..300usize, any::<u64>(), -30..30i32, any::<bool>(), 0..4usize).prop_map(
        |(rows, cols, seed, exponent, heavy, zeros)| {
            let scale = f64::from(exponent).exp2();
            let mut numbers = match heavy {
                true => student_t(2.0, rows, cols, scale, seed),
                false => normal(rows, cols, scale, seed),
            };
            let stride = 7 * zeros + 1;
            if zeros > 0 {
                numbers.values.iter_mut().step_by(stride).for_each(|x| *x = 0.0);
            }
            numbers
        },
    )
}

/// Returns the bytes of `number`, rounded to `dtype`. Rounds to the largest finite number instead of infinity.
pub fn store(dtype: Float, number: f32) -> Vec<u8> {
    match dtype {
        Float::Bf16 => {
            let rounded = bf16::from_f32(number);
            let largest = bf16::MAX.to_bits() | rounded.to_bits() & 0x8000;
            if rounded.is_infinite() { largest } else { rounded.to_bits() }.to_le_bytes().to_vec()
        }
        Float::F16 => {
            let rounded = f16::from_f32(number);
            let largest = f16::MAX.to_bits() | rounded.to_bits() & 0x8000;
            if rounded.is_infinite() { largest } else { rounded.to_bits() }.to_le_bytes().to_vec()
        }
        Float::F32 => number.to_le_bytes().to_vec(),
        _ => unimplemented!("{dtype}"),
    }
}

/// Returns a tensor of normally distributed numbers of a type by its safetensors name. Its name chooses the numbers.
pub fn numbers_of(name: &str, dtype: &'static str, shape: &[usize]) -> Tensor {
    let float = Float::ALL.into_iter().find(|float| float.name() == dtype).unwrap();
    let count = shape.iter().product::<usize>();
    let values = normal(1, count, 0.02, name.len() as u64).values;
    tensor(name, dtype, shape, values.into_iter().flat_map(|x| store(float, x)).collect())
}

/// Returns the quantizer to `bits` bits per weight.
pub fn rate(bits: f64) -> Quantizer {
    Quantizer::rate(bits).unwrap()
}

/// Quantizes with default options.
pub fn quantize(quantizer: Quantizer, numbers: &Numbers) -> Quantized {
    quantizer.quantize(numbers.source(), QuantizeOptions::new()).unwrap()
}

/// Returns the dequantized values and the sum of the squares of their errors.
pub fn dequantize(quantized: &Quantized, numbers: &Numbers) -> (Vec<f32>, f64) {
    let mut back = vec![0.0; numbers.values.len()];
    for (row, back) in back.chunks_exact_mut(numbers.cols).enumerate() {
        quantized.dequantize_row(row, back);
    }
    let pairs = back.iter().zip(&numbers.values);
    let error = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (back, error)
}

/// Encodes a quantized matrix; returns the blob's bits per weight, and the blob.
pub fn coded(quantized: &Quantized, numbers: &Numbers) -> (f64, Vec<u8>) {
    let blob = quantized.encode().expect("it is smaller than the numbers").into_bytes();
    (8.0 * blob.len() as f64 / numbers.values.len() as f64, blob)
}
