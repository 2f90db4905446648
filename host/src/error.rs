//! Kinds of errors, and one type for all of them.

use crate::{BlobError, MatmulError};

/// What kind of error it is, for callers that only need to know what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another release of fused-rans reads the data: use that one.
    Compatibility,
    /// The data is damaged, or was never valid: get it again.
    Corruption,
    /// The data ends too early: get it again, or pass all of it.
    InsufficientData,
    /// The caller asked for something that cannot be done: change the call.
    InvalidArgument,
    /// The operating system refused, a disk ran out, or another program changed a file.
    Io,
    /// There is not enough memory, on the host or on the device: free some and try again.
    OutOfMemory,
    /// The matrix does not become smaller: store it as it is.
    NotSmaller,
    /// There is no usable device, or its driver refused: use the CPU.
    Device,
    /// The device's context is lost: no call on it succeeds any more. Start the process again.
    DeviceLost,
}

/// Any error of this library. Use it where a function mixes calls that fail in different ways.
///
/// ```
/// use fused_rans_host::{Error, ErrorKind, Matrix, encode};
///
/// fn compress(weights: &[i8]) -> Result<Vec<u8>, Error> {
///     Ok(encode(Matrix::from_slice(weights, 2, 3)?)?.into_bytes())
/// }
/// assert_eq!(compress(&[1; 6]).unwrap_err().kind(), ErrorKind::NotSmaller);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Encoding or decoding failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A multiplication was refused.
    #[error(transparent)]
    Matmul(#[from] MatmulError),
    /// A quantizer refused numbers or options.
    #[cfg(feature = "quantize")]
    #[error(transparent)]
    Quantize(#[from] crate::quantize::QuantizeError),
    /// A job on files failed.
    #[cfg(feature = "file")]
    #[error(transparent)]
    File(#[from] crate::file::FileError),
    /// A device, its driver or a call on it failed.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
}

impl Error {
    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Blob(error) => error.kind(),
            Self::Matmul(error) => error.kind(),
            #[cfg(feature = "quantize")]
            Self::Quantize(error) => error.kind(),
            #[cfg(feature = "file")]
            Self::File(error) => error.kind(),
            #[cfg(feature = "cuda")]
            Self::Gpu(error) => error.kind(),
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
