//! Quantized matrices for tests of matrix multiplication.

use crate::product::Case;
use crate::{AnyLargeIntegers, Recipe, Weights};
use fused_rans::quantize::{NumberMatrix, QuantizeOptions, Quantizer};
use fused_rans::{Dtype, Float, WeightsPerSymbol};

/// A quantized matrix and its dequantized values.
pub struct QuantizedCase {
    /// Describes the case in messages.
    pub name: String,
    /// Sides, activations and outputs. Its recipe's weights are not used.
    pub case: Case,
    /// The blob.
    pub blob: Vec<u8>,
    /// The dequantized values, row-major.
    pub weights: Vec<f64>,
}

/// Returns a matrix of every quantized format for each type of activations, and large integers with every split; whole
/// tiles and edges.
pub fn quantized_cases() -> impl Iterator<Item = QuantizedCase> {
    quantizers().chain(large_integers())
}

/// Returns matrices with large integers.
pub fn large_integers() -> impl Iterator<Item = QuantizedCase> {
    let splits = crate::integer_splits().filter(|(split, _)| split.half_range() > 8);
    let cases = splits.flat_map(|(split, weights)| {
        [(Float::Bf16, 320, 576), (Float::F16, 300, 400)].map(|of| (split, weights, of))
    });
    cases.map(|(split, weights, (x, rows, cols))| {
        let (weights_per_symbol, raw_bits) = (split.weights_per_symbol(), Some(split.raw_bits()));
        let recipe = Recipe {
            dtype: Dtype::I8,
            weights_per_symbol,
            raw_bits,
            rows,
            cols,
            weights,
            seed: 12,
        };
        let integers = AnyLargeIntegers::new(&recipe, 300);
        QuantizedCase {
            name: format!("large integers, {split:?}, {}", x.name()),
            blob: integers.job().encode().expect("it may be large"),
            case: Case { bias: true, ..Case::plain(Dtype::I8, x, rows, cols, 1) },
            weights: integers.numbers().into_iter().map(f64::from).collect(),
        }
    })
}

/// Returns a matrix of every quantizer.
fn quantizers() -> impl Iterator<Item = QuantizedCase> {
    let quantizers = ["int8", "int4", "int4-zero-points", "fp8"].map(str::to_owned);
    let rates =
        [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.7, 6.0, 7.0].map(|bits| format!("rate={bits}"));
    let formats = quantizers.into_iter().chain(rates);
    let formats = formats.flat_map(|format| {
        WeightsPerSymbol::ALL.map(|weights_per_symbol| (format.clone(), weights_per_symbol))
    });
    let formats = formats.flat_map(|(format, weights_per_symbol)| {
        [(Float::Bf16, 320, 576), (Float::F16, 300, 400)]
            .map(|of| (format.clone(), weights_per_symbol, of))
    });
    formats.map(|(format, weights_per_symbol, (x, rows, cols))| {
        let name = format!("{format}, {weights_per_symbol:?} per symbol, {}", x.name());
        // A few rows are 0.
        let mut numbers = Weights::StudentT.bytes(Dtype::Bf16, rows * cols, 11);
        numbers[2 * cols..6 * cols].fill(0);
        let source = NumberMatrix::from_bytes(Float::Bf16, &numbers, rows, cols).unwrap();
        let options = QuantizeOptions::new().weights_per_symbol(weights_per_symbol);
        let quantized = format.parse::<Quantizer>().unwrap().quantize(source, options).unwrap();
        let mut weights = vec![0.0; rows * cols];
        for (row, weights) in weights.chunks_exact_mut(cols).enumerate() {
            quantized.dequantize_row(row, weights);
        }
        QuantizedCase {
            blob: quantized.encode().unwrap_or_else(|e| panic!("{name}: {e}")).into_bytes(),
            name,
            case: Case {
                scale: x == Float::F16,
                bias: true,
                ..Case::plain(Dtype::I8, x, rows, cols, 1)
            },
            weights: weights.into_iter().map(f64::from).collect(),
        }
    })
}
