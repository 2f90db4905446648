//! Matrix multiplication on the CPU, compared with products in F64.

use fused_rans::layout::GroupPlane;
use fused_rans::{
    Activations, Argument, Blob, BlobError, Dtype, Epilogue, Float, Groups, MatmulError, Matrix,
    Outputs, TileFault, encode,
};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use proptest::prelude::*;
use support::Weights;
use support::product::{
    Accumulator, Case, Exact, Values, activation_type, any_case, round, weight_numbers,
};
use support::quantized::{QuantizedCase, quantized_cases};

/// Multiplies with the blob of a case; returns the buffer of outputs.
fn multiply(case: &Case, blob: &[u8]) -> Vec<u8> {
    let blob = Blob::parse(blob).unwrap();
    let (inputs, mut y) = (case.inputs(), case.output_buffer());
    let x = case.activations(&inputs.x[case.offset_x..]);
    let out = case.outputs(&mut y[case.offset_y..]);
    blob.matmul(x, out, inputs.epilogue()).unwrap();
    y
}

/// Multiplies and checks every output; returns `None` if the matrix does not shrink.
fn check(case: &Case) -> Option<Result<(), String>> {
    let y = multiply(case, &case.blob()?);
    Some(case.check(&case.weight_numbers(), &case.inputs(), Accumulator::F64, &y))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 12 } else { 200 }))]
    #[test]
    fn products_are_rounded_once(case in any_case()) {
        let result = check(&case);
        prop_assume!(result.is_some());
        prop_assert_eq!(result, Some(Ok(())));
    }
}

/// Makes a [`Case::plain`], with F16 activations where the weights allow it.
fn plain(dtype: Dtype, rows: usize, cols: usize, m: usize) -> Case {
    let x = activation_type(dtype, true);
    Case::plain(dtype, x, rows, cols, m)
}

#[test]
fn quantized_layers_multiply_with_dequantized_weights() {
    for QuantizedCase { name, case, blob, weights } in quantized_cases() {
        let y = multiply(&case, &blob);
        assert_eq!(case.check(&weights, &case.inputs(), Accumulator::F64, &y), Ok(()), "{name}");
    }
}

#[test]
fn long_sums_of_one_sign_stay_exact() {
    for dtype in Dtype::ALL {
        let mut case = plain(dtype, 48, 28_672, 2);
        case.values = Values::Positive;
        case.recipe.weights = Weights::Constant;
        assert_eq!(check(&case), Some(Ok(())), "{dtype:?}");
    }
    for zeros in [false, true] {
        let mut case = plain(Dtype::I8, 48, 28_672, 2);
        (case.values, case.groups) = (Values::Positive, Some(GroupPlane { zeros }));
        assert_eq!(check(&case), Some(Ok(())), "zero points: {zeros}");
    }
}

/// Outputs are the same bits for any number of threads and any other rows of activations. The layer has several rounds of
/// bands, a last band of few rows, and more rows of activations than are multiplied at once.
#[test]
fn outputs_depend_neither_on_threads_nor_on_other_rows() {
    let mut case = plain(Dtype::Bf16, 1037, 300, 70);
    (case.scale, case.bias) = (true, true);
    let bytes = case.blob().expect("it shrinks");
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| multiply(&case, &bytes))
    };
    let y = with_threads(1);
    assert_eq!(case.check(&case.weight_numbers(), &case.inputs(), Accumulator::F64, &y), Ok(()));
    assert!(with_threads(2) == y && with_threads(5) == y);

    let (blob, inputs) = (Blob::parse(&bytes).unwrap(), case.inputs());
    for m in [0, 31, 32, 69] {
        let mut row = vec![0; 4 * 1037];
        let data = &inputs.x[2 * 300 * m..];
        let x = Activations { data, dtype: Float::Bf16, rows: 1, row_stride: 300 };
        let out = Outputs { data: &mut row[..], dtype: Float::F32, row_stride: 1037 };
        blob.matmul(x, out, inputs.epilogue()).unwrap();
        assert!(row == y[4 * 1037 * m..][..4 * 1037], "row {m}");
    }
}

/// Converts a weight to F32 by the definition of its type.
fn number(dtype: Dtype, bits: u16) -> f32 {
    match dtype {
        Dtype::Bf16 => bf16::from_bits(bits).to_f32(),
        Dtype::F16 => f16::from_bits(bits).to_f32(),
        Dtype::I8 => f32::from(bits as u8 as i8),
        Dtype::F8E4M3 => {
            // F16 represents e4m3's subnormals as well; its exponent bias is 8 larger.
            let scaled_down = f16::from_bits(bits >> 7 << 15 | (bits & 0x7F) << 7);
            256.0 * scaled_down.to_f32()
        }
    }
}

/// An activation of 1 among zeros selects a column, which contains every finite weight of a type.
#[test]
fn every_weight_is_multiplied_as_its_number() {
    for dtype in Dtype::ALL {
        let values: Vec<u16> = match dtype.byte_len() {
            1 => (0..256).collect(),
            // An odd step reaches all exponents and mantissas, and few enough values for the rows.
            _ => {
                (0..=u16::MAX).filter(|&bits| number(dtype, bits).is_finite()).step_by(37).collect()
            }
        };
        let (rows, cols, column) = (2048, 256, 77);
        let mut weights = Weights::Gaussian.bytes(dtype, rows * cols, 5);
        for (row, &value) in values.iter().enumerate() {
            let at = (row * cols + column) * dtype.byte_len();
            weights[at..][..dtype.byte_len()]
                .copy_from_slice(&value.to_le_bytes()[..dtype.byte_len()]);
        }
        let bytes =
            encode(Matrix::from_bytes(dtype, &weights, rows, cols).unwrap()).unwrap().into_bytes();
        let blob = Blob::parse(&bytes).unwrap();
        let (one, x_type) = match dtype {
            Dtype::Bf16 => (bf16::ONE.to_bits(), Float::Bf16),
            _ => (f16::ONE.to_bits(), Float::F16),
        };
        let mut x = vec![0; 2 * cols];
        x[2 * column..][..2].copy_from_slice(&one.to_le_bytes());
        let mut y = vec![0; 4 * rows];
        let x = Activations { data: &x[..], dtype: x_type, rows: 1, row_stride: cols };
        let out = Outputs { data: &mut y[..], dtype: Float::F32, row_stride: rows };
        blob.matmul(x, out, Epilogue::default()).unwrap();
        for (&value, y) in values.iter().zip(y.as_chunks().0) {
            assert_eq!(f32::from_le_bytes(*y), number(dtype, value), "{dtype:?} {value:#x}");
        }
    }
}

/// Multiplies with integers of these groups; returns the sum of each row.
fn sums_of_groups(integers: &[u8], groups: Groups<'_>) -> Vec<f32> {
    let rows = groups.scales.len();
    let cols = integers.len() / rows;
    let matrix = Matrix::from_bytes(Dtype::I8, integers, rows, cols).unwrap();
    let blob = encode(matrix.with_groups(groups).unwrap()).expect("it shrinks");
    let x = f16::ONE.to_le_bytes().repeat(cols);
    let mut y = vec![0; 4 * rows];
    let x = Activations { data: &x[..], dtype: Float::F16, rows: 1, row_stride: cols };
    let out = Outputs { data: &mut y[..], dtype: Float::F32, row_stride: rows };
    blob.matmul(x, out, Epilogue::default()).unwrap();
    y.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Every integer minus every zero point, times scales of all magnitudes: subnormal, large, negative.
#[test]
fn every_weight_of_a_group_is_multiplied_as_its_number() {
    let (integer, zero) =
        (|row: usize| (row % 16) as i8 - 8, |row: usize| (row / 16 % 16) as i8 - 8);
    let rows = 2048;
    let scales: Vec<u16> = (0..rows as u16).map(|row| row * 15 + ((row & 0x100) << 7)).collect();
    let zeros: Vec<i8> = (0..rows).map(zero).collect();
    // One integer, and 31 that the zero point makes 0.
    let row = |row| [vec![integer(row)], vec![zero(row); 31]].concat();
    let integers: Vec<u8> = (0..rows).flat_map(row).map(i8::cast_unsigned).collect();
    let sums = sums_of_groups(
        &integers,
        Groups { scales: scales.reinterpret_cast(), zeros: Some(&zeros) },
    );
    for (row, sum) in sums.into_iter().enumerate() {
        let scale = f16::from_bits(scales[row]).to_f32();
        assert!(scale.is_finite());
        assert_eq!(sum, scale * f32::from(integer(row) - zero(row)), "row {row}");
    }
}

#[test]
fn scales_that_are_no_finite_numbers_multiply_as_such() {
    let mut integers = vec![1; 64 * 128];
    integers[128..2 * 128].fill(0xFF);
    integers[2 * 128 + 5] = 0;
    integers[3 * 128 + 5] = 0xFF;
    let mut scales = vec![f16::ONE; 64];
    scales[..4].fill(f16::INFINITY);
    scales[4] = f16::NEG_INFINITY;
    scales[5] = f16::NAN;
    let sums = sums_of_groups(&integers, Groups { scales: &scales, zeros: None });
    assert_eq!(sums[..2], [f32::INFINITY, f32::NEG_INFINITY]);
    assert!(sums[2].is_nan(), "infinity times zero");
    assert!(sums[3].is_nan(), "infinities of both signs");
    assert_eq!(sums[4], f32::NEG_INFINITY);
    assert!(sums[5].is_nan());
    assert_eq!(sums[6..], [128.0; 58], "other rows");
}

#[test]
fn nan_patterns_of_fp8_are_480() {
    assert_eq!([0x7F, 0xFF].map(|bits| number(Dtype::F8E4M3, bits)), [480.0, -480.0]);
    assert_eq!(weight_numbers(Dtype::F8E4M3, &[0x7F, 0xFF, 0x7E]), [480.0, -480.0, 448.0]);
}

/// Returns a blob of 64 x 96 BF16 weights.
fn small_blob() -> Vec<u8> {
    let weights = Weights::Gaussian.bytes(Dtype::Bf16, 64 * 96, 3);
    encode(Matrix::from_bytes(Dtype::Bf16, &weights, 64, 96).unwrap())
        .expect("it shrinks")
        .into_bytes()
}

#[test]
fn operands_that_do_not_fit_are_refused_and_outputs_left_alone() {
    let bytes = small_blob();
    let blob = Blob::parse(&bytes).unwrap();
    let refuse = |x: Activations<usize>, y: Outputs<usize>, epilogue: Epilogue<'_>| {
        let (input, mut output) = (vec![0; x.data], vec![0xA5; y.data]);
        let x = Activations {
            data: &input[..],
            dtype: x.dtype,
            rows: x.rows,
            row_stride: x.row_stride,
        };
        let out = Outputs { data: &mut output[..], dtype: y.dtype, row_stride: y.row_stride };
        let error = blob.matmul(x, out, epilogue).expect_err("it does not fit");
        assert!(output.iter().all(|&byte| byte == 0xA5), "{error}");
        error
    };
    let x = Activations { data: 2 * 2 * 96, dtype: Float::Bf16, rows: 2, row_stride: 96 };
    let y = Outputs { data: 2 * 2 * 64, dtype: Float::Bf16, row_stride: 64 };
    let none = Epilogue::default();

    let weights = Dtype::Bf16;
    let f16 = refuse(Activations { dtype: Float::F16, ..x }, y, none);
    assert_eq!(f16, MatmulError::ActivationType { weights, found: Float::F16 });
    assert!(f16.to_string().contains("BF16 weights") && f16.to_string().contains("F16 act"));
    let f16 = refuse(x, Outputs { dtype: Float::F16, ..y }, none);
    assert_eq!(f16, MatmulError::OutputType { activations: Float::Bf16, found: Float::F16 });
    assert!(f16.to_string().contains("are BF16 or F32, not F16"), "{f16}");

    let (argument, cols) = (Argument::Activations, 96);
    let row_stride = refuse(Activations { row_stride: 95, ..x }, y, none);
    assert_eq!(row_stride, MatmulError::RowStride { argument, cols, found: 95 });
    let short = refuse(Activations { data: 383, ..x }, y, none);
    assert_eq!(short, MatmulError::TooShort { argument, expected: 384, found: 383 });
    let large = refuse(Activations { rows: usize::MAX, ..x }, y, none);
    assert_eq!(large, MatmulError::TooLarge { argument, rows: usize::MAX, row_stride: 96 });

    let (argument, cols) = (Argument::Outputs, 64);
    let row_stride = refuse(x, Outputs { row_stride: 63, ..y }, none);
    assert_eq!(row_stride, MatmulError::RowStride { argument, cols, found: 63 });
    let short = refuse(x, Outputs { data: 255, ..y }, none);
    assert_eq!(short, MatmulError::TooShort { argument, expected: 256, found: 255 });
    let large = refuse(x, Outputs { row_stride: usize::MAX / 2, ..y }, none);
    assert_eq!(large, MatmulError::TooLarge { argument, rows: 2, row_stride: usize::MAX / 2 });

    let scale = refuse(x, y, Epilogue { scale: Some(&[1.0; 63]), bias: None });
    let argument = Argument::Scale;
    assert_eq!(scale, MatmulError::Features { argument, expected: 64, found: 63 });
    let bias = refuse(x, y, Epilogue { scale: None, bias: Some(&[1.0; 65]) });
    let argument = Argument::Bias;
    assert_eq!(bias, MatmulError::Features { argument, expected: 64, found: 65 });
}

#[test]
fn without_activations_there_is_nothing_to_do() {
    let bytes = small_blob();
    let mut y = [0xA5; 8];
    let x = Activations { data: &[][..], dtype: Float::Bf16, rows: 0, row_stride: 96 };
    let out = Outputs { data: &mut y[..], dtype: Float::F32, row_stride: 64 };
    Blob::parse(&bytes).unwrap().matmul(x, out, Epilogue::default()).unwrap();
    assert_eq!(y, [0xA5; 8]);
}

#[test]
fn a_damaged_tile_is_named() {
    let mut case = plain(Dtype::I8, 600, 300, 1);
    case.recipe.weights = Weights::Small;
    let weights = case.recipe.bytes();
    let mut bytes =
        encode(Matrix::from_bytes(Dtype::I8, &weights, 600, 300).unwrap()).unwrap().into_bytes();
    // The last byte belongs to the last tile.
    *bytes.last_mut().unwrap() ^= 1;
    let (inputs, mut y) = (case.inputs(), case.output_buffer());
    let blob = Blob::parse(&bytes).unwrap();
    let result = blob.matmul(case.activations(&inputs.x), case.outputs(&mut y), inputs.epilogue());
    let damage = BlobError::Tile { tile: 5, fault: TileFault::Checksum };
    assert_eq!(result, Err(MatmulError::Blob(damage)));
}

/// The check of outputs accepts 3.0 for an exact 3.0, and refuses its neighbors.
#[test]
fn the_check_refuses_the_next_number() {
    let exact = Exact { value: 3.0, terms: 10, magnitude: 3.0, scale: 1.0, bias: 0.0 };
    for dtype in Float::ALL {
        let step = 2f64.powi(1 - [7, 10, 23][dtype as usize]);
        let ok = |value: f64, found: f64| {
            Exact { value, ..exact }.check(Accumulator::F64, dtype, found).is_ok()
        };
        assert!(ok(3.0, 3.0) && !ok(3.0, 3.0 + step) && !ok(3.0, 3.0 - step), "{dtype:?}");
        assert!(ok(3.0 + 0.49 * step, 3.0) && !ok(3.0 + 0.49 * step, 3.0 + step), "{dtype:?}");
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0] {
            assert!(!ok(3.0, wrong), "{dtype:?} {wrong}");
        }
        assert!(ok(f64::NAN, f64::NAN) && !ok(f64::NAN, 3.0) && !ok(f64::NAN, f64::INFINITY));
        assert!(ok(f64::INFINITY, f64::INFINITY) && !ok(f64::INFINITY, f64::NAN));
        assert!(!ok(f64::INFINITY, f64::NEG_INFINITY) && !ok(f64::INFINITY, 3.0));
    }
}

#[test]
fn the_check_allows_f32_accumulators_their_error() {
    let exact = Exact { value: 1.0, terms: 10, magnitude: 1000.0, scale: 1.0, bias: 0.0 };
    let f32 = |exact: Exact, found| exact.check(Accumulator::F32, Float::F32, found).is_ok();
    assert!(f32(exact, 1.0 + 4e-3) && !f32(exact, 1.0 + 4.1e-3));
    assert!(f32(Exact { scale: 2.0, ..exact }, 1.0 + 8e-3));
    // If a sum may overflow F32, every non-finite output passes.
    let large = Exact { magnitude: 3.5e38, ..exact };
    assert!(f32(large, f64::NAN) && !f32(exact, f64::NAN));
    assert!(large.check(Accumulator::F64, Float::F32, f64::NAN).is_err());
    // F16 overflows halfway between its largest number and 65536.
    let f16 = |value| Exact { value, magnitude: value, ..exact };
    let infinite = |value| f16(value).check(Accumulator::F64, Float::F16, f64::INFINITY).is_ok();
    assert!(infinite(65520.0) && !infinite(65519.9));
}

#[test]
fn the_check_rounds_as_the_types_do() {
    for bits in 0..u16::MAX {
        // Numbers with F32's exponents whose last bits are ties and neighbors of ties.
        let value = f32::from_bits(
            u32::from(bits) << 16 | [0, 1, 0x7FFF, 0x8000, 0x8001][bits as usize % 5],
        );
        let near = [value, value * 1.000_488_3, f32::from_bits(value.to_bits() & 0xFFFF_F000)];
        for value in near.into_iter().filter(|value| !value.is_nan()) {
            assert_eq!(
                round(Float::Bf16, value.into()),
                bf16::from_f32(value).to_f64(),
                "{value:e}"
            );
            assert_eq!(round(Float::F16, value.into()), f16::from_f32(value).to_f64(), "{value:e}");
            assert_eq!(round(Float::F32, value.into()), f64::from(value));
        }
    }
}
