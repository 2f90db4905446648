//! Compares the Rust decoder with a second one, written in Python from docs/format.md alone: both accept and refuse the same
//! blobs and files.
//!
//! Needs `python3`, 3.9 or later. Set `FUSED_RANS_NO_PYTHON` to skip these tests.

mod python;
mod random;

use std::fs;

use crate::golden_file;
use fused_rans::{Blob, Float, reference};
use python::{Cases, Output};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::craft::{Files, bf16, i8, noise, plain, resealed, tensor};
use support::golden::GOLDEN;
use support::seal::{INDEX, RECORD};
use support::victim::{Victim, victims};

/// Dequantizes a blob to F32; returns `None` if its weights have no scales.
fn numbers(blob: &Blob<'_>) -> Option<Vec<u8>> {
    let quantized = blob.groups().is_some() || blob.row_scales().is_some();
    quantized.then(|| {
        let mut numbers = vec![0; 4 * blob.rows() * blob.cols()];
        blob.dequantize(Float::F32, &mut numbers).unwrap();
        numbers
    })
}

#[test]
fn golden_blobs_and_the_golden_file_are_read() {
    let (mut contents, mut meanings) = (Cases::new(Output::Content), Cases::new(Output::Numbers));
    for golden in &GOLDEN {
        let bytes = fs::read(golden.path()).unwrap();
        contents.add(golden.name, &bytes, Some(golden.weights()));
        if let Some(numbers) = numbers(&Blob::parse(&bytes).unwrap()) {
            meanings.add(golden.name, &bytes, Some(numbers));
        }
    }
    let file = fs::read(golden_file::path()).unwrap();
    contents.add("the file", &file, Some(golden_file::plain()));
    contents.check();
    meanings.check();
}

#[test]
fn random_blobs_are_read() {
    let (mut contents, mut meanings) = (Cases::new(Output::Content), Cases::new(Output::Numbers));
    for (name, bytes) in random::blobs() {
        let blob = Blob::parse(&bytes).unwrap();
        contents.add(&name, &bytes, Some(reference::decode(&blob).unwrap()));
        if let Some(numbers) = numbers(&blob) {
            meanings.add(name, &bytes, Some(numbers));
        }
    }
    contents.check();
    meanings.check();
}

#[test]
fn random_files_are_read() {
    let (files, mut cases) = (Files::new(), Cases::new(Output::Content));
    for (name, bytes) in random::files(&files).into_iter().chain(random::scaled_files()) {
        let restored = files.unpacked(&bytes).unwrap();
        cases.add(name, &bytes, Some(restored));
    }
    cases.check();
}

/// Returns a small compressed file with two blobs and two raw tensors.
fn small_file(files: &Files) -> Vec<u8> {
    let tensors = [
        tensor("a", "I8", &[40, 64], i8(40 * 64)),
        tensor("kept", "F32", &[2], noise(8)),
        tensor("b", "BF16", &[32, 48], bf16(32 * 48)),
        tensor("none", "F16", &[0, 3], vec![]),
    ];
    files.packed(&plain(&tensors, r#"{"k":"v"}"#, 5))
}

#[test]
fn damaged_bytes_are_refused_by_both() {
    let (files, mut cases) = (Files::new(), Cases::new(Output::Content));
    let mut random = SmallRng::seed_from_u64(7);
    let (blob, file) = (fs::read(GOLDEN[0].path()).unwrap(), small_file(&files));
    for case in 0..48 {
        let mut bytes = if case % 2 == 0 { blob.clone() } else { file.clone() };
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= random.random_range(1..=255u8);
        let restored = if case % 2 == 0 {
            Blob::parse(&bytes).and_then(|blob| reference::decode(&blob)).ok()
        } else {
            files.unpacked(&bytes).ok()
        };
        cases.add(format!("byte {at}"), &bytes, restored);
    }
    cases.check();
}

/// Changes a byte and corrects all checksums, that of the weights included, so that only checks of content refuse a blob.
#[test]
fn changed_blobs_are_refused_by_both_or_read_alike() {
    let mut cases = Cases::new(Output::Content);
    let mut random = SmallRng::seed_from_u64(8);
    let small: Vec<&Victim> = victims().iter().filter(|v| v.bytes.len() < 6000).collect();
    for case in 0..200 {
        let mut crafted = small[case % small.len()].clone();
        let payload = crafted.payload(0).unwrap();
        let at = match random.random_range(0..4) {
            0 => random.random_range(0..64),
            1 | 2 => INDEX + random.random_range(0..RECORD),
            _ => random.random_range(payload),
        };
        crafted.bytes[at] = crafted.bytes[at].wrapping_add([1, 255, 16, 128][case % 4]);
        crafted.reseal();
        let weights = crafted.decode().ok();
        cases.add(format!("{}, byte {at}", crafted.name), &crafted.bytes, weights);
    }
    cases.check();
}

/// Changes a character of a file's header and corrects its checksum.
#[test]
fn changed_headers_are_refused_by_both_or_read_alike() {
    const LETTERS: &[u8] = br#"0123456789abcdef"\{}[]:, -.BFU"#;
    let (files, mut cases) = (Files::new(), Cases::new(Output::Content));
    let mut random = SmallRng::seed_from_u64(9);
    let file = small_file(&files);
    for _ in 0..300 {
        let mut change = String::new();
        let bytes = resealed(&file, |header| {
            let mut text = header.into_bytes();
            let at = random.random_range(42..text.len());
            let letter = LETTERS[random.random_range(0..LETTERS.len())];
            change = format!("{letter} at {at}");
            match random.random_range(0..3) {
                0 => text[at] = letter,
                1 => text.insert(at, letter),
                _ => drop(text.remove(at)),
            }
            String::from_utf8(text).unwrap()
        });
        cases.add(change, &bytes, files.unpacked(&bytes).ok());
    }
    cases.check();
}

/// Headers at the limits of JSON, the safetensors format and integer arithmetic.
#[test]
fn odd_headers_are_refused_by_both_or_read_alike() {
    const METADATA: &str = r#"{\"k\":\"v\"}"#;
    const KEPT: &str = r#"\"kept\": {\"shape\":[2]"#;
    const CHANGES: [(&str, &str, &str); 17] = [
        ("null", METADATA, "null"),
        ("no object", METADATA, "[]"),
        ("false", METADATA, "false"),
        ("no text", METADATA, r#"{\"k\":-1}"#),
        ("a key twice", METADATA, r#"{\"k\":\"v\",\"k\":\"w\"}"#),
        ("half a surrogate pair", METADATA, r#"{\"k\":\"\\ud800\"}"#),
        ("a fraction", KEPT, r#"\"kept\": {\"shape\":[2.0]"#),
        ("a power", KEPT, r#"\"kept\": {\"shape\":[2e0]"#),
        ("minus zero", "[0, 3]", "[-0, 3]"),
        ("no number", KEPT, r#"\"kept\": {\"x\":NaN,\"shape\":[2]"#),
        ("another field", KEPT, r#"\"kept\": {\"x\":[{}],\"x\":1,\"shape\":[2]"#),
        ("a field twice", KEPT, r#"\"kept\": {\"shape\":[2],\"shape\":[2]"#),
        ("another shape", KEPT, r#"\"kept\": {\"shape\":[1,2]"#),
        ("empty, of a large side", "[0, 3]", "[0,4294967296,4294967296]"),
        ("empty, of too large sides", "[0, 3]", "[4294967296,4294967296,0]"),
        ("other keys' order", r#""fused_rans.crc32c""#, r#""fused_rans.header""#),
        ("spaces", r#"{"dtype":"F16""#, r#"{ "dtype"	:"F16""#),
    ];
    let (files, mut cases) = (Files::new(), Cases::new(Output::Content));
    let file = small_file(&files);
    for (name, from, to) in CHANGES {
        let bytes = resealed(&file, |header| {
            assert!(header.contains(from), "{from} in {header}");
            header.replacen(from, to, 1).replacen(
                "[0,3]",
                if from == "[0, 3]" { to } else { "[0,3]" },
                1,
            )
        });
        cases.add(name, &bytes, files.unpacked(&bytes).ok());
    }
    cases.check();
}
