//! Any bytes as a file: as they are, and as a header, up to the first 0, with its length and checksum made right.
#![no_main]

use fused_rans::file::{CompressedFile, FileError, compress, decompress, inspect, verify};
use fused_rans::file::{Options, verify_against};
use fused_rans_fuzz::{Folder, one_thread, sealed, silent};
use libfuzzer_sys::fuzz_target;

/// Bytes of the largest file that is compressed.
const MOST: u64 = 1 << 18;

fuzz_target!(init: one_thread(), |bytes: &[u8]| {
    read(bytes);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (header, data) = bytes.split_at(end);
    read(&sealed(header, data.get(1..).unwrap_or_default()));
});

/// All readers agree on whether the file is in order.
fn read(bytes: &[u8]) {
    let folder = Folder::new();
    let input = folder.put("input", bytes);
    let report = inspect(&input);
    let opened = CompressedFile::open(&input);
    let verified = verify(&input, &mut silent);
    let decompressed = decompress(&input, folder.path("plain"), &mut silent);
    assert_eq!(verified.is_ok(), decompressed.is_ok());
    match opened {
        Ok(file) => {
            let report = report.expect("it looks at no more");
            assert_eq!(report.tensors.len(), file.tensor_count());
            if let Ok(summary) = verified {
                assert_eq!(folder.get("plain").len() as u64, summary.original_bytes);
                come_back(&folder, "plain");
            }
        }
        Err(FileError::NotCompressed { .. }) => {
            report.expect("it is a plain file");
            come_back(&folder, "input");
        }
        Err(_) => assert!(verified.is_err() && report.is_err()),
    }
}

/// A plain file comes back as it was.
fn come_back(folder: &Folder, plain: &str) {
    let bytes = folder.get(plain);
    if bytes.len() as u64 > MOST {
        return;
    }
    let [plain, packed, back] = [plain, "packed", "back"].map(|name| folder.path(name));
    compress(&plain, &packed, &Options::default(), &mut silent).expect("it is a plain file");
    verify_against(&packed, &plain, &mut silent).expect("it is the same");
    decompress(&packed, &back, &mut silent).expect("it was verified");
    assert!(folder.get("back") == bytes, "other bytes come back");
}
