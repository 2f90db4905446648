//! Safetensors files that are not compressed.

use std::borrow::Cow;
use std::path::Path;

use crate::file::error::{FileError, HeaderFault};
use crate::file::format::container;
use crate::file::format::header::{Header, Tensor};
use crate::file::format::mapped::Mapped;

/// A safetensors file that is not compressed, open for reading. Its header has been checked.
///
/// The file is memory-mapped: do not change it while this value lives.
#[derive(Debug)]
pub struct PlainFile {
    mapped: Mapped,
    header: Header,
}

impl PlainFile {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// [`FileError::AlreadyCompressed`] for a compressed file; [`FileError::Header`], [`FileError::Truncated`],
    /// [`FileError::NotAFile`], [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let mapped = Mapped::open(path)?;
        if container::is_marked(mapped.header_text()) {
            return Err(FileError::AlreadyCompressed { path: path.to_owned() });
        }
        let plain = Self::from_unmarked(mapped)?;
        if container::has_own_keys(&plain.header) {
            return Err(FileError::AlreadyCompressed { path: path.to_owned() });
        }
        Ok(plain)
    }

    /// Parses the header of a file that does not start like a compressed one.
    pub(in crate::file) fn from_unmarked(mapped: Mapped) -> Result<Self, FileError> {
        let header = mapped.parse_header()?;
        Ok(Self { mapped, header })
    }

    /// Returns the error for a plain file that has our metadata nevertheless: another program has rewritten the header of
    /// a compressed file.
    pub(in crate::file) fn rewritten(&self) -> Option<FileError> {
        let fault =
            HeaderFault::Metadata("not at the head: another program has rewritten the header");
        let rewritten = container::has_own_keys(&self.header);
        rewritten.then(|| FileError::header(self.path())(fault))
    }

    /// Returns the path that the file was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mapped.path()
    }

    /// Returns the size of the file in bytes.
    pub(in crate::file) fn file_bytes(&self) -> u64 {
        self.mapped.len()
    }

    /// Checks that the file has not changed since it was opened.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.mapped.check_unchanged()
    }

    /// Returns the header.
    pub(in crate::file) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the header's text, which the parser has found to be UTF-8.
    pub(in crate::file) fn header_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.mapped.header_text())
    }

    /// Returns the tensors, in the order of their data.
    pub(in crate::file) fn tensors(&self) -> &[Tensor] {
        &self.header.tensors
    }

    /// Returns the bytes of one of this file's tensors.
    pub(in crate::file) fn data(&self, tensor: &Tensor) -> &[u8] {
        &self.mapped.data()[tensor.range.clone()]
    }
}
