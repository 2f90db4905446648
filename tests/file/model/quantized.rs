//! Quantized models of several shards: progress, warnings and summaries over all of them.

use std::fs;
use std::path::Path;

use fused_rans::file::{Calibration, CompressOptions, Progress, Rules, Summary, Warning, compress};

use super::{INDEX, ONE, TWO, folder};
use crate::quantized::too_small;
use support::craft::{Files, bf16, i8, noise, plain, tensor};

/// Sizes in bytes of the tensors that share a rate, and of the others.
const PLANNED: u64 = 2 * (128 * 256 + 256 * 256);
const OTHERS: u64 = 2 * 256 + 64 * 64;

/// Returns `BF16` numbers with nearly a normal distribution.
fn numbers(count: usize) -> Vec<u8> {
    let bytes = noise(4 * count);
    let sums = bytes.chunks_exact(4).map(|four| four.iter().map(|&x| f32::from(x)).sum::<f32>());
    sums.flat_map(|sum| half::bf16::from_f32(sum - 510.0).to_le_bytes()).collect()
}

/// Returns two shards, of tensors to be quantized and others, and their index.
fn shards() -> [(&'static str, Vec<u8>); 3] {
    let one = [
        tensor("a", "BF16", &[128, 256], numbers(128 * 256)),
        tensor("norm", "BF16", &[256], bf16(256)),
    ];
    let two = [
        tensor("b", "BF16", &[256, 256], numbers(256 * 256)),
        tensor("c", "I8", &[64, 64], i8(64 * 64)),
    ];
    let index = format!(r#"{{"weight_map":{{"a":"{ONE}","b":"{TWO}"}}}}"#);
    [(ONE, plain(&one, "", 0)), (TWO, plain(&two, "", 0)), (INDEX, index.into())]
}

fn rate(spread: bool) -> CompressOptions {
    CompressOptions::default().quantize("rate=4".parse().unwrap()).share_rate(spread)
}

/// Counts the reports of a job. Checks that they never go back, and end at `total`.
fn steps(total: u64, job: impl FnOnce(Progress<'_>)) -> usize {
    let mut steps = Vec::new();
    job(Progress::new(|done, total| steps.push((done, total))));
    assert!(steps.is_sorted() && steps.iter().all(|&(_, all)| all == total), "{steps:?}");
    assert_eq!(steps.last(), Some(&(total, total)));
    steps.len()
}

#[test]
fn progress_counts_what_is_planned_twice() {
    let files = Files::new();
    let model = folder(&files, "in", &shards());
    let single = files.put("single", &shards()[1].1);
    let of_model = |options: &CompressOptions, out: &str, total| {
        steps(total, |progress| {
            compress(&model, files.path(out), options, progress).unwrap();
        })
    };
    assert_eq!(of_model(&rate(false), "out", PLANNED + OTHERS), 4);
    assert_eq!(of_model(&rate(true), "spread", 2 * PLANNED + OTHERS), 6);
    let of_file = |options: &CompressOptions, total| {
        steps(total, |progress| {
            compress(&single, files.path("file"), options, progress).unwrap();
        })
    };
    assert_eq!(of_file(&rate(false), 2 * 256 * 256 + 64 * 64), 2);
    assert_eq!(of_file(&rate(true), 4 * 256 * 256 + 64 * 64), 3);
}

#[test]
fn warnings_are_of_the_whole_model() {
    let files = Files::new();
    let input = folder(&files, "in", &shards());
    let moments = 1f32.to_le_bytes().repeat(256);
    let calibration = files.put("moments", &plain(&[tensor("b", "F32", &[256], moments)], "", 0));
    let warnings = |input: &Path, out: &str, rules: &str| -> Summary {
        let calibration = Calibration::open(&calibration).unwrap();
        let rules = Rules::parse(rules).unwrap();
        let options = rate(false).calibration(calibration).rules(rules);
        compress(input, files.path(out), &options, Progress::silent()).unwrap()
    };
    let rules = "[[layer]]\nname = '^c$'\n[[layer]]\nname = 'd'\nformat = 'raw'";
    let all = warnings(&input, "out", rules);
    assert_eq!((all.quantized, all.calibrated), (2, 1));
    assert_eq!(all.warnings, [Warning::Rule("d".to_owned())]);
    // The same for the first shard alone.
    let one = warnings(&input.join(ONE), "one", rules);
    let rule = |name: &str| Warning::Rule(name.to_owned());
    assert_eq!(one.warnings, [Warning::OtherCalibration, rule("^c$"), rule("d")]);
    fs::remove_dir_all(files.path("out")).unwrap();
}

#[test]
fn tensors_that_are_too_small_are_named_wherever_they_are() {
    let files = Files::new();
    let [(_, one), (_, two), _] = shards();
    let narrow = [tensor("narrow", "BF16", &[8, 256], bf16(8 * 256))];
    let entries = [
        ("1.safetensors", one),
        ("2.safetensors", plain(&narrow, "", 0)),
        ("3.safetensors", two),
        ("4.safetensors", plain(&[tensor("tiny", "BF16", &[16, 16], bf16(256))], "", 0)),
    ];
    let input = folder(&files, "in", &entries);
    let summary = compress(&input, files.path("out"), &rate(true), Progress::silent()).unwrap();
    assert_eq!((summary.quantized, too_small(&summary)), (2, vec!["narrow", "tiny"]));
    assert_eq!(summary.warnings, []);
}
