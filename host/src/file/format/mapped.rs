//! Safetensors files, mapped into memory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::file::error::{FileError, HeaderFault};
use crate::file::format::container;
use crate::file::format::header::{Header, LENGTH_BYTES, MAX_HEADER, Tensor};

/// What tells that a file has been changed, if the clock of its file system has gone on since.
#[derive(Debug, PartialEq)]
pub(in crate::file) struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    pub(in crate::file) fn of(file: &File) -> io::Result<Self> {
        let status = file.metadata()?;
        Ok(Self { bytes: status.len(), modified: status.modified()? })
    }

    /// Checks that `file`, called `path`, is as it was.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check(&self, file: &File, path: &Path) -> Result<(), FileError> {
        match Self::of(file).map_err(FileError::io(path, "read"))? == *self {
            true => Ok(()),
            false => Err(FileError::Changed { path: path.to_owned() }),
        }
    }
}

/// A mapped file whose header lies within it; nothing else is known yet.
#[derive(Debug)]
pub(in crate::file) struct Mapped {
    path: PathBuf,
    /// Not the path, which may lead to another file since.
    file: File,
    stamp: Stamp,
    map: Mmap,
    data_start: usize,
}

impl Mapped {
    pub(in crate::file) fn open(path: &Path) -> Result<Self, FileError> {
        // Before opening it, as that waits for the other end of a pipe.
        let status = fs::metadata(path).map_err(FileError::io(path, "open"))?;
        if !status.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(FileError::io(path, "open"))?;
        let truncated = |needed: usize, found| FileError::Truncated {
            path: path.to_owned(),
            needed: needed as u64,
            found,
        };
        if status.len() < LENGTH_BYTES as u64 {
            return Err(truncated(LENGTH_BYTES, status.len()));
        }
        let stamp = Stamp::of(&file).map_err(FileError::io(path, "open"))?;
        // SAFETY: the mapping is read-only and private to this value. That no one changes or
        // truncates the file meanwhile cannot be checked; the module's documentation demands it.
        let map = unsafe { Mmap::map(&file) }.map_err(FileError::io(path, "map"))?;
        let found = map.len() as u64;
        let Some((length, rest)) = map.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(truncated(LENGTH_BYTES, found));
        };
        let length = u64::from_le_bytes(*length);
        let header_len = match usize::try_from(length) {
            Ok(bytes) if bytes <= MAX_HEADER => bytes,
            _ => return Err(FileError::header(path)(HeaderFault::TooLarge(length))),
        };
        let data_start = LENGTH_BYTES + header_len;
        if rest.len() < header_len {
            return Err(truncated(data_start, found));
        }
        Ok(Self { path: path.to_owned(), file, stamp, map, data_start })
    }

    pub(in crate::file) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that nobody has changed the file since it was opened. To be called before what has been read of it is
    /// relied on.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.stamp.check(&self.file, &self.path)
    }

    /// Bytes of the file.
    pub(in crate::file) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The header with the length that stands before it.
    pub(in crate::file) fn head(&self) -> &[u8] {
        &self.map[..self.data_start]
    }

    /// The header's text.
    pub(in crate::file) fn header_text(&self) -> &[u8] {
        &self.map[LENGTH_BYTES..self.data_start]
    }

    /// Where the data section starts.
    pub(in crate::file) fn data_start(&self) -> usize {
        self.data_start
    }

    /// The data section.
    pub(in crate::file) fn data(&self) -> &[u8] {
        &self.map[self.data_start..]
    }

    /// Parses the header, which must cover the whole file.
    pub(in crate::file) fn parse_header(&self) -> Result<Header, FileError> {
        let header = Header::parse(self.header_text()).map_err(FileError::header(&self.path))?;
        let (expected, found) = (header.data_len as u64, self.data().len() as u64);
        if found < expected {
            let needed = expected.saturating_add(self.data_start as u64);
            return Err(FileError::Truncated {
                path: self.path.clone(),
                needed,
                found: self.len(),
            });
        }
        if found > expected {
            let fault = HeaderFault::Trailing { expected, found };
            return Err(FileError::header(&self.path)(fault));
        }
        Ok(header)
    }
}

/// A safetensors file that is not compressed.
#[derive(Debug)]
pub(in crate::file) struct PlainFile {
    mapped: Mapped,
    header: Header,
}

impl PlainFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`FileError::AlreadyCompressed`] for a compressed file.
    pub(in crate::file) fn open(path: &Path) -> Result<Self, FileError> {
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

    /// Parses a file that does not start like a compressed one.
    pub(in crate::file) fn from_unmarked(mapped: Mapped) -> Result<Self, FileError> {
        let header = mapped.parse_header()?;
        Ok(Self { mapped, header })
    }

    pub(in crate::file) fn file(&self) -> &Mapped {
        &self.mapped
    }

    pub(in crate::file) fn header(&self) -> &Header {
        &self.header
    }

    /// In the order of their data.
    pub(in crate::file) fn tensors(&self) -> &[Tensor] {
        &self.header.tensors
    }

    /// The bytes of one of this file's tensors.
    pub(in crate::file) fn data(&self, tensor: &Tensor) -> &[u8] {
        &self.mapped.data()[tensor.range.clone()]
    }
}
