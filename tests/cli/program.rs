//! Commands, options, outputs and error messages of the program.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::place::{Place, SAMPLE};
use serde_json::Value;

/// Name of the sample's first tensor.
const ATTENTION: &str = "decoder.layer_2.self_attention.linear_1.weight";

impl Place {
    /// Creates a directory with a copy of the sample, called `in`.
    fn new() -> Self {
        let place = Self::empty();
        fs::copy(SAMPLE, place.path("in")).unwrap();
        place
    }

    /// Runs the program and checks that it fails with one line that contains `what`.
    fn fails(&self, args: &[&str], what: &str) {
        let Output { status, stdout, stderr } = self.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stdout.is_empty(), "{args:?}");
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
        assert!(stderr.contains(what), "{what}: {stderr}");
    }

    /// Runs the program and parses the JSON that it prints.
    fn json(&self, args: &[&str]) -> Value {
        let Output { status, stdout, .. } = self.run(args);
        assert!(status.success(), "{args:?}");
        serde_json::from_slice(&stdout).unwrap()
    }
}

fn same(a: &Path, b: impl AsRef<Path>) -> bool {
    fs::read(a).unwrap() == fs::read(b).unwrap()
}

#[test]
fn the_main_job() {
    let place = Place::new();
    let said = place.ok(&["compress", "in", "-o", "out"]);
    assert!(said.starts_with("out: 2.62 MB -> ") && said.contains("2 of 2 tensors"), "{said}");
    assert!(place.ok(&["verify", "out"]).contains("intact"));
    assert!(place.ok(&["verify", "out", "--against", "in"]).contains("all equal to in"));
    place.ok(&["decompress", "out", "--output", "back"]);
    assert!(same(&place.path("back"), SAMPLE));
    let (plain, packed) = (place.ok(&["inspect", "in"]), place.ok(&["inspect", "out"]));
    assert!(plain.contains(ATTENTION) && plain.contains(" raw "), "{plain}");
    assert!(packed.contains(ATTENTION) && packed.contains(" lossless "), "{packed}");
    assert_eq!(place.names(), ["back", "in", "out"]);
}

#[test]
fn integers_may_have_four_weights_a_symbol() {
    let place = Place::new();
    // Integers from -3 to 2, which take fewer bits with two weights per symbol.
    let weights: Vec<u8> = (0..256 * 256u32)
        .map(|i| i.wrapping_mul(2_654_435_761))
        .map(|bits| ((bits >> 28 & 3) + (bits >> 20 & 1) + (bits >> 12 & 1)) as u8)
        .map(|number| number.wrapping_sub(3))
        .collect();
    put(&place, "i8", "I8", &[256, 256], &weights);
    let size = |args: &[&str]| {
        place.ok(&[&["compress", "i8", "-o", "out"], args].concat());
        place.ok(&["verify", "out", "--against", "i8"]);
        fs::metadata(place.path("out")).unwrap().len()
    };
    let two = size(&[]);
    assert_eq!(size(&["--weights-per-symbol", "2"]), two);
    assert!(size(&["--weights-per-symbol", "4"]) > two);
    assert_eq!(
        place.run(&["compress", "i8", "-o", "x", "--weights-per-symbol", "3"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let place = Place::new();
    place.ok(&["compress", "in", "-o", "one", "--threads", "1", "--format", "lossless"]);
    place.ok(&["compress", "in", "-o", "all", "--threads", "0"]);
    assert!(same(&place.path("one"), place.path("all")));
}

#[test]
fn patterns_are_unanchored_and_both_apply() {
    let place = Place::new();
    let coded = |args: &[&str]| {
        assert!(place.run(&[&["compress", "in", "-o", "out"], args].concat()).status.success());
        place.ok(&["verify", "out", "--against", "in"]);
        let report = place.json(&["inspect", "--json", "out"]);
        let formats = report["tensors"].as_array().unwrap().iter();
        formats.map(|tensor| tensor["format"] == "lossless").collect::<Vec<_>>()
    };
    assert_eq!(coded(&[]), [true, true]);
    assert_eq!(coded(&["--include", "ffn"]), [false, true]);
    assert_eq!(coded(&["--exclude", r"linear_\d"]), [false, false]);
    assert_eq!(coded(&["--include", "^(en|de)coder", "--exclude", "encoder"]), [true, false]);
    assert_eq!(coded(&["--include", "^ffn"]), [false, false]);
}

#[test]
fn inspect_prints_the_documented_json() {
    let place = Place::new();
    place.ok(&["compress", "in", "-o", "out"]);
    for (file, format) in [("in", "raw"), ("out", "lossless")] {
        let text = place.ok(&["inspect", file, "--json"]);
        let tensor_keys = r#"{"tensors":[{"name":"decoder.layer_2.self_attention.linear_1.weight","shape":[512,512],"dtype":"BF16","format":""#;
        assert!(text.starts_with(tensor_keys), "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = vec!["name", "shape", "dtype", "format", "weights", "stored_bytes"];
        expected.extend(["bits_per_weight", "entropy_bits_per_weight", "exceptions", "coding"]);
        expected.sort_unstable();
        assert_eq!(keys(&report["tensors"][0]), expected);
        let mut expected = vec!["weights", "original_bytes", "stored_bytes", "exceptions"];
        expected.extend(["bits_per_weight", "entropy_bits_per_weight"]);
        expected.sort_unstable();
        assert_eq!(keys(&report["totals"]), expected);
        assert_eq!(report["tensors"][0]["format"], format);
        let totals = &report["totals"];
        let bytes = fs::metadata(place.path(file)).unwrap().len();
        assert_eq!(totals["weights"], 512 * 512 + 2048 * 512);
        assert_eq!(totals["stored_bytes"], bytes);
        assert_eq!(totals["original_bytes"], fs::metadata(SAMPLE).unwrap().len());
        let bits = totals["bits_per_weight"].as_f64().unwrap();
        assert!((bits - 8.0 * bytes as f64 / (2560.0 * 512.0)).abs() < 1e-9);
        let entropy = totals["entropy_bits_per_weight"].as_f64().unwrap();
        assert!((10.5..11.0).contains(&entropy), "{entropy}");
    }
}

#[test]
fn weights_are_quantized_as_asked_for() {
    let place = Place::new();
    for format in ["int8", "fp8", "int4", "int4-zero-points", "rate=4.5"] {
        let said = place.ok(&["compress", "in", "-o", "out", "--format", format]);
        assert!(said.contains("(2 of 2 tensors compressed, 2 of them quantized, "), "{said}");
        let said = place.ok(&["verify", "out", "--against", "in"]);
        assert!(said.contains("relative error") && said.contains("all but 2 quantized ones equal"));
        let report = place.json(&["inspect", "out", "--json"]);
        for tensor in report["tensors"].as_array().unwrap() {
            assert_eq!(tensor["format"], "quantized");
            let bits = tensor["bits_per_weight"].as_f64().unwrap();
            assert!(format != "rate=4.5" || (bits - 4.5).abs() < 0.05, "{bits}");
        }
        assert!(place.ok(&["inspect", "out"]).contains("quantized  "));
    }
    let result = place.json(&["verify", "out", "--json", "--against", "in"]);
    assert_eq!(
        (&result["quantized_tensors"], &result["errors"][0]["tensor"]),
        (&2.into(), &ATTENTION.into())
    );
    let error = result["errors"][1]["relative_error"].as_f64().unwrap();
    assert!((0.03..0.1).contains(&error), "{error}");
    // The restored file has the original's layout and other numbers.
    place.ok(&["decompress", "out", "-o", "back"]);
    assert_eq!(
        fs::metadata(place.path("back")).unwrap().len(),
        fs::metadata(SAMPLE).unwrap().len()
    );
    place.ok(&["compress", "back", "-o", "lossless"]);
    place.ok(&["verify", "lossless", "--against", "back"]);
}

#[test]
fn rules_and_calibrations_are_files() {
    let place = Place::new();
    fs::write(place.path("rules"), "[[layer]]\nname = 'attention'\nformat = 'raw'\n").unwrap();
    let said = place
        .ok(&["compress", "in", "-o", "out", "--format", "rate=3", "--spread", "--rules", "rules"]);
    assert!(said.contains("(1 of 2 tensors compressed, 1 of them quantized, "), "{said}");
    fs::write(place.path("wrong"), "[[layer]]\nname = 'x'\nformat = 'int3'\n").unwrap();
    place.fails(
        &["compress", "in", "-o", "new", "--rules", "wrong"],
        "wrong: the rule for `x`: `int3` is none of",
    );
    place.fails(&["compress", "in", "-o", "new", "--rules", "missing"], "missing: ");
    place.fails(&["compress", "in", "-o", "new", "--calibration", "rules"], "rules: ");
    let weights = ["compress", "in", "-o", "new", "--format", "rate=3", "--calibration", "in"];
    place.fails(
        &weights,
        "tensor `decoder.layer_2.self_attention.linear_1.weight`: it is BF16, but",
    );
    assert_eq!(place.names(), ["in", "out", "rules", "wrong"]);
}

/// Writes a safetensors file with the one tensor `w`.
fn put(place: &Place, file: &str, dtype: &str, shape: &[usize], data: &[u8]) {
    let bytes = data.len();
    let header =
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#);
    let length = (header.len() as u64).to_le_bytes();
    fs::write(place.path(file), [&length, header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn warnings_go_to_standard_error() {
    let place = Place::new();
    put(&place, "moments", "F32", &[2], &1f32.to_le_bytes().repeat(2));
    put(&place, "narrow", "BF16", &[2, 256], &[0x3F; 1024]);
    let rules = "[[layer]]\nname = \"lm\\u001bhead\"\nformat = 'raw'\n";
    fs::write(place.path("rules"), rules).unwrap();
    let warnings = |args: &[&str]| {
        let Output { status, stdout, stderr } = place.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success() && stdout.is_empty(), "{args:?}: {stderr}");
        let mut lines: Vec<&str> = stderr.lines().collect();
        assert!(lines.pop().is_some_and(|line| line.starts_with("out: ")), "{stderr}");
        assert!(lines.iter().all(|line| line.starts_with("warning: ")), "{stderr}");
        lines.join("\n")
    };
    let compress =
        |input: &str, args: &[&str]| warnings(&[&["compress", input, "-o", "out"], args].concat());
    let lines = |text: &str| text.lines().count();
    let spread = compress("in", &["--spread", "--format", "int8"]);
    assert!(spread.contains("sharing the rate has no effect") && lines(&spread) == 1, "{spread}");
    let calibration = compress("in", &["--calibration", "moments"]);
    assert!(calibration.contains("no tensor is quantized to a rate") && lines(&calibration) == 1);
    let other = compress("in", &["--format", "rate=7", "--calibration", "moments"]);
    assert!(
        other.contains("it has moments for none of the tensors") && lines(&other) == 1,
        "{other}"
    );
    let rule = compress("in", &["--rules", "rules"]);
    assert!(rule.contains("the rule for `lm\\u{1b}head`") && lines(&rule) == 1, "{rule}");
    let narrow = compress("narrow", &["--format", "rate=3"]);
    let small =
        "warning: stayed lossless: 1 tensor too small for the format, 100.0 % of the weights: w";
    let nothing = "warning: nothing is quantized\nwarning: nothing is compressed";
    assert_eq!(narrow, format!("{nothing}\n{small}"));
    place.ok(&["verify", "out", "--against", "narrow"]);
}

#[test]
fn verify_names_tensors_that_are_another_model_s() {
    let place = Place::empty();
    let numbers = |sign: f32| -> Vec<u8> {
        let noise = (0..128 * 256u32).map(|i| i.wrapping_mul(2_654_435_761) as f32 / 4e9 - 0.5);
        noise.flat_map(|x| (sign * x).to_le_bytes()).collect()
    };
    put(&place, "in", "F32", &[128, 256], &numbers(1.0));
    put(&place, "other", "F32", &[128, 256], &numbers(-1.0));
    place.ok(&["compress", "in", "-o", "out", "--format", "int8"]);
    place.ok(&["verify", "out", "--against", "in"]);
    for args in [
        &["verify", "out", "--against", "other"][..],
        &["verify", "out", "--against", "other", "--json"],
    ] {
        let Output { status, stdout, stderr } = place.run(args);
        let (stdout, stderr) = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).into();
        assert!(status.success() && stdout.contains("relative"), "{stdout}");
        assert!(
            stderr.starts_with("warning: w: a relative error of 2.000 is large")
                && stderr.lines().count() == 1
        );
    }
    let mut infinite = numbers(1.0);
    infinite[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    put(&place, "other", "F32", &[128, 256], &infinite);
    place.fails(
        &["verify", "out", "--against", "other"],
        "differs from other: a number that is NaN",
    );
}

#[test]
fn verify_prints_json_and_finds_damage() {
    let place = Place::new();
    place.ok(&["compress", "in", "-o", "out"]);
    let result = place.json(&["verify", "out", "--json", "--against", "in"]);
    assert_eq!((&result["ok"], &result["tensors"]), (&true.into(), &2.into()));
    let mut bytes = fs::read(place.path("out")).unwrap();
    let last = bytes.len() - 100_000;
    bytes[last] ^= 8;
    fs::write(place.path("damaged"), &bytes).unwrap();
    place.fails(&["verify", "damaged"], "tensor `encoder.layer_0.ffn.linear_0.weight`: tile ");
    place.fails(&["decompress", "damaged", "-o", "back"], "tensor `encoder.layer_0.ffn");
    let Output { status, stdout, .. } = place.run(&["verify", "damaged", "--json"]);
    let result: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((status.code(), &result["ok"]), (Some(1), &false.into()));
    assert!(result["error"].as_str().unwrap().contains("tile "));
    assert_eq!(place.names(), ["damaged", "in", "out"]);
}

#[test]
fn outputs_replace_files_but_never_the_input() {
    let place = Place::new();
    fs::write(place.path("out"), "old").unwrap();
    place.ok(&["compress", "in", "-o", "out"]);
    place.ok(&["verify", "out", "--against", "in"]);
    fs::create_dir(place.path("directory")).unwrap();
    for output in ["directory", "directory/", "new/"] {
        let example = format!("{}/in", output.trim_end_matches('/'));
        let what = format!(
            "{output}: a folder, but the output is one file: name a file in it, such as {example}"
        );
        place.fails(&["compress", "in", "-o", output], &what);
        place.fails(&["decompress", "out", "-o", output], "a folder, but the output is one file");
    }
    place.fails(&["compress", "in", "-o", "in"], "the output is the input");
    place.fails(&["compress", "in", "-o", "directory/../in"], "the output is the input");
    place.fails(&["decompress", "out", "-o", "./out"], "the output is the input");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in", place.path("link")).unwrap();
        fs::hard_link(place.path("in"), place.path("twin")).unwrap();
        place.fails(&["compress", "in", "-o", "link"], "the output is the input");
        place.fails(&["compress", "link", "-o", "in"], "the output is the input");
        place.fails(&["compress", "in", "-o", "twin"], "the output is the input");
        let missing =
            "error: the folder `nowhere` does not exist: create it, or choose another output\n";
        place.fails(&["compress", "in", "-o", "nowhere/out"], missing);
        place.fails(&["compress", "in", "-o", "/dev/null"], "not a regular file");
        assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
        place.fails(&["inspect", "pipe"], "not a regular file");
        place.fails(&["compress", "in", "-o", "pipe"], "not a regular file");
        fs::remove_file(place.path("pipe")).unwrap();
        fs::remove_file(place.path("link")).unwrap();
        fs::remove_file(place.path("twin")).unwrap();
    }
    assert!(same(&place.path("in"), SAMPLE));
    assert_eq!(place.names(), ["directory", "in", "out"]);
}

#[test]
fn faults_leave_an_existing_output_alone() {
    let place = Place::new();
    let mut bytes = fs::read(SAMPLE).unwrap();
    bytes.pop();
    fs::write(place.path("cut"), bytes).unwrap();
    fs::write(place.path("out"), "old").unwrap();
    place.fails(&["compress", "cut", "-o", "out"], "cut: truncated: 2621736 bytes are needed");
    place.fails(&["compress", "missing", "-o", "out"], "missing: cannot open: ");
    place.fails(&["decompress", "in", "-o", "out"], "not a file that fused-rans compressed");
    place.fails(&["inspect", "."], "no .safetensors file is in this folder");
    place.fails(&["verify", "out"], "truncated");
    assert_eq!(fs::read(place.path("out")).unwrap(), b"old");
    assert_eq!(place.names(), ["cut", "in", "out"]);
}

#[test]
fn compressing_twice_is_refused() {
    let place = Place::new();
    place.ok(&["compress", "in", "-o", "out"]);
    place.fails(&["compress", "out", "-o", "again"], "already compressed");
    place.fails(&["verify", "out", "--against", "out"], "already compressed");
    assert_eq!(place.names(), ["in", "out"]);
}

#[cfg(unix)]
#[test]
fn new_files_get_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::write(place.path("ordinary"), "").unwrap();
    place.ok(&["compress", "in", "-o", "out"]);
    let mode = |name| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("ordinary"));
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::new();
    let wrong: [&[&str]; 7] = [
        &[],
        &["explode"],
        &["compress", "in"],
        &["compress", "in", "-o", "out", "--include", "("],
        &["compress", "in", "-o", "out", "--format", "lossy"],
        &["compress", "in", "-o", "out", "--threads", "many"],
        &["compress", "in", "-o", "out", "--threads", "1025"],
    ];
    for args in wrong {
        assert_eq!(place.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(place.ok(&["--help"]).contains("inspect"));
    assert!(place.ok(&["--version"]).starts_with("fused-rans "));
    assert_eq!(place.names(), ["in"]);
}

#[test]
fn a_reader_who_leaves_is_no_failure() {
    let place = Place::new();
    let mut child =
        place.command(&["inspect", "in"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert!(status.success() && stderr.is_empty(), "{status} {stderr}");
}

#[test]
fn the_demonstration_runs() {
    let place = Place::new();
    let said = place.ok(&["demo", "--threads", "1"]);
    for part in ["byte-identical", ATTENTION, "512x512", "decode MB/s", "GPU"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(place.names(), ["in"], "the temporary directory is gone");
    #[cfg(not(feature = "cuda"))]
    assert!(said.contains("Build it with `--features cuda`"), "{said}");
}

#[test]
fn bench_refuses_wrong_flags() {
    let place = Place::new();
    let wrong: [&[&str]; 7] = [
        &["bench"],
        &["bench", "in", "--batch", "0"],
        &["bench", "in", "--batch", "x"],
        &["bench", "in", "--batch", ""],
        &["bench", "in", "--batch", "1,,8"],
        &["bench", "in", "--batch", "1,1025"],
        &["bench", "in", "--device", "-1"],
    ];
    for args in wrong {
        assert_eq!(place.run(args).status.code(), Some(2), "{args:?}");
    }
    let help = place.ok(&["bench", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["--batch", "1,8,16", "--device", "--json", "compressed in memory"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(place.ok(&["--help"]).contains("bench"));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn bench_says_how_to_build_it() {
    let place = Place::new();
    place.fails(&["bench", "in"], "build it with `--features cuda`");
    place.fails(&["bench", "in", "--json"], "built without CUDA");
}

/// Needs no GPU, because files are checked before a device is opened.
#[cfg(feature = "cuda")]
#[test]
fn bench_refuses_files_without_layers() {
    let place = Place::new();
    let empty = Vec::<(String, safetensors::tensor::TensorView<'_>)>::new();
    fs::write(place.path("empty"), safetensors::serialize(empty, None).unwrap()).unwrap();
    let vector = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![2], &[0; 4]);
    let vector = safetensors::serialize([("norm", vector.unwrap())], None).unwrap();
    fs::write(place.path("vector"), vector).unwrap();
    assert!(place.run(&["compress", "in", "-o", "raw", "--exclude", "."]).status.success());
    fs::write(place.path("other"), "no safetensors file").unwrap();

    place.fails(&["bench", "empty"], "empty: no layer to measure: no matrix of BF16");
    place.fails(&["bench", "vector"], "vector: no layer to measure: no matrix of BF16");
    place.fails(&["bench", "raw"], "raw: no layer to measure: nothing in it is compressed");
    place.fails(&["bench", "other"], "other: ");
    place.fails(&["bench", "absent"], "absent: cannot open");
}

/// Asks for a device number that no machine has.
#[cfg(feature = "cuda")]
#[test]
fn bench_says_that_it_needs_a_device() {
    let place = Place::new();
    place.ok(&["compress", "in", "-o", "out"]);
    for file in ["in", "out"] {
        let what = "measuring needs an NVIDIA GPU and its driver; --device chooses";
        place.fails(&["bench", file, "--device", "4294967295"], what);
    }
}
