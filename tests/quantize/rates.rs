//! Rates: blobs take the bits per weight that were asked for, and errors are as small as these allow.

use fused_rans::quantize::{Moments, QuantizeError, QuantizeOptions, Rate, RateCurve, share_rate};
use fused_rans::{Blob, WeightsPerSymbol};
use half::bf16;
use proptest::prelude::*;
use support::sources::{Numbers, coded, dequantize, normal, quantize, rate, student_t};

/// Generates matrices so large that table and index take at most 0.05 bits per weight.
fn large() -> impl Strategy<Value = Numbers> {
    let sides = prop::sample::select(vec![
        (192, 576),
        (576, 576),
        (300, 700),
        (64, 2048),
        (1024, 128),
        (1100, 257),
        (2048, 272),
        (1024, 1024),
        (4096, 300),
    ]);
    let freedom = prop::sample::select(vec![None, Some(5.0), Some(2.5)]);
    (sides, any::<u64>(), freedom, -20..20i32).prop_map(
        |((rows, cols), seed, freedom, exponent)| {
            let scale = f64::from(exponent).exp2();
            match freedom {
                Some(freedom) => student_t(freedom, rows, cols, scale, seed),
                None => normal(rows, cols, scale, seed),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rates_are_met(numbers in large(), bits in 2.0..=7.0) {
        for weights_per_symbol in WeightsPerSymbol::ALL {
            let options = QuantizeOptions::new().weights_per_symbol(weights_per_symbol);
            let quantized = rate(bits).quantize(numbers.source(), options).unwrap();
            let (found, blob) = coded(&quantized, &numbers);
            // Each tile is padded to whole lines.
            let tiles = numbers.rows.div_ceil(256) * numbers.cols.div_ceil(256);
            let limit = 0.05 + 8.0 * 128.0 * tiles as f64 / numbers.values.len() as f64;
            prop_assert!((found - bits).abs() < limit, "{found} instead of {bits} bits, {weights_per_symbol:?}");
            let blob = Blob::parse(&blob).unwrap();
            let share = blob.exception_count() as f64 / numbers.values.len() as f64;
            // Exceptions are so few that they cost little; high rates may need more.
            let limit = if bits < 4.5 { 5e-3 } else { 0.02 };
            prop_assert!(share < limit, "{share} are exceptions, {weights_per_symbol:?}");
        }
    }

    /// Matrices of few rows or columns, or of few values: the rate is met, or the blob is smaller and as exact as 8 bits,
    /// or an error says that the rate cannot be met.
    #[test]
    fn odd_matrices_take_no_more_than_their_rate(
        (rows, cols) in prop::sample::select(vec![
            (1, 4096), (2, 4096), (8, 2048), (17, 4096), (33, 2048), (257, 500), (2048, 9), (4096, 4), (600, 257),
        ]),
        kind in 0..6,
        bits in 2.0..7.0,
        seed in any::<u64>(),
    ) {
        let mut numbers = normal(rows, cols, 1.0, seed);
        for (at, x) in numbers.values.iter_mut().enumerate() {
            *x = match kind {
                0 => *x,
                1 => x.signum(),
                2 => 0.25,
                3 if at % 20 != 0 => 0.0,
                4 if at / cols % 8 == 0 => 0.0,
                5 if at % cols == 0 => 300.0,
                _ => *x,
            };
        }
        match rate(bits).quantize(numbers.source(), QuantizeOptions::new()) {
            Ok(quantized) => {
                let (back, error) = dequantize(&quantized, &numbers);
                prop_assert!(back.iter().all(|x| x.is_finite()));
                let energy: f64 = numbers.values.iter().map(|&x| f64::from(x).powi(2)).sum();
                // Any distribution reaches this error at `bits` bits. Small matrices waste up to one bit.
                let limit = 2.0 * (2.5 - bits).exp2();
                let relative = if energy > 0.0 { (error / energy).sqrt() } else { error };
                prop_assert!(relative < limit.max(0.02), "{relative}");
                if let Ok(blob) = quantized.encode() {
                    let found = 8.0 * blob.as_bytes().len() as f64 / numbers.values.len() as f64;
                    let slack = 0.16;
                    prop_assert!(found < bits + slack, "{found} instead of {bits}");
                }
            }
            Err(QuantizeError::TooSmall { .. }) => prop_assert!(rows < 16 || cols < 16),
            Err(fault) => {
                prop_assert!(matches!(fault, QuantizeError::Unreachable { .. }), "{fault}");
                prop_assert!(rows < 32 || cols < 32 || kind != 0, "{fault}");
            }
        }
    }

    #[test]
    fn errors_fall_with_the_rate(numbers in large()) {
        let error = |bits| dequantize(&quantize(rate(bits), &numbers), &numbers).1;
        let errors: Vec<f64> = [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.7].map(error).to_vec();
        prop_assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        // A bit divides the error by 4, less what a sixteenth of a table costs, and what exceptions cost where outliers are
        // many: 2.8 was seen.
        prop_assert!(errors[2] / errors[4] > 2.4, "{errors:?}");
    }

    /// An outlier is neither clipped, nor does it make its row's step coarser. (The test needs moments: with them scales are
    /// the steps. Without, scales are fitted, which shrinks a row by some hundredths, most at low rates.)
    #[test]
    fn nothing_is_clipped(seed in any::<u64>(), bits in 2.5..7.0, outlier in 1.0..3000.0f32) {
        let mut numbers = normal(100, 300, 1.0, seed);
        numbers.values[12_345] = outlier;
        let moments = Moments::new(300, vec![1.0; 300]).unwrap();
        let options = QuantizeOptions::new().moments(&moments);
        let quantized = rate(bits).quantize(numbers.source(), options).unwrap();
        let (back, error) = dequantize(&quantized, &numbers);
        let (_, blob) = coded(&quantized, &numbers);
        let blob = Blob::parse(&blob).unwrap();
        let scales = blob.row_scales().unwrap();
        let step = |row: usize| scales[row].to_f32();
        let relative = |row: usize| {
            let squares: f32 = numbers.values[row * 300..][..300].iter().map(|x| x * x).sum();
            step(row) / (squares / 300.0).sqrt()
        };
        let far = 12_345 / 300;
        prop_assert!((relative(far) / relative(0) - 1.0).abs() < 0.01, "{}", step(far));
        // The error is below that of a step more than one bit coarser than the rate's, by which the rest of the outlier's row
        // may become 0.
        let coarse = (3.75 - bits).exp2();
        let energy = |row: usize| -> f64 {
            let small = |x: &&f32| f64::from(**x) != f64::from(outlier);
            let row = numbers.values[row * 300..][..300].iter().filter(small);
            row.map(|&x| f64::from(x).powi(2)).sum()
        };
        let others: f64 = (0..100).map(energy).map(|e| e * (coarse.powi(2) / 12.0).min(1.0)).sum();
        let own = energy(far) + (coarse * f64::from(outlier)).powi(2) / 1200.0;
        prop_assert!(error < others + own, "{error}, {others}, {own}");
        let (row, step) = (far * 300..(far + 1) * 300, step(far));
        for (back, number) in back[row.clone()].iter().zip(&numbers.values[row]) {
            let limit = 0.51 * step + number.abs() / 256.0;
            prop_assert!((back - number).abs() <= limit, "{number} became {back}");
        }
    }
}

/// With the step of the rate, a few numbers become integers of more than a byte.
#[test]
fn numbers_that_lie_far_out_do_not_make_others_coarser() {
    let numbers = student_t(2.2, 256, 1024, 1.0, 16);
    let quantized = quantize(rate(5.0), &numbers);
    let (bits, blob) = coded(&quantized, &numbers);
    assert!((bits - 5.0).abs() < 0.05, "{bits}");
    let blob = Blob::parse(&blob).unwrap();
    assert!(blob.has_large_integers());
    assert!(blob.exception_count() < 256 * 1024 / 256, "{}", blob.exception_count());
    let (back, _) = dequantize(&quantized, &numbers);
    for (values, back) in numbers.values.chunks_exact(1024).zip(back.chunks_exact(1024)) {
        let mean: f32 = values.iter().map(|x| x * x).sum::<f32>() / 1024.0;
        for (number, back) in values.iter().zip(back) {
            let limit = 0.1 * mean.sqrt() + 0.03 * number.abs();
            assert!((number - back).abs() < limit, "{number} became {back}");
        }
    }
}

/// With four weights per symbol, the coarsest step of one split may take more bits than the rate, and the finest of the next
/// one far fewer: then two weights share a symbol.
#[test]
fn rates_between_two_splits_are_met() {
    for (freedom, seed, bits) in
        [(2.5, 59, 4.185_602_116_8), (2.5, 203, 4.184_359_825_6), (5.0, 274, 4.136_525_084_8)]
    {
        let numbers = student_t(freedom, 2048, 272, 1.0, seed);
        let options = QuantizeOptions::new().weights_per_symbol(WeightsPerSymbol::Four);
        let (found, _) = coded(&rate(bits).quantize(numbers.source(), options).unwrap(), &numbers);
        assert!((found - bits).abs() < 0.05, "{found} instead of {bits}");
    }
}

/// Four weights per symbol cost little against two, at every rate.
#[test]
fn four_weights_per_symbol_cost_little() {
    for numbers in [normal(1024, 1024, 1.0, 7), student_t(2.5, 1024, 1024, 1.0, 8)] {
        for rate_bits in [3.0, 3.5, 4.0, 4.1, 4.2, 4.6, 5.01, 5.5] {
            let [four, two] = [WeightsPerSymbol::Four, WeightsPerSymbol::Two].map(|count| {
                let options = QuantizeOptions::new().weights_per_symbol(count);
                let quantized = rate(rate_bits).quantize(numbers.source(), options).unwrap();
                let (found, _) = coded(&quantized, &numbers);
                assert!(
                    (found - rate_bits).abs() < 0.06,
                    "{found} instead of {rate_bits}, {count:?}"
                );
                dequantize(&quantized, &numbers).1
            });
            assert!(four < 1.7 * two, "{rate_bits}: {four}, {two}");
        }
    }
}

/// Rows that repeat at a regular distance, or are few and long, do not mislead the sample.
#[test]
fn samples_are_of_all_rows() {
    let mut periodic = normal(2048, 2048, 1.0, 13);
    periodic.values.chunks_exact_mut(2048).step_by(16).for_each(|row| row.fill(0.0));
    let mut long = normal(64, 1 << 14, 1.0, 14);
    long.values[..1 << 14].fill(0.0);
    for numbers in [periodic, long] {
        let (found, _) = coded(&quantize(rate(5.0), &numbers), &numbers);
        assert!((found - 5.0).abs() < 0.06, "{found}");
    }
}

/// With some raw bits, all weights of a matrix of one value or two lie outside of the coded window.
#[test]
fn raw_bits_of_matrices_of_few_values_are_taken_or_refused() {
    for (raw_bits, weights_per_symbol) in
        (0..6).flat_map(|r| WeightsPerSymbol::ALL.map(|weights_per_symbol| (r, weights_per_symbol)))
    {
        for (bits, two) in [2.0, 3.5, 5.0, 7.0].into_iter().flat_map(|b| [(b, false), (b, true)]) {
            let mut numbers = normal(64, 512, 1.0, 17);
            numbers.values.iter_mut().for_each(|x| *x = if two { x.signum() } else { 1.0 });
            let options =
                QuantizeOptions::new().weights_per_symbol(weights_per_symbol).raw_bits(raw_bits);
            assert!(RateCurve::new(numbers.source(), options).is_ok());
            match rate(bits).quantize(numbers.source(), options) {
                Ok(quantized) => assert!(coded(&quantized, &numbers).0 < bits + 0.1),
                Err(fault) => {
                    assert!(matches!(fault, QuantizeError::Unreachable { .. }), "{fault}")
                }
            }
        }
    }
}

/// A tile must have fewer exceptions than weights, so the quantizer makes only what can be stored.
#[test]
fn dense_tiles_of_sparse_matrices_are_stored() {
    for (rows, bits) in [(4096, 5.0), (8192, 3.0), (8192, 7.0), (32768, 7.0)] {
        let mut numbers = normal(rows, 256, 1.0, 18);
        numbers.values.iter_mut().for_each(|x| *x = x.signum());
        numbers.values[256 * 256..].fill(0.0);
        let (found, _) = coded(&quantize(rate(bits), &numbers), &numbers);
        assert!(found < bits + 0.05, "{found}");
    }
}

#[test]
fn raw_bits_that_are_too_many_are_refused() {
    let numbers = normal(256, 512, 1.0, 15);
    let options = QuantizeOptions::new().raw_bits(4);
    let fault = rate(4.0).quantize(numbers.source(), options).unwrap_err();
    assert!(matches!(fault, QuantizeError::Unreachable { asked: 4.0, .. }), "{fault}");
}

/// A blob has the split that was requested.
#[test]
fn splits_can_be_chosen() {
    let numbers = normal(256, 512, 1.0, 4);
    for (weights_per_symbol, raw_bits) in [
        (WeightsPerSymbol::Two, 2),
        (WeightsPerSymbol::Two, 4),
        (WeightsPerSymbol::Four, 3),
        (WeightsPerSymbol::Four, 4),
    ] {
        let options =
            QuantizeOptions::new().weights_per_symbol(weights_per_symbol).raw_bits(raw_bits);
        let quantized = rate(5.5).quantize(numbers.source(), options).unwrap();
        let (bits, blob) = coded(&quantized, &numbers);
        assert!((bits - 5.5).abs() < 0.05, "{bits}");
        let split = Blob::parse(&blob).unwrap().split();
        // Integers that cannot be coded with four weights per symbol at this rate are coded with two.
        match split.weights_per_symbol() == weights_per_symbol {
            true => assert_eq!(split.raw_bits(), raw_bits),
            false => assert_eq!((weights_per_symbol, raw_bits), (WeightsPerSymbol::Four, 3)),
        }
    }
}

#[test]
fn rates_are_spread_by_what_they_are_worth() {
    let matrices =
        [normal(256, 256, 1.0, 9), normal(256, 1024, 0.1, 10), normal(256, 256, 5.0, 11)];
    let curve =
        |numbers: &Numbers| RateCurve::new(numbers.source(), QuantizeOptions::new()).unwrap();
    let curves: Vec<RateCurve> = matrices.iter().map(curve).collect();
    let bits = |curves: &[RateCurve]| -> Vec<f64> {
        share_rate(curves, Rate::new(4.0).unwrap()).into_iter().map(Rate::bits).collect()
    };
    let shared = bits(&curves);
    // In a matrix of a fourth of the size, one bit more per weight takes a fourth of the bits for the same gain.
    assert!((shared[0] - shared[2]).abs() < 0.05, "{shared:?}");
    assert!((shared[0] - shared[1] - 1.0).abs() < 0.2, "{shared:?}");
    let mean = (shared[0] + 4.0 * shared[1] + shared[2]) / 6.0;
    assert!((mean - 4.0).abs() < 0.01, "{shared:?}");
    let weighted =
        bits(&[curves[0].clone().weighted(16.0).unwrap(), curves[1].clone(), curves[2].clone()]);
    assert!((weighted[0] - weighted[2] - 2.0).abs() < 0.1, "{weighted:?}");
    assert!(bits(&[]).is_empty());
    for weight in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let error = curves[0].clone().weighted(weight).unwrap_err();
        assert!(matches!(error, QuantizeError::InvalidWeight(_)), "{error}");
    }
}

/// Rows depend on each other, so that pairs of weights take far fewer bits than two single ones.
#[test]
fn rows_that_depend_on_each_other_take_no_more_than_their_rate() {
    for (rows, cols) in [(128, 256), (512, 512), (1024, 512)] {
        let number =
            |at: usize| (at as u32).wrapping_mul(2_654_435_761) as f32 / 2f32.powi(32) - 0.5;
        let number = |at| bf16::from_f32(number(at)).to_f32();
        let numbers = Numbers { rows, cols, values: (0..rows * cols).map(number).collect() };
        for bits in [2.0, 3.3, 4.0, 5.0, 6.0, 6.9, 7.0] {
            let (found, _) = coded(&quantize(rate(bits), &numbers), &numbers);
            assert!(found < bits + 0.05 && found > bits - 0.35, "{found} instead of {bits} bits");
        }
    }
}
