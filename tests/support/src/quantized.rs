//! Quantized matrices for tests of multiplication.

use crate::product::Case;
use crate::{AnyWide, Recipe, Weights};
use fused_rans::quantize::{NumberMatrix, Options, Quantizer};
use fused_rans::{Dtype, Float, WeightsPerSymbol, encode};

/// A quantized matrix, and what its weights stand for.
pub struct QuantizedCase {
    /// What it is, for messages.
    pub name: String,
    /// Rows, columns, activations, outputs; the weights are not the recipe's.
    pub case: Case,
    pub blob: Vec<u8>,
    pub weights: Vec<f64>,
}

/// A matrix of every format that quantizers have, of each type of activations, and of integers of more than a byte with
/// every split; whole tiles and edges.
pub fn quantized_cases() -> impl Iterator<Item = QuantizedCase> {
    quantizers().chain(wide())
}

fn wide() -> impl Iterator<Item = QuantizedCase> {
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
        let wide = AnyWide::new(&recipe, 300);
        QuantizedCase {
            name: format!("large integers, {split:?}, {}", x.name()),
            blob: encode(wide.matrix()).expect("it may be large"),
            case: Case { bias: true, ..Case::plain(Dtype::I8, x, rows, cols, 1) },
            weights: wide.numbers().into_iter().map(f64::from).collect(),
        }
    })
}

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
        let name = format!("{format}, {weights_per_symbol:?} a symbol, {}", x.name());
        // Rows of very different sizes, a few of them 0.
        let mut numbers = Weights::StudentT.bytes(Dtype::Bf16, rows * cols, 11);
        numbers[2 * cols..6 * cols].fill(0);
        let source = NumberMatrix::new(Float::Bf16, rows, cols, &numbers).unwrap();
        let options = Options { weights_per_symbol, ..Options::default() };
        let quantized = format.parse::<Quantizer>().unwrap().quantize(source, options).unwrap();
        let mut weights = vec![0.0; rows * cols];
        for (row, weights) in weights.chunks_exact_mut(cols).enumerate() {
            quantized.dequantize_row(row, weights);
        }
        QuantizedCase {
            blob: encode(quantized.matrix())
                .unwrap_or_else(|| panic!("{name}: it does not shrink")),
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
