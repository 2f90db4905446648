//! Headers, rules and patterns that would take too much time, memory or stack.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use fused_rans::file::{self, FileError, HeaderFault, Progress};

use crate::place::Place;
use support::craft::{self, Files, framed, plain, tensor};
use support::crc::crc32c;

/// Limit on the CPU time of a linear job with 100,000 tensors, which takes far less. A quadratic job takes far more.
const CPU_LIMIT: Duration = Duration::from_secs(20);

/// Limit on the time of programs. It is generous, because the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

/// Returns the CPU time of this thread where the operating system tells, or else the time since `start`.
fn cpu_time(start: Instant) -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    const LEVELS: usize = 100_000;
    let files = Files::new();
    let deep = nested(LEVELS);
    let entry =
        |more: &str| format!(r#""w":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]{more}}}"#);
    let wrong = [
        format!(r#"{{"__metadata__":{deep},{}}}"#, entry("")),
        format!(r#"{{"__metadata__":{{"a":{deep}}},{}}}"#, entry("")),
        format!(r#"{{"w":{{"dtype":"U8","shape":{deep},"data_offsets":[0,1]}}}}"#),
        format!(r#"{{"w":{{"dtype":{deep},"shape":[1],"data_offsets":[0,1]}}}}"#),
        format!(r#"{{"w":{deep}}}"#),
        format!("{{{}", r#""w":{"#.repeat(LEVELS)),
        "[".repeat(LEVELS),
        deep.clone(),
    ];
    for text in wrong {
        let input = files.put("in", &framed(&text, b"x"));
        let fault = craft::compress(&input, &files.path("out")).unwrap_err();
        let json = matches!(fault, FileError::Header { source: HeaderFault::Json(_), .. });
        assert!(json, "{text:.80}: {fault:?}");
    }
    // Unknown fields of a tensor's entry are ignored, at any depth.
    let bytes = framed(&format!("{{{}}}", entry(&format!(r#","x":{deep}"#))), b"x");
    let packed = files.packed(&bytes);
    assert!(files.unpacked(&packed).unwrap() == bytes);
}

#[test]
fn text_must_be_utf_8_whatever_the_checksum() {
    let files = Files::new();
    let bytes = plain(&[tensor("name", "U8", &[1], vec![0])], "", 0);
    let mut packed = files.packed(&bytes);
    let place = packed.windows(7).rposition(|part| part == br#""name":"#).unwrap() + 1;
    packed[place] = 0xFF;
    let length = 8 + u64::from_le_bytes(packed[..8].try_into().unwrap()) as usize;
    let seal = 8 + r#"{"__metadata__":{"fused_rans":"1 "#.len();
    packed[seal..seal + 8].fill(b'0');
    let crc = format!("{:08x}", crc32c(&[&packed[..length]]));
    packed[seal..seal + 8].copy_from_slice(crc.as_bytes());
    let fault = files.fault(&packed);
    assert!(matches!(fault, FileError::Header { source: HeaderFault::Utf8(_), .. }), "{fault:?}");
}

#[test]
fn jobs_take_linear_time_in_the_number_of_tensors() {
    let start = Instant::now();
    // All work of a pool of one thread is done by that thread, whose CPU time other processes do not change.
    let time = file::on_threads(1, || {
        process_many_tensors();
        cpu_time(start)
    });
    let time = time.unwrap();
    assert!(time < CPU_LIMIT, "{time:?}");
}

/// Compresses, restores, verifies and inspects a file of 100,000 tensors.
fn process_many_tensors() {
    let files = Files::new();
    let tensors = (0..100_000).map(|i| match i % 2 {
        0 => tensor(&format!("layers.{i}.weight"), "BF16", &[0, 64], vec![]),
        _ => tensor(&format!("layers.{i}.weight"), "BF16", &[1, 1], vec![1, 2]),
    });
    let bytes = plain(&tensors.collect::<Vec<_>>(), "", 0);
    let packed = files.packed(&bytes);
    assert!(files.unpacked(&packed).unwrap() == bytes);
    let (plain, packed) = (files.path("plain"), files.path("packed"));
    let summary = file::verify_against(&packed, &plain, Progress::silent()).unwrap();
    assert_eq!(summary.tensors, 100_000);
    assert_eq!(file::inspect(&packed).unwrap().tensors.len(), 100_000);
}

#[test]
fn long_names_take_linear_time_and_space() {
    let (place, start) = (Place::empty(), Instant::now());
    let long = "n".repeat(1_000_000);
    let mut tensors: Vec<_> =
        (0..20_000).map(|i| tensor(&format!("layers.{i}"), "BF16", &[1, 2], vec![0; 4])).collect();
    tensors.push(tensor(&long, "BF16", &[1, 2], vec![0; 4]));
    let bytes = plain(&tensors, "", 0);
    fs::write(place.path("in"), &bytes).unwrap();
    let Output { status, stderr, .. } = place.run(&["compress", "in", "-o", "out"]);
    assert!(status.success() && stderr.len() < 1000);
    place.ok(&["verify", "out", "--against", "in"]);
    // The longest name must not widen every line of the table.
    let table = place.ok(&["inspect", "out", "--plot", "out.svg"]);
    assert!(table.contains(&long) && table.len() < 10_000_000, "{}", table.len());
    assert!(fs::metadata(place.path("out.svg")).unwrap().len() < 20_000_000);
    place.ok(&["decompress", "out", "-o", "back"]);
    assert!(fs::read(place.path("back")).unwrap() == bytes);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

#[test]
fn rules_and_patterns_are_refused_before_they_take_too_much() {
    let place = Place::empty();
    let bytes = plain(&[tensor("w", "U8", &[1], vec![0])], "", 0);
    fs::write(place.path("in"), &bytes).unwrap();
    let huge = "((a{1000}){1000}){1000}";
    let status = place.run(&["compress", "in", "-o", "out", "--include", huge]).status;
    assert_eq!(status.code(), Some(2));
    for rules in [
        format!("x = {}", nested(100_000)),
        format!("{} = 1", vec!["x"; 100_000].join(".")),
        format!("[[layer]]\nname = '{huge}'\nformat = 'raw'\n"),
    ] {
        fs::write(place.path("rules"), rules).unwrap();
        let Output { status, stderr, .. } =
            place.run(&["compress", "in", "-o", "out", "--rules", "rules"]);
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(stderr.starts_with(b"error: rules: "));
    }
    // The moments' map of names is JSON inside a JSON string.
    let shared = serde_json::to_string(&format!(r#"{{"a":{}}}"#, nested(100_000))).unwrap();
    let metadata = format!(r#"{{"shared":{shared}}}"#);
    fs::write(place.path("moments"), plain(&[], &metadata, 0)).unwrap();
    let args = ["compress", "in", "-o", "out", "--calibration", "moments"];
    assert_eq!(place.run(&args).status.code(), Some(1));
    assert_eq!(place.names(), ["in", "moments", "rules"]);
}
