//! Files for the library to read, in memory where possible.

use std::fs;
use std::path::{Path, PathBuf};

use crate::crc::crc32c;
use tempfile::TempDir;

/// A temporary folder, in `/dev/shm` if it exists. Dropping it removes it.
pub struct Folder(TempDir);

impl Folder {
    /// Creates an empty folder.
    #[must_use]
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Self(TempDir::with_prefix_in("fused-rans-fuzz-", place).expect("there is room"))
    }

    /// Returns the path of `name`, which need not exist.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of `bytes`, and the folders that it needs.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("there is room");
        fs::write(&path, bytes).expect("there is room");
        path
    }

    /// Reads the file `name`, which must exist.
    #[must_use]
    pub fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it was written")
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a safetensors file of this header and data.
#[must_use]
pub fn framed(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Returns the file of [`framed`]. Corrects padding and checksum if the header is that of a compressed file.
#[must_use]
pub fn sealed(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = header.trim_ascii_end().to_owned();
    let start = r#"{"__metadata__":{"fused_rans":"1 "#;
    let seal = start.len()..start.len() + 8;
    if header.starts_with(start.as_bytes()) && header.len() >= seal.end {
        header.resize((8 + header.len()).next_multiple_of(128) - 8, b' ');
        header[seal.clone()].fill(b'0');
        let crc = crc32c(&[&framed(&header, &[])]);
        header[seal].copy_from_slice(format!("{crc:08x}").as_bytes());
    }
    framed(&header, data)
}
