//! Quantizers: results match the obvious way, and a blob gives them back.

use crate::reference;
use fused_rans::quantize::{
    Moments, NumberMatrix, QuantizeError, QuantizeOptions, Quantizer, RateCurve,
};
use fused_rans::{Dtype, Float};
use half::bf16;
use proptest::prelude::*;
use support::sources;
use support::sources::{Numbers, coded, dequantize, normal, quantize, rate};

const INT4: Quantizer = Quantizer::Int4 { zero_points: false };
const INT4_ZERO_POINTS: Quantizer = Quantizer::Int4 { zero_points: true };

/// Selects quantizers whose scales do not depend on the coding.
fn of_fixed_scales() -> impl Strategy<Value = Quantizer> {
    prop::sample::select(vec![Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_weight_is_the_nearest_that_its_scale_has(
        quantizer in of_fixed_scales(),
        numbers in sources::numbers(),
    ) {
        let quantized = quantize(quantizer, &numbers);
        let (back, _) = dequantize(&quantized, &numbers);
        let expected = reference::quantize(quantizer, &numbers);
        for (at, (&found, &expected)) in back.iter().zip(&expected).enumerate() {
            // Either of two levels at the same distance is right.
            let number = f64::from(numbers.values[at]);
            let (found, expected) = (f64::from(found) - number, f64::from(expected) - number);
            prop_assert!(
                found.abs() <= expected.abs() * (1.0 + 1e-6),
                "{quantizer} {at}: {number} is off by {found} instead of {expected}"
            );
        }
    }

    #[test]
    fn what_was_quantized_stays_as_it_is(
        quantizer in prop::sample::select(vec![Quantizer::Int8, Quantizer::Fp8, INT4]),
        numbers in sources::numbers(),
    ) {
        let (back, _) = dequantize(&quantize(quantizer, &numbers), &numbers);
        let again = Numbers { values: back, ..numbers };
        prop_assert_eq!(dequantize(&quantize(quantizer, &again), &again).1, 0.0);
    }

    #[test]
    fn blobs_give_back_what_was_quantized(
        quantizer in prop_oneof![of_fixed_scales(), (2.0..7.0).prop_map(rate)],
        numbers in sources::numbers(),
        dtype in prop::sample::select(Float::ALL.to_vec()),
    ) {
        let quantized = match quantizer.quantize(numbers.source(), QuantizeOptions::new()) {
            // Most of these matrices are too small for a rate.
            Err(QuantizeError::Unreachable { .. } | QuantizeError::TooSmall { .. }) => return Ok(()),
            quantized => quantized.unwrap(),
        };
        let Ok(blob) = quantized.encode() else { return Ok(()) };
        let (expected, _) = dequantize(&quantized, &numbers);
        let mut bytes = vec![0xA5; expected.len() * dtype.byte_len()];
        blob.dequantize(dtype, &mut bytes).unwrap();
        for (stored, expected) in bytes.chunks_exact(dtype.byte_len()).zip(expected) {
            prop_assert_eq!(stored, sources::store(dtype, expected));
        }
    }
}

#[test]
fn rates_are_those_that_can_be_asked_for() {
    for bits in [1.99, 7.01, f64::NAN, f64::INFINITY, -3.0] {
        assert!(matches!(Quantizer::rate(bits), Err(QuantizeError::RateOutOfRange(_))), "{bits}");
        assert!(format!("rate={bits}").parse::<Quantizer>().is_err());
    }
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(2.0), rate(5.7)]
    {
        assert_eq!(quantizer.to_string().parse(), Ok(quantizer));
    }
    for text in ["", "int5", "rate", "rate=", "rate=x", "INT8"] {
        assert!(
            matches!(text.parse::<Quantizer>(), Err(QuantizeError::UnknownQuantizer(_))),
            "{text}"
        );
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(4.0)] {
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = normal(70, 90, 1.0, 1);
            numbers.values[31 * 90 + 17] = value;
            let fault = quantizer.quantize(numbers.source(), QuantizeOptions::new()).unwrap_err();
            let QuantizeError::NotFinite { row, col, value: found } = fault else {
                panic!("{fault}")
            };
            assert_eq!((row, col, found.to_bits()), (31, 17, value.to_bits()));
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(2.0), rate(7.0)]
    {
        let mut numbers = normal(300, 300, 0.01, 2);
        numbers.values[..600].fill(0.0);
        numbers.values[700..1000].iter_mut().step_by(3).for_each(|x| *x = 0.0);
        let (back, _) = dequantize(&quantize(quantizer, &numbers), &numbers);
        for (number, back) in numbers.values.iter().zip(&back) {
            assert!(*number != 0.0 || *back == 0.0, "{quantizer}: 0 became {back}");
        }
        let zeros = Numbers { values: vec![-0.0; 300 * 300], ..numbers };
        let quantized = quantize(quantizer, &zeros);
        assert!(dequantize(&quantized, &zeros).0.iter().all(|&x| x == 0.0), "{quantizer}");
        assert!(quantized.encode().is_ok());
    }
}

/// One matrix has rows from F32's smallest numbers up to its largest.
#[test]
fn rows_of_any_magnitude_are_quantized() {
    for (quantizer, limit) in [
        (Quantizer::Int8, 0.02),
        (Quantizer::Fp8, 0.06),
        (INT4, 0.25),
        (INT4_ZERO_POINTS, 0.25),
        (rate(4.0), 0.25),
    ] {
        let mut numbers = normal(64, 256, 1.0, 3);
        let factor = |row: usize| (8.0 * row as f32 - 256.0 + 119.0).min(119.0).exp2();
        for (row, values) in numbers.values.chunks_exact_mut(256).enumerate() {
            values.iter_mut().for_each(|x| *x *= factor(row));
        }
        let quantized = quantize(quantizer, &numbers);
        let (back, _) = dequantize(&quantized, &numbers);
        for (row, (back, values)) in
            back.chunks_exact(256).zip(numbers.values.chunks_exact(256)).enumerate()
        {
            let sum = |of: &dyn Fn(f64, f64) -> f64| {
                values.iter().zip(back).map(|(&a, &b)| of(a.into(), b.into()).powi(2)).sum::<f64>()
            };
            let error = (sum(&|a, b| a - b) / sum(&|a, _| a)).sqrt();
            // The scale of denormal numbers is denormal, too, and so has few bits.
            let denormal = factor(row) < 1e-36;
            assert!(error < limit || denormal, "{quantizer}, row {row}: {error}");
            assert!(back.iter().all(|x| x.is_finite()));
        }
    }
}

/// Numbers at both ends of F32's range dequantize to finite ones.
#[test]
fn the_ends_of_the_range_stay_finite() {
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(4.0)] {
        for magnitude in [f32::from_bits(1), 1e-43, 1e-40, 3e38, f32::MAX] {
            let mut numbers = normal(64, 512, 1.0, 12);
            let largest = numbers.values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            numbers.values.iter_mut().for_each(|x| *x = *x / largest * magnitude);
            for values in [numbers.values.clone(), vec![magnitude; 64 * 512]] {
                let numbers = Numbers { values, ..numbers };
                let (back, _) = dequantize(&quantize(quantizer, &numbers), &numbers);
                assert!(back.iter().all(|x| x.is_finite()), "{quantizer} {magnitude:e}");
            }
        }
    }
}

#[test]
fn sources_are_as_large_as_they_say() {
    let bytes = [0; 24];
    for (rows, cols, fits) in [(3, 4, true), (4, 4, false), (0, 4, false), (usize::MAX, 4, false)] {
        assert_eq!(
            NumberMatrix::from_bytes(Float::F16, &bytes, rows, cols).is_ok(),
            fits,
            "{rows} x {cols}"
        );
    }
    assert!(NumberMatrix::from_bytes(Float::F32, &[], 0, 0).is_err());
}

/// Returns second moments of inputs each of which shares `part` with the one before it.
fn correlated(inputs: usize, part: f32) -> Vec<f32> {
    let at = |row: usize, col: usize| {
        part.powi(row.abs_diff(col) as i32) * 0.5f32.powi((row % 7 + col % 7) as i32)
    };
    (0..inputs * inputs).map(|n| at(n / inputs, n % inputs)).collect()
}

#[test]
fn errors_in_the_outputs_fall_by_half_with_moments() {
    let numbers = normal(192, 320, 0.02, 5);
    let moments = Moments::new(320, correlated(320, 0.95)).unwrap();
    for bits in [3.0, 4.0] {
        let error = |moments: Option<&Moments>| {
            let options = QuantizeOptions::new().moments(moments);
            let quantized = rate(bits).quantize(numbers.source(), options).unwrap();
            let found = coded(&quantized, &numbers).0;
            assert!((found - bits).abs() < 0.05, "{found} instead of {bits}");
            let (back, _) = dequantize(&quantized, &numbers);
            reference::output_error(&numbers, &back, &correlated(320, 0.95))
        };
        let (plain, fed_back) = (error(None), error(Some(&moments)));
        assert!(fed_back < 0.5 * plain, "{bits} bits: {fed_back} and {plain}");
    }
}

#[test]
fn moments_of_inputs_that_know_nothing_of_each_other_change_nothing() {
    let numbers = normal(64, 256, 1.0, 6);
    let diagonal: Vec<f32> = (0..256).map(|n| (n as f32).exp2().recip().max(1e-3)).collect();
    let moments = Moments::new(256, diagonal).unwrap();
    let options = QuantizeOptions::new().raw_bits(2);
    let known = rate(4.0).quantize(numbers.source(), options.moments(&moments)).unwrap();
    let plain = rate(4.0).quantize(numbers.source(), options).unwrap();
    let (known, plain) = (dequantize(&known, &numbers).1, dequantize(&plain, &numbers).1);
    assert!((known / plain - 1.0).abs() < 0.02, "{known} and {plain}");
}

#[test]
fn feedback_is_what_the_formula_says() {
    const CHECKED: usize = 5;
    let numbers = normal(64, 150, 1.0, 7);
    let correlated = correlated(150, 0.9);
    let moments = Moments::new(150, correlated.clone()).unwrap();
    let options = QuantizeOptions::new().moments(&moments).raw_bits(4);
    let quantized = rate(6.5).quantize(numbers.source(), options).unwrap();
    let (matrix, (back, _)) = (quantized.matrix(), dequantize(&quantized, &numbers));
    let rows = back.chunks_exact(150).zip(matrix.as_bytes().chunks_exact(150)).take(CHECKED);
    let steps: Vec<f64> = rows.map(|(back, weights)| reference::step(back, weights)).collect();
    let expected = reference::feedback(&numbers, &correlated, &steps);
    let differ = matrix.as_bytes()[..CHECKED * 150]
        .iter()
        .zip(&expected)
        // The matrix holds the low bytes of large integers.
        .filter(|&(&found, &expected)| found.cast_signed() != expected as i8);
    // F32 and F64 may round a tie to different sides, which changes later weights.
    assert!(differ.count() < 10);
}

#[test]
fn moments_that_are_none_are_refused() {
    let new = |values: Vec<f32>| Moments::new(2, values);
    assert!(matches!(new(vec![1.0; 3]), Err(QuantizeError::MomentsLength { inputs: 2, found: 3 })));
    assert!(matches!(new(vec![1.0, f32::NAN]), Err(QuantizeError::InvalidMoments(_))));
    assert!(matches!(new(vec![1.0, 0.0, 0.0, -1.0]), Err(QuantizeError::InvalidMoments(_))));
    assert!(Moments::new(0, Vec::new()).is_err());
    assert!(new(vec![0.0; 4]).is_ok(), "inputs that are always 0 have moments, too");
    let refused = |inputs: usize, values: Vec<f32>| {
        let numbers = normal(16, 20, 1.0, 8);
        let moments = Moments::new(inputs, values).unwrap();
        let options = QuantizeOptions::new().moments(&moments);
        rate(4.0).quantize(numbers.source(), options).unwrap_err()
    };
    assert_eq!(refused(2, vec![1.0; 4]), QuantizeError::MomentsInputs { cols: 20, found: 2 });
    // No inputs with squares of 1 have products of 5.
    let product = |n: usize| if n / 20 == n % 20 { 1.0 } else { 5.0 };
    let fault = refused(20, (0..400).map(product).collect());
    assert!(matches!(fault, QuantizeError::InvalidMoments(_)), "{fault}");
}

/// Files store such matrices lossless, outside of a shared rate, whatever is wrong with their moments.
#[test]
fn narrow_matrices_are_refused_first() {
    let moments = Moments::new(2, vec![1.0; 4]).unwrap();
    let options = QuantizeOptions::new().moments(&moments);
    for (rows, cols) in [(15, 64), (64, 15)] {
        let numbers = normal(rows, cols, 1.0, 8);
        let narrow = QuantizeError::TooSmall { rows, cols };
        assert_eq!(rate(4.0).quantize(numbers.source(), options), Err(narrow.clone()));
        assert_eq!(RateCurve::new(numbers.source(), options).unwrap_err(), narrow);
    }
}

/// The largest number of a row becomes the largest weight, although the scale is rounded to BF16.
#[test]
fn the_largest_number_is_the_largest_weight() {
    for seed in 0..50 {
        let numbers = normal(40, 60, 0.3, seed);
        for (quantizer, dtype, largest) in
            [(Quantizer::Int8, Dtype::I8, 127.0), (Quantizer::Fp8, Dtype::F8E4M3, 448.0)]
        {
            let quantized = quantize(quantizer, &numbers);
            assert_eq!(quantized.matrix().dtype(), dtype);
            let (back, _) = dequantize(&quantized, &numbers);
            let rows = back.chunks_exact(60).zip(numbers.values.chunks_exact(60));
            for (back, values) in rows {
                let most = |of: &[f32]| of.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let scale = bf16::from_f32(most(values) / largest).to_f32();
                assert_eq!(most(back), scale * largest);
            }
        }
    }
}
