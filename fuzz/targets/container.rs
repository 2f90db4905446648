//! Reads any bytes as a file: unchanged, and as a header (up to the first 0) with corrected length and checksum, and data.
#![no_main]

use fused_rans::file::{CompressOptions, CompressedFile, FileError, Progress};
use fused_rans::file::{compress, decompress, inspect, verify, verify_against};
use fused_rans_fuzz::{Folder, one_thread, sealed};
use libfuzzer_sys::fuzz_target;

/// Size in bytes of the largest file that is compressed.
const MOST: u64 = 1 << 18;

fuzz_target!(init: one_thread(), |bytes: &[u8]| {
    read(bytes);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (header, data) = bytes.split_at(end);
    read(&sealed(header, data.get(1..).unwrap_or_default()));
});

/// Checks that all readers agree whether the file is valid.
fn read(bytes: &[u8]) {
    let folder = Folder::new();
    let input = folder.put("input", bytes);
    let report = inspect(&input);
    let opened = CompressedFile::open(&input);
    let verified = verify(&input, Progress::silent());
    let decompressed = decompress(&input, folder.path("plain"), Progress::silent());
    assert_eq!(verified.is_ok(), decompressed.is_ok());
    match opened {
        Ok(file) => {
            let report = report.expect("it reads no more than `open`");
            assert_eq!(report.tensors.len(), file.tensor_count());
            if let Ok(summary) = verified {
                assert_eq!(folder.get("plain").len() as u64, summary.original_bytes);
                round_trip(&folder, "plain");
            }
        }
        Err(FileError::NotCompressed { .. }) => {
            report.expect("it is a plain file");
            round_trip(&folder, "input");
        }
        Err(_) => assert!(verified.is_err() && report.is_err()),
    }
}

/// Compresses a plain file and checks that it is restored exactly.
fn round_trip(folder: &Folder, plain: &str) {
    let bytes = folder.get(plain);
    if bytes.len() as u64 > MOST {
        return;
    }
    let [plain, packed, back] = [plain, "packed", "back"].map(|name| folder.path(name));
    compress(&plain, &packed, &CompressOptions::default(), Progress::silent())
        .expect("it is a plain file");
    verify_against(&packed, &plain, Progress::silent()).expect("it is the same");
    decompress(&packed, &back, Progress::silent()).expect("it was verified");
    assert!(folder.get("back") == bytes, "the restored file differs");
}
