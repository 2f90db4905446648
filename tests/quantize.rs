//! Quantizers: what comes out is what the obvious way gives, takes the bits that were asked for, and is what a blob gives
//! back.

#[path = "quantize/reference.rs"]
mod reference;
#[path = "quantize/sources.rs"]
mod sources;

use fused_rans::quantize::{
    Curve, Moments, Options, QuantizeError, Quantized, Quantizer, Rate, Source, spread,
};
use fused_rans::{Blob, Dtype, Float, Packing, encode};
use half::bf16;
use proptest::prelude::*;
use sources::{Numbers, normal, student_t};

const INT4: Quantizer = Quantizer::Int4 { zero_points: false };
const INT4_ZERO_POINTS: Quantizer = Quantizer::Int4 { zero_points: true };

fn rate(bits: f64) -> Quantizer {
    Quantizer::rate(bits).unwrap()
}

fn quantize(quantizer: Quantizer, numbers: &Numbers) -> Quantized {
    quantizer.quantize(numbers.source(), Options::default()).unwrap()
}

/// The numbers that the weights stand for, and the sum of the squares of their errors.
fn dequantize(quantized: &Quantized, numbers: &Numbers) -> (Vec<f32>, f64) {
    let mut back = vec![0.0; numbers.values.len()];
    for (row, back) in back.chunks_exact_mut(numbers.cols).enumerate() {
        quantized.dequantize_row(row, back);
    }
    let pairs = back.iter().zip(&numbers.values);
    let error = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (back, error)
}

/// Bits a weight of the blob, and the blob.
fn coded(quantized: &Quantized, numbers: &Numbers) -> (f64, Vec<u8>) {
    let blob = encode(quantized.matrix()).expect("it is smaller than the numbers");
    (8.0 * blob.len() as f64 / numbers.values.len() as f64, blob)
}

/// Quantizers whose scales do not depend on how anything is coded.
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
            // Of two that are as near either will do.
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
        let quantized = match quantizer.quantize(numbers.source(), Options::default()) {
            // Most of these matrices are too small for a rate.
            Err(QuantizeError::Unreachable { .. } | QuantizeError::Narrow { .. }) => return Ok(()),
            quantized => quantized.unwrap(),
        };
        let Some(blob) = encode(quantized.matrix()) else { return Ok(()) };
        let (expected, _) = dequantize(&quantized, &numbers);
        let mut bytes = vec![0xA5; expected.len() * dtype.bytes()];
        Blob::parse(&blob).unwrap().dequantize(dtype, &mut bytes).unwrap();
        for (stored, expected) in bytes.chunks_exact(dtype.bytes()).zip(expected) {
            prop_assert_eq!(stored, sources::store(dtype, expected));
        }
    }
}

/// Large enough for the table and the index not to weigh more than 0.05 bits by themselves.
fn large() -> impl Strategy<Value = Numbers> {
    let sides =
        prop::sample::select(vec![(192, 576), (576, 576), (300, 700), (64, 2048), (1024, 128)]);
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
        for packing in Packing::ALL {
            let options = Options { packing, ..Options::default() };
            let quantized = rate(bits).quantize(numbers.source(), options).unwrap();
            let (found, blob) = coded(&quantized, &numbers);
            // Each tile is padded to whole lines.
            let tiles = numbers.rows.div_ceil(256) * numbers.cols.div_ceil(256);
            let limit = 0.05 + 8.0 * 128.0 * tiles as f64 / numbers.values.len() as f64;
            prop_assert!((found - bits).abs() < limit, "{found} instead of {bits} bits, {packing:?}");
            let blob = Blob::parse(&blob).unwrap();
            let share = blob.exceptions() as f64 / numbers.values.len() as f64;
            // As few as cost little; more only for rates that ask for more.
            let limit = if bits < 5.0 { 5e-3 } else { 0.05 };
            prop_assert!(share < limit, "{share} are exceptions, {packing:?}");
        }
    }

    /// Of few rows or columns, of one value or few: the rate is met, or what is stored is less and as exact as 8 bits
    /// are, or it is said that it cannot be.
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
        match rate(bits).quantize(numbers.source(), Options::default()) {
            Ok(quantized) => {
                let (back, error) = dequantize(&quantized, &numbers);
                prop_assert!(back.iter().all(|x| x.is_finite()));
                let energy: f64 = numbers.values.iter().map(|&x| f64::from(x).powi(2)).sum();
                // What so many bits are worth of any distribution, with a bit for what small matrices waste.
                let limit = 2.0 * (2.5 - bits).exp2();
                let relative = if energy > 0.0 { (error / energy).sqrt() } else { error };
                prop_assert!(relative < limit.max(0.02), "{relative}");
                if let Some(blob) = encode(quantized.matrix()) {
                    let found = 8.0 * blob.len() as f64 / numbers.values.len() as f64;
                    let slack = 0.16;
                    prop_assert!(found < bits + slack, "{found} instead of {bits}");
                }
            }
            Err(QuantizeError::Narrow { .. }) => prop_assert!(rows < 16 || cols < 16),
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
        // A bit is worth a factor of 4, less what a sixteenth of a table costs.
        prop_assert!(errors[2] / errors[4] > 3.0, "{errors:?}");
    }

    /// A number that lies far out is neither clipped nor does it make its row's steps coarser. (With moments, as scales are
    /// the steps then; those that fit best shrink all of a row by some hundredths, most at low rates.)
    #[test]
    fn nothing_is_clipped(seed in any::<u64>(), bits in 2.5..7.0, outlier in 1.0..3000.0f32) {
        let mut numbers = normal(100, 300, 1.0, seed);
        numbers.values[12_345] = outlier;
        let moments = Moments::new(300, vec![1.0; 300]).unwrap();
        let options = Options { moments: Some(&moments), ..Options::default() };
        let quantized = rate(bits).quantize(numbers.source(), options).unwrap();
        let (back, _) = dequantize(&quantized, &numbers);
        let row = 12_345 / 300 * 300..(12_345 / 300 + 1) * 300;
        let (_, blob) = coded(&quantized, &numbers);
        let step = Blob::parse(&blob).unwrap().row_scales().unwrap()[12_345 / 300];
        let step = bf16::from_bits(step).to_f32();
        let squares: f32 = numbers.values[row.clone()].iter().map(|x| x * x).sum();
        prop_assert!(step < (3.5 - bits as f32).exp2() * (squares / 300.0).sqrt(), "{step}");
        for (back, number) in back[row.clone()].iter().zip(&numbers.values[row]) {
            let limit = 0.51 * step + number.abs() / 256.0;
            prop_assert!((back - number).abs() <= limit, "{number} became {back}");
        }
    }
}

/// Few numbers are so large that their row's step, the one for the rate, gives them an integer of more than a byte.
#[test]
fn numbers_that_lie_far_out_do_not_make_others_coarser() {
    let numbers = student_t(2.2, 256, 1024, 1.0, 16);
    let quantized = quantize(rate(5.0), &numbers);
    let (bits, blob) = coded(&quantized, &numbers);
    assert!((bits - 5.0).abs() < 0.05, "{bits}");
    let blob = Blob::parse(&blob).unwrap();
    assert!(blob.is_wide());
    assert!(blob.exceptions() < 256 * 1024 / 256, "{}", blob.exceptions());
    let (back, _) = dequantize(&quantized, &numbers);
    for (values, back) in numbers.values.chunks_exact(1024).zip(back.chunks_exact(1024)) {
        let mean: f32 = values.iter().map(|x| x * x).sum::<f32>() / 1024.0;
        for (number, back) in values.iter().zip(back) {
            let limit = 0.1 * mean.sqrt() + 0.03 * number.abs();
            assert!((number - back).abs() < limit, "{number} became {back}");
        }
    }
}

#[test]
fn rates_are_those_that_can_be_asked_for() {
    for bits in [1.99, 7.01, f64::NAN, f64::INFINITY, -3.0] {
        assert!(matches!(Quantizer::rate(bits), Err(QuantizeError::Rate(_))), "{bits}");
        assert!(format!("rate={bits}").parse::<Quantizer>().is_err());
    }
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(2.0), rate(5.7)]
    {
        assert_eq!(quantizer.to_string().parse(), Ok(quantizer));
    }
    for text in ["", "int5", "rate", "rate=", "rate=x", "INT8"] {
        assert!(matches!(text.parse::<Quantizer>(), Err(QuantizeError::Unknown(_))), "{text}");
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for quantizer in [Quantizer::Int8, Quantizer::Fp8, INT4, INT4_ZERO_POINTS, rate(4.0)] {
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = normal(70, 90, 1.0, 1);
            numbers.values[31 * 90 + 17] = value;
            let fault = quantizer.quantize(numbers.source(), Options::default()).unwrap_err();
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
        assert!(encode(quantized.matrix()).is_some());
    }
}

/// Down to F32's smallest numbers and up to its largest, in one matrix.
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
            // Of denormal numbers the scale is one, too: of few bits.
            let denormal = factor(row) < 1e-36;
            assert!(error < limit || denormal, "{quantizer}, row {row}: {error}");
            assert!(back.iter().all(|x| x.is_finite()));
        }
    }
}

/// The smallest and the largest numbers of F32 become finite ones.
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

/// Rows that are alike at a regular distance, or few and long, are not taken for all.
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

#[test]
fn raw_bits_that_are_too_many_are_refused() {
    let numbers = normal(256, 512, 1.0, 15);
    let options = Options { raw_bits: Some(4), ..Options::default() };
    let fault = rate(4.0).quantize(numbers.source(), options).unwrap_err();
    assert!(matches!(fault, QuantizeError::Unreachable { asked: 4.0, .. }), "{fault}");
}

#[test]
fn sources_are_as_large_as_they_say() {
    let bytes = [0; 24];
    for (rows, cols, fits) in [(3, 4, true), (4, 4, false), (0, 4, false), (usize::MAX, 4, false)] {
        assert_eq!(Source::new(Float::F16, rows, cols, &bytes).is_ok(), fits, "{rows} x {cols}");
    }
    assert!(Source::new(Float::F32, 0, 0, &[]).is_err());
}

/// Splits can be asked for, and are then what the blob has.
#[test]
fn splits_can_be_chosen() {
    let numbers = normal(256, 512, 1.0, 4);
    for (packing, raw_bits) in
        [(Packing::Two, 2), (Packing::Two, 4), (Packing::Four, 3), (Packing::Four, 4)]
    {
        let options = Options { packing, raw_bits: Some(raw_bits), moments: None };
        let quantized = rate(5.5).quantize(numbers.source(), options).unwrap();
        let (bits, blob) = coded(&quantized, &numbers);
        assert!((bits - 5.5).abs() < 0.05, "{bits}");
        let split = Blob::parse(&blob).unwrap().split();
        // What four a symbol cannot code at this rate is coded two a symbol.
        match split.packing() == packing {
            true => assert_eq!(split.raw_bits(), raw_bits),
            false => assert_eq!((packing, raw_bits), (Packing::Four, 3)),
        }
    }
}

/// Inputs that depend on each other: each is a part of the one before it and something new.
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
            let options = Options { moments, ..Options::default() };
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
    let options = Options { moments: Some(&moments), raw_bits: Some(2), ..Options::default() };
    let known = rate(4.0).quantize(numbers.source(), options).unwrap();
    let plain = rate(4.0).quantize(numbers.source(), Options { moments: None, ..options }).unwrap();
    let (known, plain) = (dequantize(&known, &numbers).1, dequantize(&plain, &numbers).1);
    assert!((known / plain - 1.0).abs() < 0.02, "{known} and {plain}");
}

#[test]
fn feedback_is_what_the_formula_says() {
    const CHECKED: usize = 5;
    let numbers = normal(64, 150, 1.0, 7);
    let correlated = correlated(150, 0.9);
    let moments = Moments::new(150, correlated.clone()).unwrap();
    let options = Options { moments: Some(&moments), raw_bits: Some(4), ..Options::default() };
    let quantized = rate(6.5).quantize(numbers.source(), options).unwrap();
    let (matrix, (back, _)) = (quantized.matrix(), dequantize(&quantized, &numbers));
    let rows = back.chunks_exact(150).zip(matrix.data().chunks_exact(150)).take(CHECKED);
    let steps: Vec<f64> = rows.map(|(back, weights)| reference::step(back, weights)).collect();
    let expected = reference::feedback(&numbers, &correlated, &steps);
    let differ = matrix.data()[..CHECKED * 150]
        .iter()
        .zip(&expected)
        // Of wide integers the low byte.
        .filter(|&(&found, &expected)| found.cast_signed() != expected as i8);
    // F32 and F64 may round a tie to different sides, and then go different ways.
    assert!(differ.count() < 10);
}

#[test]
fn moments_that_are_none_are_refused() {
    let of = |values: Vec<f32>| Moments::new(2, values);
    assert!(matches!(of(vec![1.0; 3]), Err(QuantizeError::Moments { cols: 2, found: 3 })));
    assert!(matches!(of(vec![1.0, f32::NAN]), Err(QuantizeError::Indefinite(_))));
    assert!(matches!(of(vec![1.0, 0.0, 0.0, -1.0]), Err(QuantizeError::Indefinite(_))));
    assert!(Moments::new(0, Vec::new()).is_err());
    assert!(of(vec![0.0; 4]).is_ok(), "inputs that are always 0 have moments, too");
    let refused = |inputs: usize, values: Vec<f32>| {
        let numbers = normal(16, 20, 1.0, 8);
        let moments = Moments::new(inputs, values).unwrap();
        let options = Options { moments: Some(&moments), ..Options::default() };
        rate(4.0).quantize(numbers.source(), options).unwrap_err()
    };
    assert_eq!(refused(2, vec![1.0; 4]), QuantizeError::Moments { cols: 20, found: 2 });
    // Squares of 1, products of 5.
    let product = |n: usize| if n / 20 == n % 20 { 1.0 } else { 5.0 };
    let fault = refused(20, (0..400).map(product).collect());
    assert!(matches!(fault, QuantizeError::Indefinite(_)), "{fault}");
}

/// They stay lossless in files, whatever is wrong with their moments, and take no share of an average.
#[test]
fn narrow_matrices_are_refused_first() {
    let moments = Moments::new(2, vec![1.0; 4]).unwrap();
    let options = Options { moments: Some(&moments), ..Options::default() };
    for (rows, cols) in [(15, 64), (64, 15)] {
        let numbers = normal(rows, cols, 1.0, 8);
        let narrow = QuantizeError::Narrow { rows, cols };
        assert_eq!(rate(4.0).quantize(numbers.source(), options), Err(narrow.clone()));
        assert_eq!(Curve::of(numbers.source(), options).unwrap_err(), narrow);
    }
}

#[test]
fn rates_are_spread_by_what_they_are_worth() {
    let matrices =
        [normal(256, 256, 1.0, 9), normal(256, 1024, 0.1, 10), normal(256, 256, 5.0, 11)];
    let curve = |numbers: &Numbers| Curve::of(numbers.source(), Options::default()).unwrap();
    let curves: Vec<Curve> = matrices.iter().map(curve).collect();
    let bits = |curves: &[Curve]| -> Vec<f64> {
        spread(curves, Rate::new(4.0).unwrap()).into_iter().map(Rate::bits).collect()
    };
    let spread = bits(&curves);
    // The same error is made up for with a fourth of the bits in a matrix of a fourth of the size: a bit more each.
    assert!((spread[0] - spread[2]).abs() < 0.05, "{spread:?}");
    assert!((spread[0] - spread[1] - 1.0).abs() < 0.2, "{spread:?}");
    let mean = (spread[0] + 4.0 * spread[1] + spread[2]) / 6.0;
    assert!((mean - 4.0).abs() < 0.01, "{spread:?}");
    let weighted = bits(&[curves[0].clone().weighted(16.0), curves[1].clone(), curves[2].clone()]);
    assert!((weighted[0] - weighted[2] - 2.0).abs() < 0.1, "{weighted:?}");
    assert!(bits(&[]).is_empty());
}

/// The scales of FP8 rows make the largest number 448, whatever BF16 makes of them.
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

/// Numbers whose rows tell each other, so that pairs of them take far fewer bits than both by themselves.
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
