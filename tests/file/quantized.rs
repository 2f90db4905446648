//! Files with quantized tensors.

use std::fs;
use std::path::{Path, PathBuf};

use fused_rans::ErrorKind;
use fused_rans::file::{
    self, Calibration, CompressOptions, CompressedFile, FileError, HeaderFault, KeptReason,
    Progress, Rules, RulesError, StoredAs, Summary, TensorFault, Warning, inspect,
};
use fused_rans::quantize::{NumberMatrix, QuantizeError, Quantizer};
use fused_rans::{Blob, Dtype, Float, Matrix, encode};
use support::craft::{Files, Tensor, bf16, framed, i8, noise, plain, resealed, tensor, unframed};
use support::sources::{numbers_of, store};

/// Returns a matrix of normally distributed numbers.
fn numbers(name: &str, dtype: &'static str, rows: usize, cols: usize) -> Tensor {
    numbers_of(name, dtype, &[rows, cols])
}

/// Returns a model: matrices of each type, tensors that quantizers leave alone, tensors that they cannot take.
fn model() -> Vec<Tensor> {
    vec![
        numbers("model.embed_tokens.weight", "BF16", 200, 256),
        numbers("model.layers.0.q_proj.weight", "BF16", 256, 256),
        numbers("model.layers.0.down_proj.weight", "F16", 256, 512),
        numbers("model.layers.1.q_proj.weight", "F32", 256, 256),
        tensor("model.norm.weight", "BF16", &[256], bf16(256)),
        tensor("model.integers", "I8", &[64, 64], i8(64 * 64)),
        numbers("model.layers.1.tiny", "F32", 2, 3),
        tensor("model.layers.1.wide", "F64", &[3, 4], noise(96)),
    ]
}

fn options(format: &str) -> CompressOptions {
    CompressOptions::default().quantize(format.parse().unwrap())
}

fn compress(input: &Path, output: &Path, options: &CompressOptions) -> Result<Summary, FileError> {
    file::compress(input, output, options, Progress::silent())
}

/// Returns how the tensors of a file are stored, in the original order.
/// Returns the names of the tensors that were too small to be quantized.
pub fn too_small(summary: &Summary) -> Vec<&str> {
    let small = summary.kept.iter().filter(|kept| kept.reason == KeptReason::TooSmall);
    small.map(|kept| kept.tensor.as_str()).collect()
}

fn formats(path: &Path) -> Vec<StoredAs> {
    inspect(path).unwrap().tensors.iter().map(|tensor| tensor.format).collect()
}

#[test]
fn every_format_makes_a_round_trip() {
    let files = Files::new();
    let input = files.put("in", &plain(&model(), "", 0));
    for (format, limit) in [
        ("int8", 0.012),
        ("fp8", 0.03),
        ("int4", 0.14),
        ("int4-zero-points", 0.12),
        ("rate=2", 0.4),
        ("rate=5.7", 0.03),
    ] {
        let (packed, back) = (files.path("packed"), files.path("back"));
        let summary = compress(&input, &packed, &options(format)).unwrap();
        assert_eq!((summary.quantized, summary.calibrated), (3, 0), "{format}");
        assert_eq!(too_small(&summary), ["model.layers.1.tiny"]);
        assert_eq!(summary.warnings, []);
        assert_eq!(file::verify(&packed, Progress::silent()).unwrap().quantized, 3);
        let verified = file::verify_against(&packed, &input, Progress::silent()).unwrap();
        let names: Vec<_> = verified.errors.iter().map(|error| error.tensor.as_str()).collect();
        assert_eq!(
            names,
            [
                "model.layers.0.q_proj.weight",
                "model.layers.0.down_proj.weight",
                "model.layers.1.q_proj.weight"
            ]
        );
        for error in &verified.errors {
            let error = error.relative_error;
            assert!(error > limit / 4.0 && error < limit, "{format}: {error}");
        }
        file::decompress(&packed, &back, Progress::silent()).unwrap();
        check_restored(&CompressedFile::open(&packed).unwrap(), &fs::read(&back).unwrap(), format);
    }
}

/// Checks that lossless tensors are unchanged, and that quantized ones equal those that a quantizer gives directly.
fn check_restored(packed: &CompressedFile, restored: &[u8], format: &str) {
    let restored = safetensors::SafeTensors::deserialize(restored).unwrap();
    for Tensor { name, dtype, shape, data } in model() {
        let found = restored.tensor(&name).unwrap();
        assert_eq!((found.dtype().to_string(), found.shape()), (dtype.to_owned(), &shape[..]));
        let quantized = name.ends_with("_proj.weight");
        if !quantized {
            assert!(found.data() == data, "{name}");
            continue;
        }
        let float = Float::ALL.into_iter().find(|float| float.name() == dtype).unwrap();
        let source = NumberMatrix::from_bytes(float, &data, shape[0], shape[1]).unwrap();
        let expected = format.parse::<Quantizer>().unwrap().quantize(source, Default::default());
        let expected = expected.unwrap();
        let mut row = vec![0.0; shape[1]];
        for (index, stored) in found.data().chunks_exact(shape[1] * float.byte_len()).enumerate() {
            expected.dequantize_row(index, &mut row);
            let bytes: Vec<u8> = row.iter().flat_map(|&x| store(float, x)).collect();
            assert!(stored == bytes, "{name}, row {index}");
        }
        assert!(packed.blob(&name).unwrap().row_scales().is_some() || format.starts_with("int4"));
    }
}

#[test]
fn embeddings_and_norms_are_left_alone_unless_asked_for() {
    use StoredAs::{Lossless, Quantized, Raw};
    let files = Files::new();
    let input = files.put("in", &plain(&model(), "", 0));
    let packed = files.path("packed");
    compress(&input, &packed, &options("int8")).unwrap();
    let expected = [Lossless, Quantized, Quantized, Quantized, Raw, Lossless, Raw, Raw];
    assert_eq!(formats(&packed), expected);
    compress(&input, &packed, &options("int8").quantize_embeddings(true)).unwrap();
    assert_eq!(formats(&packed)[0], Quantized);
    let only = options("int8").select(|name| name.contains("q_proj"));
    compress(&input, &packed, &only).unwrap();
    assert_eq!(formats(&packed), [Raw, Quantized, Raw, Quantized, Raw, Raw, Raw, Raw]);
}

#[test]
fn rules_say_what_becomes_of_single_layers() {
    use StoredAs::{Lossless, Quantized, Raw};
    let files = Files::new();
    let input = files.put("in", &plain(&model(), "", 0));
    let packed = files.path("packed");
    let rules = |text| options("rate=4").rules(Rules::parse(text).unwrap());
    let text = r#"
        [[layer]]
        name = "q_proj"
        format = "rate=6"
        raw_bits = 4

        [[layer]]
        name = '\.1\.q_proj'
        format = "lossless"

        [[layer]]
        name = "down_proj"
        format = "raw"

        [[layer]]
        name = "embed"
        format = "int4"
        weights_per_symbol = 4
    "#;
    compress(&input, &packed, &rules(text)).unwrap();
    // The codec does not take F32.
    let expected = [Quantized, Quantized, Raw, Raw, Raw, Lossless, Raw, Raw];
    assert_eq!(formats(&packed), expected);
    let report = inspect(&packed).unwrap();
    let coding = |index: usize| report.tensors[index].coding.clone().unwrap();
    assert_eq!((coding(0).weights_per_symbol, coding(0).group_scales), (4, true));
    assert_eq!((coding(1).raw_bits, coding(1).row_scales), (4, true));
    assert!((report.tensors[1].bits_per_weight - 6.0).abs() < 0.05);
    compress(&input, &packed, &rules("")).unwrap();
    assert!((inspect(&packed).unwrap().tensors[2].bits_per_weight - 4.0).abs() < 0.05);
}

#[test]
fn wrong_rules_say_what_is_wrong() {
    let fault = |text: &str| Rules::parse(text).unwrap_err();
    for text in
        ["[[layer]", "layer = 3", "[[layer]]\nnam = 'x'", "[[layer]]\nformat = 'raw'", "[other]"]
    {
        assert!(matches!(fault(text), RulesError::Toml(_)), "{text}");
    }
    let with = |line: &str| fault(&format!("[[layer]]\nname = 'x'\n{line}")).to_string();
    for (line, what) in [
        ("format = 'int5'", "`int5` is none of"),
        ("format = 'rate=9'", "ask for 2 to 7"),
        ("weight = 0.0", "not above 0"),
        ("weight = inf", "not above 0"),
        ("weight = nan", "not above 0"),
        ("raw_bits = 6", "there are 0 to 5"),
        ("weights_per_symbol = 3", "there are 2 or 4"),
    ] {
        assert!(with(line).contains(what) && with(line).contains("`x`"), "{line}: {}", with(line));
    }
    assert!(matches!(fault("[[layer]]\nname = '('"), RulesError::Name { .. }));
}

#[test]
fn a_shared_rate_is_met_on_average() {
    let files = Files::new();
    let tensors = [
        numbers("a", "BF16", 256, 256),
        numbers("bb", "BF16", 1024, 512),
        numbers("ccc", "F16", 128, 512),
        numbers("dddd", "BF16", 256, 512),
    ];
    let input = files.put("in", &plain(&tensors, "", 0));
    let packed = files.path("packed");
    let bits = |options: &CompressOptions| {
        compress(&input, &packed, options).unwrap();
        let tensors = inspect(&packed).unwrap().tensors;
        let sum = |of: fn(&file::TensorReport) -> u64| tensors.iter().map(of).sum::<u64>() as f64;
        let mean = 8.0 * sum(|t| t.stored_bytes) / sum(|t| t.weights);
        (mean, tensors.iter().map(|tensor| tensor.bits_per_weight).collect::<Vec<_>>())
    };
    let (mean, even) = bits(&options("rate=4"));
    assert!(
        (mean - 4.0).abs() < 0.02 && even.iter().all(|bits| (bits - 4.0).abs() < 0.05),
        "{even:?}"
    );
    let (mean, spread) = bits(&options("rate=4").share_rate(true));
    assert!((mean - 4.0).abs() < 0.05, "{mean}");
    assert!(spread[2] > spread[1] + 1.0 && spread[0] > spread[1] + 1.0, "{spread:?}");
    let pinned = Rules::parse(
        "[[layer]]\nname = 'dddd'\nformat = 'rate=6'\n[[layer]]\nname = 'a'\nweight = 1e-3",
    )
    .unwrap();
    let (_, pinned) = bits(&options("rate=4").share_rate(true).rules(pinned));
    assert!((pinned[3] - 6.0).abs() < 0.05 && pinned[0] < spread[0] - 1.0, "{pinned:?}");
}

/// Returns second moments of inputs that correlate with their neighbors.
fn moments(inputs: usize) -> Vec<u8> {
    let at = |n: usize| 0.9f32.powi((n / inputs).abs_diff(n % inputs) as i32);
    (0..inputs * inputs).flat_map(|n| at(n).to_le_bytes()).collect()
}

/// A rate that cannot be met is an error if the user's raw bits are too many, but not if the tensor is too small.
#[test]
fn small_tensors_are_no_fault_of_raw_bits() {
    let files = Files::new();
    let input = files
        .put("in", &plain(&[numbers("q", "BF16", 128, 256), numbers("t", "BF16", 16, 16)], "", 0));
    let with = |text: &str| options("rate=5").rules(Rules::parse(text).unwrap());
    let packed = files.path("packed");
    let summary = compress(&input, &packed, &with("[[layer]]\nname = '.'\nraw_bits = 3")).unwrap();
    assert_eq!((summary.quantized, too_small(&summary)), (1, vec!["t"]));
    let fault = compress(
        &input,
        &packed,
        &options("rate=3").rules(Rules::parse("[[layer]]\nname = '.'\nraw_bits = 4").unwrap()),
    );
    assert!(matches!(fault, Err(FileError::Tensor { .. })), "{fault:?}");
}

#[test]
fn calibrations_are_found_by_name() {
    let files = Files::new();
    let tensors = [
        numbers("q", "BF16", 128, 256),
        numbers("k", "BF16", 128, 256),
        numbers("o", "BF16", 128, 256),
    ];
    let input = files.put("in", &plain(&tensors, "", 0));
    let known = [tensor("q", "F32", &[256, 256], moments(256))];
    let shared = r#"{"shared":"{\"k\":\"q\"}","tokens":"7"}"#;
    let calibration = files.put("moments", &plain(&known, shared, 0));
    let packed = files.path("packed");
    let with = || options("rate=3").calibration(Calibration::open(&calibration).unwrap());
    let summary = compress(&input, &packed, &with()).unwrap();
    assert_eq!((summary.quantized, summary.calibrated), (3, 2));
    // Errors that compensate for each other are larger one by one.
    let errors = file::verify_against(&packed, &input, Progress::silent()).unwrap().errors;
    assert!(errors[0].relative_error > 1.1 * errors[2].relative_error, "{errors:?}");
    // With a calibration, a shared rate minimizes the errors of outputs.
    let stored = |options: &CompressOptions| {
        assert_eq!(compress(&input, &packed, options).unwrap().calibrated, 2);
        fs::read(&packed).unwrap()
    };
    assert!(stored(&with()) != stored(&with().share_rate(true)));
    // Other quantizers do not use moments.
    let int8 = options("int8").calibration(Calibration::open(&calibration).unwrap());
    assert_eq!(compress(&input, &packed, &int8).unwrap().calibrated, 0);
}

#[test]
fn wrong_calibrations_are_typed_errors() {
    let files = Files::new();
    let input = files.put("in", &plain(&[numbers("q", "BF16", 128, 256)], "", 0));
    let fault = |known: Tensor, metadata: &str| {
        let path = files.put("moments", &plain(&[known], metadata, 0));
        let options = options("rate=3").calibration(Calibration::open(&path)?);
        compress(&input, &files.path("packed"), &options)
    };
    let floats = |count: usize| [1.0f32.to_le_bytes()].repeat(count).concat();
    let quantize = |result: Result<Summary, FileError>| match result {
        Err(FileError::Tensor { tensor, source: TensorFault::Quantize(fault), .. }) => {
            (tensor, fault)
        }
        other => panic!("{other:?}"),
    };
    let (name, wrong) = quantize(fault(tensor("q", "F32", &[4, 4], floats(16)), ""));
    assert_eq!((&*name, wrong), ("q", QuantizeError::MomentsInputs { cols: 256, found: 4 }));
    let nan = tensor("q", "F32", &[256, 256], f32::NAN.to_le_bytes().repeat(1 << 16));
    assert!(matches!(quantize(fault(nan, "")).1, QuantizeError::InvalidMoments(_)));
    let tensor_fault = |known: Tensor| match fault(known, "").unwrap_err() {
        error @ FileError::Tensor { .. } if error.kind() == ErrorKind::InvalidArgument => {
            let FileError::Tensor { path, source, .. } = error else { unreachable!() };
            assert_eq!(path, files.path("moments"));
            source
        }
        other => panic!("{other}"),
    };
    for shape in [vec![256, 4], vec![4, 256, 1], vec![0], vec![]] {
        let known = tensor("q", "F32", &shape, floats(shape.iter().product()));
        assert_eq!(tensor_fault(known), TensorFault::MomentsShape(shape));
    }
    let weights = tensor_fault(numbers("q", "F16", 256, 256));
    assert_eq!(weights, TensorFault::MomentsType("F16".to_owned()));
    assert!(weights.to_string().contains("F32"), "{weights}");
    let json = fault(tensor("q", "F32", &[256], floats(256)), r#"{"shared":"[1]"}"#).unwrap_err();
    assert_eq!(json.kind(), ErrorKind::Corruption);
    let missing = r#"{"shared":"{\"q\":\"r\",\"r\":\"q\"}"}"#;
    let missing = fault(tensor("q", "F32", &[256], floats(256)), missing).unwrap_err();
    let FileError::Header { source: HeaderFault::SharedName { name, stored }, .. } = missing else {
        panic!("{missing}")
    };
    assert_eq!((&*name, &*stored), ("q", "r"));
    assert_eq!(files.names(), ["in", "moments"], "nothing is left behind");
}

#[test]
fn options_without_effect_give_warnings() {
    let files = Files::new();
    let input = files.put("in", &plain(&[numbers("q", "BF16", 128, 256)], "", 0));
    let moments = |name: &str| {
        let known = tensor(name, "F32", &[256], 1f32.to_le_bytes().repeat(256));
        Calibration::open(files.put(name, &plain(&[known], "", 0))).unwrap()
    };
    let warnings = |options: CompressOptions| {
        compress(&input, &files.path("packed"), &options).unwrap().warnings
    };
    let rules = |text: &str| Rules::parse(text).unwrap();
    let pinned = "[[layer]]\nname = 'q'\nformat = 'rate=5'";
    // Rules may choose a rate while the rest of the model has another format.
    for format in ["int8", "fp8", "int4"] {
        assert_eq!(warnings(options(format).share_rate(true)), [Warning::ShareRate]);
        assert_eq!(warnings(options(format).share_rate(false)), []);
        assert_eq!(warnings(options(format).calibration(moments("q"))), [Warning::Calibration]);
        let calibrated = options(format).calibration(moments("q")).rules(rules(pinned));
        assert_eq!(warnings(calibrated), []);
    }
    assert_eq!(warnings(CompressOptions::default().share_rate(true)), [Warning::ShareRate]);
    assert_eq!(warnings(options("rate=4").share_rate(true)), []);
    assert_eq!(
        warnings(options("rate=4").share_rate(true).rules(rules(pinned))),
        [Warning::ShareRate]
    );
    assert_eq!(warnings(options("rate=4").calibration(moments("q"))), []);
    let other = options("rate=4").calibration(moments("other"));
    assert_eq!(warnings(other), [Warning::OtherCalibration]);
    for format in ["int8", "rate=4"] {
        assert_eq!(warnings(options(format).select(|_| false)), [Warning::NothingSelected]);
        assert_eq!(warnings(options(format).select(|name| name == "q")), []);
    }
    let left_out = options("int8").select(|_| false).rules(rules(pinned));
    assert_eq!(warnings(left_out), [Warning::NothingSelected]);
    let idle = rules("[[layer]]\nname = '^q.'\nformat = 'raw'\n[[layer]]\nname = '^q'");
    assert_eq!(warnings(options("int8").rules(idle)), [Warning::Rule("^q.".to_owned())]);
}

#[test]
fn numbers_that_are_not_finite_are_a_difference() {
    let files = Files::new();
    let mut tensors = vec![numbers("a", "F32", 64, 256)];
    let input = files.put("in", &plain(&tensors, "", 0));
    let packed = files.path("packed");
    compress(&input, &packed, &options("int8")).unwrap();
    let mut compared = |number: f32| {
        tensors[0].data[4 * 1000..][..4].copy_from_slice(&number.to_le_bytes());
        let against = files.put("against", &plain(&tensors, "", 0));
        file::verify_against(&packed, &against, Progress::silent())
    };
    assert!(compared(100.0).unwrap().errors[0].relative_error > 0.9);
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let fault = compared(number).unwrap_err();
        let FileError::Differs { tensor, what, .. } = fault else { panic!("{fault}") };
        assert_eq!((&*tensor, what), ("a", "a number that is NaN or infinite"));
    }
    // These scales are not finite: no quantizer makes them.
    let weights = i8(64 * 256);
    let matrix = Matrix::from_bytes(Dtype::I8, &weights, 64, 256).unwrap();
    for scale in [half::bf16::NAN, half::bf16::INFINITY] {
        let blob = encode(matrix.with_row_scales(&[scale; 64]).unwrap()).unwrap().into_bytes();
        let damaged = crafted(&files, "F32", &blob);
        let fault = file::verify_against(damaged, &input, Progress::silent()).unwrap_err();
        assert!(matches!(fault, FileError::Differs { .. }), "{fault}");
    }
}

/// Writes a compressed file with one tensor, `a`, whose blob is replaced by `blob`.
fn crafted(files: &Files, dtype: &'static str, blob: &[u8]) -> PathBuf {
    let input = files.put("plain", &plain(&[numbers("a", "BF16", 64, 256)], "", 0));
    compress(&input, &files.path("packed"), &options("int8")).unwrap();
    let (header, own) = unframed(&fs::read(files.path("packed")).unwrap());
    let crc = |blob: &[u8]| format!("{:08x}", Blob::parse(blob).unwrap().crc());
    let bytes = if dtype == "F32" { 4 } else { 2 };
    let header = header.replace(&own.len().to_string(), &blob.len().to_string());
    let header = header.replace(&crc(&own), &crc(blob));
    let header = header.replace(r#"\"BF16\""#, &format!(r#"\"{dtype}\""#));
    let header = header.replace("[0,32768]", &format!("[0,{}]", 64 * 256 * bytes));
    files.put("crafted", &resealed(&framed(&header, blob), |header| header))
}

#[test]
fn what_cannot_be_quantized_is_named_and_leaves_nothing_behind() {
    let files = Files::new();
    let mut tensors = model();
    tensors[2].data[(37 * 512 + 21) * 2..][..2].copy_from_slice(&0x7E00u16.to_le_bytes());
    let input = files.put("in", &plain(&tensors, "", 0));
    let packed = files.path("packed");
    for format in ["int8", "int4", "fp8", "rate=4"] {
        let fault = compress(&input, &packed, &options(format)).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::InvalidArgument);
        let FileError::Tensor { tensor, source: TensorFault::Quantize(source), .. } = fault else {
            panic!("{fault}")
        };
        let QuantizeError::NotFinite { row, col, .. } = source else { panic!("{source}") };
        assert_eq!((&*tensor, row, col), ("model.layers.0.down_proj.weight", 37, 21));
    }
    let spread = compress(&input, &packed, &options("rate=4").share_rate(true));
    assert!(matches!(spread, Err(FileError::Tensor { .. })));
    assert_eq!(files.names(), ["in"]);
}

/// A blob with scales can replace a tensor of any float type, a blob without scales only one of its own type.
#[test]
fn blobs_must_match_the_kind_of_their_tensor() {
    let files = Files::new();
    let weights = i8(64 * 256);
    let matrix = Matrix::from_bytes(Dtype::I8, &weights, 64, 256).unwrap();
    let quantized = encode(matrix.with_row_scales(&[half::bf16::from_bits(0x3C00); 64]).unwrap())
        .unwrap()
        .into_bytes();
    let lossless = encode(matrix).unwrap().into_bytes();
    let with = |dtype, blob: &[u8]| {
        let file = CompressedFile::open(crafted(&files, dtype, blob));
        file.map(|file| file.blob("a").map(|blob| blob.rows()).unwrap())
    };
    for dtype in ["BF16", "F16", "F32"] {
        assert_eq!(with(dtype, &quantized).unwrap(), 64, "{dtype}");
        let fault = with(dtype, &lossless).unwrap_err();
        let FileError::Tensor { source, .. } = fault else { panic!("{fault}") };
        assert_eq!(source, TensorFault::Original("the blob has another dtype or shape"));
    }
}
