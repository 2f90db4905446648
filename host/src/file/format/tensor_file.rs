//! Files that may be compressed or not.

use std::path::Path;

use crate::Blob;
use crate::file::error::FileError;
use crate::file::format::compressed::CompressedFile;
use crate::file::format::container;
use crate::file::format::header::Tensor;
use crate::file::format::lossless::{LosslessCoding, encode_lossless};
use crate::file::format::mapped::Mapped;
use crate::file::format::plain::PlainFile;

/// A safetensors file, compressed or not, open for reading. Use it where a job accepts both.
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
    /// The errors of [`CompressedFile::open`] and [`PlainFile::open`], other than that the file is the other one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let mapped = Mapped::open(path.as_ref())?;
        if container::is_marked(mapped.header_text()) {
            return Ok(Self::Compressed(CompressedFile::from_marked(mapped)?));
        }
        let plain = PlainFile::from_unmarked(mapped)?;
        plain.rewritten().map_or(Ok(Self::Plain(plain)), Err)
    }

    /// Returns the layers of the file, in the order of their data: the compressed tensors, or of a plain file the
    /// matrices that the codec takes.
    pub fn layers(&self) -> impl Iterator<Item = FileLayer<'_>> {
        let layers = (0..self.tensors().len()).map(|index| FileLayer { file: self, index });
        layers.filter(|layer| match self {
            Self::Plain(file) => file.tensors()[layer.index].matrix().is_some(),
            Self::Compressed(file) => file.is_blob(layer.index),
        })
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

/// A layer of a [`TensorFile`].
#[derive(Clone, Copy, Debug)]
pub struct FileLayer<'a> {
    file: &'a TensorFile,
    index: usize,
}

impl<'a> FileLayer<'a> {
    /// Returns the name of the tensor.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.file.tensors()[self.index].name
    }

    /// Returns the layer's blob. A layer of a plain file is compressed by this call, on rayon's current thread pool;
    /// `None` if that does not make it smaller.
    ///
    /// # Errors
    /// [`FileError::Tensor`] if the file has changed since it was opened.
    pub fn blob(&self) -> Result<Option<Blob<'a>>, FileError> {
        match self.file {
            TensorFile::Compressed(file) => file.blob_at(self.index),
            TensorFile::Plain(file) => {
                let tensor = &file.tensors()[self.index];
                encode_lossless(tensor, file.data(tensor), LosslessCoding::default(), Vec::new())
                    .map_err(|fault| FileError::tensor(file.path(), &tensor.name, fault))
            }
        }
    }
}
