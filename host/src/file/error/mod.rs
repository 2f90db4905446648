//! Errors of files and models.

mod header;
mod model;
mod tensor;

use std::io;
use std::path::{Path, PathBuf};

use crate::ErrorKind;
use crate::blob::error::other_version;

pub use header::HeaderFault;
pub use model::{IndexFault, ModelFault};
pub use tensor::TensorFault;

/// Why a file or a model was refused, or could not be read or written. No content of a file causes a panic: each fault
/// is one of these errors. It names the file and, where there is one, the tensor.
///
/// `Display` prints this error alone; walk [`std::error::Error::source`] for its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused an operation.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// File at fault.
        path: PathBuf,
        /// The operation, a verb that follows "cannot".
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The folder that an output is to be written to does not exist.
    #[error("the folder `{}` does not exist: create it, or choose another output", path.display())]
    NoFolder {
        /// The missing folder.
        path: PathBuf,
    },
    /// A disk, a quota or a limit of a file's size is exhausted.
    #[error(
        "{}: no space for it; free some, raise the limit, or choose another output",
        path.display()
    )]
    NoSpace {
        /// File that could not be written.
        path: PathBuf,
        /// The operating system's reason, which tells what is exhausted.
        source: io::Error,
    },
    /// An input changed while a job read it, so that the result may be of either version, or of a mixture.
    #[error("{}: changed while it was read; try again when nothing writes to it", path.display())]
    Changed {
        /// File at fault.
        path: PathBuf,
    },
    /// The output is the input.
    #[error("{}: the output is the input file; choose another output", path.display())]
    SameFile {
        /// The output.
        path: PathBuf,
    },
    /// Input or output is a folder, a device or a pipe.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// File at fault.
        path: PathBuf,
    },
    /// The output is a folder, but the job writes a file.
    #[error("{}: a folder, but the output is one file: name a file in it, such as {}", path.display(), example.display())]
    FolderOutput {
        /// The output.
        path: PathBuf,
        /// A file in the folder.
        example: PathBuf,
    },
    /// The file is in another format than safetensors.
    #[error("{}: this is {what}; {advice}", path.display())]
    OtherFormat {
        /// File at fault.
        path: PathBuf,
        /// What the file is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// `compress` was given a file that is compressed.
    #[error("{}: already compressed by fused-rans; decompress it first", path.display())]
    AlreadyCompressed {
        /// File at fault.
        path: PathBuf,
    },
    /// The job needs a compressed file, but this is a plain one.
    #[error("{}: not a file that fused-rans compressed", path.display())]
    NotCompressed {
        /// File at fault.
        path: PathBuf,
    },
    /// The output's header, which contains the input's, would be longer than readers accept.
    #[error(
        "{}: the compressed file's header would take {bytes} bytes, more than the {limit} that safetensors allows",
        path.display()
    )]
    HeaderTooLarge {
        /// File at fault.
        path: PathBuf,
        /// Largest size of the output's header in bytes.
        bytes: u64,
        /// Largest size that safetensors allows.
        limit: u64,
    },
    /// The file's format version is from before the format was frozen, or newer than this build.
    #[error("{}: file format {}", path.display(), other_version(*found, *supported))]
    Version {
        /// File at fault.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version that this build reads.
        supported: u32,
    },
    /// The file is shorter than its header says.
    #[error("{}: truncated: {needed} bytes are needed, {found} are there", path.display())]
    Truncated {
        /// File at fault.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes found.
        found: u64,
    },
    /// The header is not a valid safetensors header, or not one that `compress` writes.
    #[error("{}: invalid header", path.display())]
    Header {
        /// File at fault.
        path: PathBuf,
        /// The fault.
        source: HeaderFault,
    },
    /// The header does not match its checksum.
    #[error("{}: the header is damaged (checksum mismatch)", path.display())]
    HeaderChecksum {
        /// File at fault.
        path: PathBuf,
    },
    /// A tensor is damaged, does not match the original header, or cannot be quantized.
    #[error("{}: tensor `{tensor}`", path.display())]
    Tensor {
        /// File at fault.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// The fault.
        source: TensorFault,
    },
    /// No compressed tensor has this name.
    #[error("{}: no compressed tensor is called `{tensor}`", path.display())]
    NoSuchBlob {
        /// Compressed file.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// The file is intact, but a tensor differs from that of the plain file.
    #[error("{}: tensor `{tensor}` differs from {}: {what}", path.display(), against.display())]
    Differs {
        /// Compressed file.
        path: PathBuf,
        /// Plain file.
        against: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// The difference.
        what: &'static str,
    },
    /// The weights of a tensor do not fit into memory.
    #[error("{}: tensor `{tensor}`: no memory for {bytes} bytes of it", path.display())]
    Memory {
        /// File at fault.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Bytes that could not be allocated.
        bytes: u64,
    },
    /// A model of several files, or its output folder, was refused.
    #[error(transparent)]
    Model(#[from] ModelFault),
}

impl FileError {
    /// Returns the kind of this error, for callers that only need to know what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. }
            | Self::NoFolder { .. }
            | Self::NoSpace { .. }
            | Self::Changed { .. } => ErrorKind::Io,
            Self::Memory { .. } => ErrorKind::OutOfMemory,
            Self::SameFile { .. }
            | Self::NotAFile { .. }
            | Self::FolderOutput { .. }
            | Self::OtherFormat { .. }
            | Self::AlreadyCompressed { .. }
            | Self::NotCompressed { .. }
            | Self::HeaderTooLarge { .. }
            | Self::NoSuchBlob { .. } => ErrorKind::InvalidArgument,
            Self::Model(fault) => fault.kind(),
            Self::Version { .. } => ErrorKind::Compatibility,
            Self::Truncated { .. } => ErrorKind::InsufficientData,
            Self::Tensor { source, .. } => source.kind(),
            Self::Header { .. } | Self::HeaderChecksum { .. } | Self::Differs { .. } => {
                ErrorKind::Corruption
            }
        }
    }

    /// Returns a conversion of the operating system's errors: it could not `action` the file `path`.
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match Self::is_no_space(&source) {
                true => Self::NoSpace { path, source },
                false => Self::Io { path, action, source },
            }
        }
    }

    /// Returns whether an error becomes [`FileError::NoSpace`].
    pub(super) fn is_no_space(error: &io::Error) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }

    pub(super) fn header(path: &Path) -> impl FnOnce(HeaderFault) -> Self {
        move |source| Self::Header { path: path.to_owned(), source }
    }

    pub(super) fn tensor(path: &Path, tensor: &str, fault: impl Into<TensorFault>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), source: fault.into() }
    }
}
