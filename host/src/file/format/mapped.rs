//! Safetensors files, mapped into memory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::file::error::{FileError, HeaderFault};
use crate::file::format::header::{Header, LENGTH_BYTES, MAX_HEADER};
use crate::file::format::kind::other_format;

/// Size and time of modification of a file, by which a change is recognized. A change of the same size within the
/// resolution of the file system's clock is not.
#[derive(Debug, PartialEq)]
pub(in crate::file) struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    /// Reads the current ones of `file`.
    pub(in crate::file) fn new(file: &File) -> io::Result<Self> {
        let status = file.metadata()?;
        Ok(Self { bytes: status.len(), modified: status.modified()? })
    }

    /// Checks that `file`, at `path`, has not changed.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check(&self, file: &File, path: &Path) -> Result<(), FileError> {
        match Self::new(file).map_err(FileError::io(path, "read"))? == *self {
            true => Ok(()),
            false => Err(FileError::Changed { path: path.to_owned() }),
        }
    }
}

/// A mapped file that is long enough for its header. Nothing else has been checked.
#[derive(Debug)]
pub(in crate::file) struct Mapped {
    path: PathBuf,
    /// Kept open, since the path may lead to another file by now.
    file: File,
    stamp: Stamp,
    map: Mmap,
    data_start: usize,
}

impl Mapped {
    /// Maps the file `path`.
    pub(in crate::file) fn open(path: &Path) -> Result<Self, FileError> {
        // Opening a pipe would wait for its other end.
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
        if status.len() == 0 {
            // Nothing can be mapped.
            return Err(truncated(LENGTH_BYTES, 0));
        }
        let stamp = Stamp::new(&file).map_err(FileError::io(path, "open"))?;
        // SAFETY: the mapping is read-only and private to this value. Nothing can ensure that no other program changes the
        // file meanwhile; the documentation of `file` demands it of the caller.
        let map = unsafe { Mmap::map(&file) }.map_err(FileError::io(path, "map"))?;
        let found = map.len() as u64;
        // Asked only where the header is wrong: the length of a right one may look like anything.
        let other = || {
            let (what, advice) = other_format(&map, found)?;
            Some(FileError::OtherFormat { path: path.to_owned(), what, advice })
        };
        let Some((length, rest)) = map.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(other().unwrap_or_else(|| truncated(LENGTH_BYTES, found)));
        };
        let length = u64::from_le_bytes(*length);
        let header_len = match usize::try_from(length) {
            Ok(bytes) if bytes <= MAX_HEADER => bytes,
            _ => {
                let too_large = || FileError::header(path)(HeaderFault::TooLarge(length));
                return Err(other().unwrap_or_else(too_large));
            }
        };
        let data_start = LENGTH_BYTES + header_len;
        let is_object = rest.trim_ascii_start().first() == Some(&b'{');
        if (rest.len() < header_len || !is_object)
            && let Some(other) = other()
        {
            return Err(other);
        }
        if rest.len() < header_len {
            return Err(truncated(data_start, found));
        }
        Ok(Self { path: path.to_owned(), file, stamp, map, data_start })
    }

    /// Returns the path that the file was opened by.
    pub(in crate::file) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file has not changed since it was opened. Call it before relying on what was read.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.stamp.check(&self.file, &self.path)
    }

    /// Returns the size of the file in bytes.
    pub(in crate::file) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Returns the header, with its length before it.
    pub(in crate::file) fn head(&self) -> &[u8] {
        &self.map[..self.data_start]
    }

    /// Returns the header's text.
    pub(in crate::file) fn header_text(&self) -> &[u8] {
        &self.map[LENGTH_BYTES..self.data_start]
    }

    /// Returns the offset of the data section.
    pub(in crate::file) fn data_start(&self) -> usize {
        self.data_start
    }

    /// Returns the data section.
    pub(in crate::file) fn data(&self) -> &[u8] {
        &self.map[self.data_start..]
    }

    /// Parses the header, whose tensors must fill the file.
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
