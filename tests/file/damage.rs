//! Truncated and flipped files give errors, or exactly the weights that were compressed.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use fused_rans::ErrorKind;
use fused_rans::file::{self, FileError, Progress};

use support::craft::{Files, bf16, i8, noise, plain, tensor};

fn small() -> Vec<u8> {
    let tensors = [
        tensor("coded", "I8", &[64, 64], i8(64 * 64)),
        tensor("also coded", "BF16", &[32, 48], bf16(32 * 48)),
        tensor("kept", "F32", &[5], noise(20)),
    ];
    plain(&tensors, r#"{"k":"v"}"#, 5)
}

#[test]
fn every_truncation_is_an_error() {
    let files = Files::new();
    let packed = files.packed(&small());
    assert_eq!(files.unpacked(&packed).unwrap(), small());
    for length in 0..packed.len() {
        let fault = files.fault(&packed[..length]);
        assert!(matches!(fault, FileError::Truncated { .. } | FileError::HeaderChecksum { .. }));
        assert_eq!(fault.kind(), ErrorKind::InsufficientData, "{length}: {fault}");
        assert!(file::inspect(files.path("damaged")).is_err());
    }
    let mut longer = packed;
    longer.push(0);
    assert_eq!(files.fault(&longer).kind(), ErrorKind::Corruption);
}

#[test]
fn every_truncation_of_a_plain_file_is_an_error() {
    let files = Files::new();
    let bytes = small();
    let output = files.path("out");
    for length in 0..bytes.len() {
        let input = files.put("in", &bytes[..length]);
        let fault = support::craft::compress(&input, &output).expect_err("truncated");
        assert_eq!(fault.kind(), ErrorKind::InsufficientData, "{length}: {fault}");
        assert_eq!(files.names(), ["in"]);
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_does_not_matter() {
    let files = Files::new();
    let packed = files.packed(&small());
    let path = files.path("packed");
    let restored = files.path("restored");
    let mut target = OpenOptions::new().write(true).open(&path).unwrap();
    let mut put = |place: usize, byte: u8| {
        target.seek(SeekFrom::Start(place as u64)).unwrap();
        target.write_all(&[byte]).unwrap();
    };
    // Without optimization, flipping all bits would take minutes. 7 and 8 are coprime: every bit number has its turn.
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    for bit in (0..8 * packed.len()).step_by(step) {
        let (place, byte) = (bit / 8, packed[bit / 8]);
        put(place, byte ^ 1 << (bit % 8));
        let verified = file::verify(&path, Progress::silent());
        // Restoring takes longer. One bit of each byte, at alternating positions, covers the same paths.
        if verified.is_ok() || step > 1 || bit % 8 == place % 8 {
            let decompressed = file::decompress(&path, &restored, Progress::silent());
            assert_eq!(verified.is_ok(), decompressed.is_ok(), "bit {bit}");
        }
        if verified.is_ok() {
            assert!(fs::read(&restored).unwrap() == small(), "bit {bit} changes the weights");
            fs::remove_file(&restored).unwrap();
        }
        // This reads headers only. It may find nothing, but must not panic.
        let _ = file::inspect(&path);
        put(place, byte);
    }
    assert_eq!(files.names(), ["packed", "plain"]);
}
