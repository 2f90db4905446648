//! Writes safetensors files by hand, independently of the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fused_rans::file::{self, CompressOptions, FileError, Progress, Summary};
use tempfile::TempDir;

use crate::crc::crc32c;

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name; any text.
    pub name: String,
    /// Its type as the header spells it, such as `BF16`.
    pub dtype: &'static str,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Makes a [`Tensor`].
pub fn tensor(name: &str, dtype: &'static str, shape: &[usize], data: Vec<u8>) -> Tensor {
    Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data }
}

/// Returns a file of `tensors`. `metadata` is a JSON object or empty; `spaces` spaces follow the header's JSON.
pub fn plain(tensors: &[Tensor], metadata: &str, spaces: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        entries.push(format!("\"__metadata__\":{metadata}"));
    }
    let mut data = Vec::new();
    for Tensor { name, dtype, shape, data: bytes } in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let name = serde_json::to_string(name).unwrap();
        entries.push(format!(
            r#"{name}: {{"shape":{shape:?},"dtype":"{dtype}","data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    framed(&format!("{{{}}}{}", entries.join(","), " ".repeat(spaces)), &data)
}

/// Returns a file of this header text and data section.
pub fn framed(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Splits a file into header text and data section.
pub fn unframed(bytes: &[u8]) -> (String, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (String::from_utf8(bytes[8..8 + length].to_vec()).unwrap(), bytes[8 + length..].to_vec())
}

/// Changes a compressed file's header, then corrects its padding and checksum.
pub fn resealed(bytes: &[u8], change: impl FnOnce(String) -> String) -> Vec<u8> {
    let (header, data) = unframed(bytes);
    let mut header = change(header.trim_end().to_owned());
    while !(8 + header.len()).is_multiple_of(128) {
        header.push(' ');
    }
    sealed(&framed(&header, &data))
}

/// Corrects the checksum of a compressed file's header.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut header, data) = unframed(bytes);
    let place = header.find(' ').expect("a space precedes the checksum") + 1;
    header.replace_range(place..place + 8, "00000000");
    let length = header.len() as u64;
    let crc = crc32c(&[&length.to_le_bytes(), header.as_bytes()]);
    header.replace_range(place..place + 8, &format!("{crc:08x}"));
    framed(&header, &data)
}

/// Returns `count` `BF16` weights that compress: few exponents, any mantissa.
pub fn bf16(count: usize) -> Vec<u8> {
    let weight = |i: usize| {
        let noise = (i as u32).wrapping_mul(2_654_435_761) >> 16;
        let exponent = 118 + (noise & noise >> 3 & noise >> 5 & 7);
        (exponent << 7 | noise & 0x7F | (noise & 0x100) << 7) as u16
    };
    (0..count).flat_map(|i| weight(i).to_le_bytes()).collect()
}

/// Returns `count` `I8` weights that compress: -2 to 1.
pub fn i8(count: usize) -> Vec<u8> {
    (0..count)
        .map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 30) as u8)
        .map(|v| v.wrapping_sub(2))
        .collect()
}

/// Returns `count` bytes that do not compress.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A temporary folder for the files of one test.
pub struct Files(TempDir);

impl Files {
    /// Creates an empty folder.
    #[expect(clippy::new_without_default, reason = "creating a folder is no default")]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Returns the path of the file `name`, which need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the file `name` and returns its path.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Returns the names of all files in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Compresses a file of `bytes`; returns the compressed file's bytes.
    pub fn packed(&self, bytes: &[u8]) -> Vec<u8> {
        let (input, output) = (self.put("plain", bytes), self.path("packed"));
        compress(&input, &output).unwrap();
        fs::read(output).unwrap()
    }

    /// Decompresses the compressed file `bytes`; returns the restored file's bytes.
    pub fn unpacked(&self, bytes: &[u8]) -> Result<Vec<u8>, FileError> {
        let (input, output) = (self.put("damaged", bytes), self.path("restored"));
        decompress(&input, &output)?;
        let restored = fs::read(&output).unwrap();
        fs::remove_file(output).unwrap();
        Ok(restored)
    }

    /// Returns the error of a damaged compressed file. Checks that `verify` and `decompress` agree on it and that neither
    /// leaves a file behind.
    pub fn fault(&self, bytes: &[u8]) -> FileError {
        let decompressed = self.unpacked(bytes).expect_err("damaged");
        let verified = file::verify(self.path("damaged"), Progress::silent()).expect_err("damaged");
        assert_eq!(format!("{decompressed:?}"), format!("{verified:?}"));
        assert!(!self.names().iter().any(|name| name == "restored" || name.starts_with('.')));
        verified
    }
}

/// Returns the bytes of all files of a folder and the folders in it, by their paths.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let name = folder.join(entry.unwrap().file_name());
            match fs::read(root.join(&name)) {
                Ok(bytes) => _ = files.insert(name, bytes),
                Err(_) => folders.push(name),
            }
        }
    }
    files
}

/// Compresses a file with default options.
pub fn compress(input: &Path, output: &Path) -> Result<Summary, FileError> {
    file::compress(input, output, &CompressOptions::default(), Progress::silent())
}

/// Decompresses a file.
pub fn decompress(input: &Path, output: &Path) -> Result<Summary, FileError> {
    file::decompress(input, output, Progress::silent())
}
