//! What can be wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

use super::model::ModelFault;
use crate::BlobError;
use crate::blob::error::other_version;
use crate::quantize::QuantizeError;

/// Why a file was refused. Nothing that a file can contain panics; every fault comes back as one of
/// these, and names the file and, where there is one, the tensor.
///
/// `Display` gives this error alone; walk [`std::error::Error::source`] for its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// File at fault.
        path: PathBuf,
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A disk, a quota or a limit of a file's size is exhausted.
    #[error(
        "{}: no space for it; free some, raise the limit, or choose another output",
        path.display()
    )]
    NoSpace {
        /// File that has no space.
        path: PathBuf,
        /// What is exhausted.
        source: io::Error,
    },
    /// An input was changed while a job read it, so that nothing is known of what came of it.
    #[error("{}: changed while it was read; try again when nothing writes to it", path.display())]
    Changed {
        /// File at fault.
        path: PathBuf,
    },
    /// The output is the input.
    #[error("{}: the output is the input file; choose another output", path.display())]
    SameFile {
        /// Output that was asked for.
        path: PathBuf,
    },
    /// Input or output is a directory, a device, a pipe.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// File at fault.
        path: PathBuf,
    },
    /// `compress` was given a file that is compressed.
    #[error("{}: already compressed by fused-rans; decompress it first", path.display())]
    AlreadyCompressed {
        /// File at fault.
        path: PathBuf,
    },
    /// A compressed file was wanted, this is a plain one.
    #[error("{}: not a file that fused-rans compressed", path.display())]
    NotCompressed {
        /// File at fault.
        path: PathBuf,
    },
    /// The output's header, which holds the input's, would exceed what readers accept.
    #[error(
        "{}: the compressed file's header would take {bytes} bytes, more than the {limit} that safetensors allows",
        path.display()
    )]
    HeaderTooLarge {
        /// File at fault.
        path: PathBuf,
        /// Bytes that the output's header might take.
        bytes: u64,
        /// Bytes that safetensors allows.
        limit: u64,
    },
    /// Of a version of the format from before it was frozen, or of a later one.
    #[error("{}: file format {}", path.display(), other_version(*found, *supported))]
    Version {
        /// File at fault.
        path: PathBuf,
        /// Version that the file names.
        found: u32,
        /// Version that this build reads.
        supported: u32,
    },
    /// The file ends before its header says so.
    #[error("{}: truncated: {needed} bytes are needed, {found} are there", path.display())]
    Truncated {
        /// File at fault.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes found.
        found: u64,
    },
    /// The header is no valid safetensors header, or not one that `compress` writes.
    #[error("{}: invalid header", path.display())]
    Header {
        /// File at fault.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderFault,
    },
    /// The header does not match its checksum.
    #[error("{}: the header is damaged (checksum mismatch)", path.display())]
    HeaderChecksum {
        /// File at fault.
        path: PathBuf,
    },
    /// A tensor is damaged, or is not what the original header says.
    #[error("{}: tensor `{tensor}`", path.display())]
    Tensor {
        /// File at fault.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        source: TensorFault,
    },
    /// There is no compressed tensor of this name.
    #[error("{}: no compressed tensor is called `{tensor}`", path.display())]
    NoSuchBlob {
        /// File that was searched.
        path: PathBuf,
        /// Name that was asked for.
        tensor: String,
    },
    /// The file is intact, but does not hold what it was compared with.
    #[error("{}: tensor `{tensor}` differs from {}: {what}", path.display(), against.display())]
    Differs {
        /// Compressed file.
        path: PathBuf,
        /// File it was compared with.
        against: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What differs.
        what: &'static str,
    },
    /// A tensor's weights do not fit into memory.
    #[error("{}: tensor `{tensor}`: no memory for its {bytes} bytes", path.display())]
    Memory {
        /// File at fault.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// A model of several files, or the folder that it is to be written to, is at fault.
    #[error(transparent)]
    Model(#[from] ModelFault),
}

/// What is wrong with a safetensors header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// Longer than safetensors allows.
    #[error("it claims to be {0} bytes long, more than safetensors allows")]
    TooLarge(u64),
    /// Not text.
    #[error("it is not UTF-8")]
    Utf8(#[source] std::str::Utf8Error),
    /// Not JSON of the right form.
    #[error("it is not the JSON of a safetensors header")]
    Json(#[source] serde_json::Error),
    /// Of a calibration: who shares whose inputs is not said as it should be.
    #[error("its metadata entry `shared` is not a JSON object from names to names")]
    Shared(#[source] serde_json::Error),
    /// Of a calibration: what is said to be shared is not there.
    #[error(
        "its metadata entry `shared` says that `{name}` has the inputs of `{stored}`, which is not in the file: name a tensor that is"
    )]
    SharedName {
        /// Name of a matrix.
        name: String,
        /// Name of the tensor that is to have the moments of its inputs.
        stored: String,
    },
    /// A name occurs twice, so that readers would lose a tensor.
    #[error("tensor `{0}` is defined twice")]
    Duplicate(String),
    /// Hole, overlap or disorder between tensors.
    #[error("tensor `{0}` does not start where the one before it ends")]
    Offset(String),
    /// Dtype and shape do not give the tensor's length.
    #[error("tensor `{0}`: dtype and shape do not match the number of bytes")]
    Size(String),
    /// Data beyond the last tensor.
    #[error("the tensors take {expected} bytes, the file holds {found}")]
    Trailing {
        /// Bytes that the tensors take.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// Marked as compressed, but not the way `compress` does it.
    #[error("invalid `fused_rans` metadata: {0}")]
    Metadata(&'static str),
    /// The verbatim original header is no valid header.
    #[error("the original file's header, kept inside, is invalid")]
    Original(#[source] Box<HeaderFault>),
}

/// What is wrong with a tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFault {
    /// The bytes do not match the checksum in the header.
    #[error("checksum mismatch")]
    Checksum,
    /// In the original header, but not in the file, or the other way round, or out of order.
    #[error("does not agree with the original header: {0}")]
    Original(&'static str),
    /// The blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The tensor cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Of a calibration: a tensor of another type than second moments have.
    #[error(
        "it is {0}, but second moments are F32: convert them, or name the file that holds them"
    )]
    MomentsType(String),
    /// Of a calibration: a tensor of another shape than second moments have.
    #[error(
        "its shape is {0:?}, but second moments of K inputs are [K, K], or [K] for the diagonal: name the file that holds them"
    )]
    MomentsShape(Vec<usize>),
}

/// Kinds of [`FileError`], for callers that only need to know what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another release can read the file.
    Compatibility,
    /// The file is damaged or was never valid.
    Corruption,
    /// The file ends too early.
    InsufficientData,
    /// The caller asked for something that cannot be done.
    InvalidArgument,
    /// The operating system refused, memory or a disk ran out, or another program changed a file.
    Io,
}

impl FileError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::NoSpace { .. } | Self::Changed { .. } | Self::Memory { .. } => {
                ErrorKind::Io
            }
            Self::SameFile { .. }
            | Self::NotAFile { .. }
            | Self::AlreadyCompressed { .. }
            | Self::NotCompressed { .. }
            | Self::HeaderTooLarge { .. }
            | Self::NoSuchBlob { .. } => ErrorKind::InvalidArgument,
            Self::Model(fault) => fault.kind(),
            Self::Version { .. } => ErrorKind::Compatibility,
            Self::Truncated { .. } => ErrorKind::InsufficientData,
            Self::Tensor { source: TensorFault::Blob(fault), .. } => blob_kind(fault),
            Self::Tensor {
                source:
                    TensorFault::Quantize(_)
                    | TensorFault::MomentsType(_)
                    | TensorFault::MomentsShape(_),
                ..
            } => ErrorKind::InvalidArgument,
            Self::Header { .. }
            | Self::HeaderChecksum { .. }
            | Self::Tensor { .. }
            | Self::Differs { .. } => ErrorKind::Corruption,
        }
    }

    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match Self::is_no_space(&source) {
                true => Self::NoSpace { path, source },
                false => Self::Io { path, action, source },
            }
        }
    }

    /// Whether an error is one of [`FileError::NoSpace`].
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

fn blob_kind(fault: &BlobError) -> ErrorKind {
    match fault {
        BlobError::Version { .. } => ErrorKind::Compatibility,
        BlobError::Truncated { .. } => ErrorKind::InsufficientData,
        BlobError::Memory { .. } => ErrorKind::Io,
        BlobError::BufferSize { .. } | BlobError::TooLarge { .. } => ErrorKind::InvalidArgument,
        _ => ErrorKind::Corruption,
    }
}
