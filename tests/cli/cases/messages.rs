//! What the program says where it cannot do what was meant.

use std::fs;

use super::{codes, numbers, says};
use crate::place::Place;

#[test]
fn files_of_other_kinds_are_named() {
    let place = Place::empty();
    let cases: [(&[u8], &str, &str); 8] = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS", "git lfs pull"),
        (b"<!doctype html><html><body>Not found</body></html>", "HTML", "download"),
        (b"\n<HTML>", "HTML", "download"),
        (b"PK\x03\x04000000000000000", "zip archive", "save it as safetensors"),
        (b"\x80\x02}q\0.", "pickle", "save it as safetensors"),
        (b"GGUF\x03\0\0\0xxxxxxxxxxxx", "GGUF", "fused-rans-quality convert"),
        (br#"{"weight_map": {"a": "model.safetensors"}}"#, "JSON", ".safetensors.index.json"),
        (&[0; 4096], "zeros", "download it again"),
    ];
    for (bytes, what, advice) in cases {
        fs::write(place.path("in"), bytes).unwrap();
        for args in [&["compress", "in", "-o", "out"][..], &["inspect", "in"], &["verify", "in"]] {
            let error = place.error(args);
            assert!(error.contains(what) && error.contains(advice), "{error}");
        }
    }
}

#[test]
fn outputs_that_cannot_be_written_are_told_before_the_work() {
    let place = Place::empty();
    place.put("in", &[numbers("w", "BF16", &[64, 64])]);
    for output in ["new/", "new/in/", "."] {
        let error = place.error(&["compress", "in", "-o", output]);
        assert!(error.contains("name a file in it, such as"), "{error}");
    }
    for args in [
        ["compress", "in", "-o", "-"],
        ["compress", "-", "-o", "x"],
        ["decompress", "-", "-o", "x"],
    ] {
        let error = place.error(&args);
        assert!(error.contains("standard input and output cannot be used"), "{error}");
    }
    // A file that is called so.
    fs::copy(place.path("in"), place.path("-")).unwrap();
    place.ok(&["compress", "./-", "-o", "out"]);
}

#[test]
fn nothing_disturbs_a_terminal() {
    let place = Place::empty();
    let mut infinite = numbers("evil\u{1b}[31mRED\nfake line", "F32", &[64, 64]);
    infinite.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    place.put("in", &[infinite]);
    let error = place.error(&["compress", "in", "-o", "out", "--format", "int4"]);
    assert!(error.contains(r"evil\u{1b}[31mRED\nfake line"), "{error}");
    place.put("folder/model.safetensors", &[numbers("w", "BF16", &[64, 64])]);
    fs::write(place.path("folder/x\u{1b}[2K.bin"), "x").unwrap();
    fs::write(place.path("folder/y\u{7}\n.txt"), "x").unwrap();
    let lines = place.lines(&["compress", "folder", "-o", "a\u{1b}b", "-v"]);
    assert!(lines.contains(&r"left out: x\u{1b}[2K.bin".to_owned()), "{lines:?}");
    assert!(lines.contains(&r"copied: y\u{7}\n.txt (1 bytes)".to_owned()), "{lines:?}");
    assert!(says(&lines, &[r"a\u{1b}b: "]), "{lines:?}");
}

#[test]
fn patterns_and_options_without_effect_are_told() {
    let place = Place::empty();
    place.put("in", &[numbers("layers.0.q.weight", "BF16", &[128, 128])]);
    for (args, what) in [
        (&["--include", "layer.0"][..], "--include layer.0: no tensor has this in its name"),
        (&["--include", "layer.0"], "no tensor is selected"),
        (&["--exclude", "lyaers"], "--exclude lyaers: no tensor has this in its name"),
        (&["--weights-per-symbol", "4"], "the number of weights per symbol has no effect"),
        (&["--weights-per-symbol", "4", "--format", "fp8"], "the number of weights per symbol has"),
    ] {
        let lines = place.lines(&[&["compress", "in", "-o", "out"], args].concat());
        assert!(says(&lines, &["warning: ", what]), "{args:?}: {lines:?}");
    }
    for args in [
        &["--include", "layers"][..],
        &["--include", "layers", "--exclude", "q"],
        &["--weights-per-symbol", "4", "--format", "int8"],
    ] {
        let lines = place.lines(&[&["compress", "in", "-o", "out"], args].concat());
        let idle = ["no tensor has", "has no effect"];
        assert!(!idle.iter().any(|idle| says(&lines, &[idle])), "{args:?}: {lines:?}");
    }
}

/// Who gains nothing, or does not get what he asked for, is told why, and of how much of the weights.
#[test]
fn reasons_are_given_with_shares() {
    let place = Place::empty();
    let experts = || numbers("experts.down_proj", "BF16", &[31, 64, 128]);
    let q = || numbers("q_proj.weight", "BF16", &[64, 128]);
    let fp8 = || codes("q_proj.weight", "F8_E4M3", &[256, 256], 1);
    let nothing = "warning: nothing is quantized";
    let cases = [
        (
            vec![experts()],
            "rate=4",
            nothing,
            "1 tensor of 3 dimensions, 100.0 % of the weights: exp",
        ),
        (
            vec![experts(), q()],
            "rate=4",
            "warning: ",
            "1 tensor of 3 dimensions, 96.9 % of the weights",
        ),
        (
            vec![fp8()],
            "rate=4",
            nothing,
            "1 tensor quantized before (F8_E4M3), 100.0 % of the weights",
        ),
        (
            vec![numbers("w", "F32", &[128, 128])],
            "lossless",
            "warning: nothing is compressed",
            "1 tensor of type F32",
        ),
        (
            vec![numbers("w", "BF16", &[4, 256])],
            "rate=3",
            nothing,
            "1 tensor too small for the format",
        ),
    ];
    for (tensors, format, first, second) in cases {
        place.put("in", &tensors);
        let lines = place.lines(&["compress", "in", "-o", "out", "--format", format]);
        assert!(says(&lines, &[first]) && says(&lines, &["warning: ", second]), "{lines:?}");
    }
    // One large vector, which no format takes.
    place.put("in", &[numbers("w", "BF16", &[1 << 17])]);
    for format in ["lossless", "rate=4"] {
        let lines = place.lines(&["compress", "in", "-o", "out", "--format", format]);
        let what =
            "warning: stored as they are: 1 tensor of one dimension, 100.0 % of the weights: w";
        assert!(lines.contains(&what.to_owned()), "{lines:?}");
        assert!(says(&lines, &["warning: nothing is compressed"]), "{lines:?}");
    }
    // A mask is not a quantized layer, and vectors are no fault of a rule.
    let mask = codes("attention.bias", "U8", &[1, 1, 256, 256], 1);
    place.put(
        "in",
        &[mask, q(), numbers("layers.norm.weight", "BF16", &[256]), numbers("e", "BF16", &[0, 8])],
    );
    fs::write(place.path("rules"), "[[layer]]\nname = 'layers|e'\nformat = 'int8'\n").unwrap();
    for args in [["--format", "int8"], ["--rules", "rules"]] {
        let lines = place.lines(&[&["compress", "in", "-o", "out"], &args[..]].concat());
        assert!(!says(&lines, &["quantized before"]), "{lines:?}");
        assert!(!says(&lines, &["layers.norm"]) && !says(&lines, &["but e "]), "{lines:?}");
    }
    // Rules that ask for what cannot be had.
    place.put("in", &[experts(), fp8(), q()].into_iter().take(2).collect::<Vec<_>>());
    let rules = "[[layer]]\nname = 'experts'\nformat = 'int4'\n[[layer]]\nname = 'q_p'\nformat = 'rate=3'\n";
    fs::write(place.path("rules"), rules).unwrap();
    let lines = place.lines(&["compress", "in", "-o", "out", "--rules", "rules"]);
    let rule = |pattern: &str, what: &str| {
        format!("warning: the rule for `{pattern}` asks for a quantizer, but {what}")
    };
    assert!(lines.contains(&rule("experts", "experts.down_proj has 3 dimensions")), "{lines:?}");
    assert!(
        lines.contains(&rule("q_p", "q_proj.weight is quantized already (F8_E4M3)")),
        "{lines:?}"
    );
}

#[test]
fn programs_read_json() {
    let place = Place::empty();
    let layers = [numbers("w", "BF16", &[128, 128]), numbers("f32", "F32", &[16, 16])];
    place.put("in/model.safetensors", &layers);
    fs::write(place.path("in/config.json"), "{}").unwrap();
    fs::write(place.path("in/model.bin"), "x").unwrap();
    let json = |args: &[&str]| {
        let output = place.run(args);
        assert_eq!(output.stderr.is_empty(), output.status.success(), "{args:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["ok"], output.status.success());
        json
    };
    let done = json(&["compress", "in", "-o", "out", "--json"]);
    assert_eq!((&done["input"], &done["output"]), (&"in".into(), &"out".into()));
    assert_eq!((&done["tensors"], &done["compressed_tensors"]), (&2.into(), &1.into()));
    assert_eq!(done["kept"][0]["tensor"], "f32");
    assert_eq!(done["kept"][0]["reason"], "is F32");
    assert_eq!(done["left_out"], serde_json::json!(["model.bin"]));
    assert_eq!(done["copied"], serde_json::json!(["config.json"]));
    let back = json(&["decompress", "out", "-o", "back", "--json"]);
    assert_eq!(back["stored_bytes"], done["stored_bytes"]);
    let failed = json(&["decompress", "in", "-o", "x", "--json"]);
    assert!(failed["error"].as_str().unwrap().contains("not a file that fused-rans compressed"));
    let failed = json(&["compress", "in", "-o", "x", "--json", "--rules", "nothing"]);
    assert!(failed["error"].as_str().unwrap().starts_with("nothing: "), "{failed}");
    let failed = json(&["compress", "nothing", "-o", "x", "--json"]);
    assert!(failed["error"].as_str().unwrap().contains("cannot open"));
}
