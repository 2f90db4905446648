//! Files that may be compressed or not.

use std::path::Path;

use crate::file::error::FileError;
use crate::file::format::compressed::CompressedFile;
use crate::file::format::container;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::Mapped;
use crate::file::format::plain::PlainFile;

/// A safetensors file, compressed or not, open for reading. Use it where both are welcome.
#[derive(Debug)]
pub enum TensorFile {
    /// A plain file.
    Plain(PlainFile),
    /// A file that [`compress`](crate::file::compress) has written.
    Compressed(CompressedFile),
}

impl TensorFile {
    /// Opens the file `path`, and checks all of it but the weights.
    ///
    /// # Errors
    /// Those of [`CompressedFile::open`] and [`PlainFile::open`], other than that the file is the other one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let mapped = Mapped::open(path.as_ref())?;
        if container::is_marked(mapped.header_text()) {
            return Ok(Self::Compressed(CompressedFile::from_marked(mapped)?));
        }
        let plain = PlainFile::from_unmarked(mapped)?;
        plain.rewritten().map_or(Ok(Self::Plain(plain)), Err)
    }

    /// Returns the tensors, before compression, in the order of their data.
    pub(in crate::file) fn tensors(&self) -> &[Tensor] {
        match self {
            Self::Plain(file) => file.tensors(),
            Self::Compressed(file) => file.tensors(),
        }
    }

    /// Returns the size of the file in bytes.
    pub(in crate::file) fn file_bytes(&self) -> u64 {
        match self {
            Self::Plain(file) => file.file_bytes(),
            Self::Compressed(file) => file.stored_bytes(),
        }
    }
}
