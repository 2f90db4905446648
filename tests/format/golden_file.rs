//! The golden compressed file. Its original has two tensors that become blobs, raw tensors, and an unusual header.

use std::fs;
use std::path::{Path, PathBuf};

use fused_rans::file::{self, CompressOptions, FileError, Progress, Summary};
use support::golden::GOLDEN;

/// The original's header: entries not in the order of the data, white space, escapes, metadata, an empty tensor.
const HEADER: &str = r#"{"m\u00e4trix \"重\"":{"dtype":"I8","shape":[13,103],"data_offsets":[3008,4347]},
 "__metadata__" : { "format":"pt" },
 "empty":{"dtype":"BF16","shape":[0,4],"data_offsets":[8,8]},
 "constant":{"dtype":"I8","shape":[1,3000],"data_offsets":[8,3008]},
 "scales":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   "#;

/// Returns the path of the golden file.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/file.safetensors")
}

/// Returns the original file.
pub fn plain() -> Vec<u8> {
    let weights = |name| {
        let golden = GOLDEN.iter().find(|golden| golden.name == name);
        golden.expect("there is such a case").weights()
    };
    let scales = [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0];
    let length = (HEADER.len() as u64).to_le_bytes();
    let data = [&scales[..], &weights("i8_constant"), &weights("example")].concat();
    [&length[..], HEADER.as_bytes(), &data].concat()
}

/// Compresses the original; returns the compressed file.
pub fn compressed() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("plain");
    fs::write(&input, plain()).unwrap();
    output(|path| file::compress(&input, path, &CompressOptions::default(), Progress::silent()))
}

/// Decompresses the golden file; returns the restored file.
pub fn restored() -> Vec<u8> {
    output(|output| file::decompress(path(), output, Progress::silent()))
}

/// Runs `job`; returns the bytes of the file that it writes.
fn output(job: impl FnOnce(&Path) -> Result<Summary, FileError>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    job(&path).unwrap();
    fs::read(path).unwrap()
}
