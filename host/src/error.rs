//! Kinds of errors, and one error type for the whole library.

use crate::{BlobError, MatmulError};

/// Kind of an error. Use it to decide how to react, without matching on the error itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The data needs another release of fused-rans: use that release.
    Compatibility,
    /// The data is damaged, or was never valid: get it again.
    Corruption,
    /// The data ends too early: get it again, or pass all of it.
    InsufficientData,
    /// An argument is invalid: change the call.
    InvalidArgument,
    /// The operating system reported an error, the disk is full, or another program changed a file.
    Io,
    /// There is not enough host or device memory: free some and try again.
    OutOfMemory,
    /// The matrix does not compress: store it uncompressed.
    NotSmaller,
    /// There is no usable device, or its driver reported an error: use the CPU.
    Device,
    /// The context of the device is lost, and all further calls on it fail: restart the process.
    DeviceLost,
}

/// Any error of this library. Use it as the error type of functions that call several parts of the library.
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
    /// The arguments of a multiplication are invalid, or its blob is damaged.
    #[error(transparent)]
    Matmul(#[from] MatmulError),
    /// The numbers or options of a quantizer are invalid.
    #[cfg(feature = "quantize")]
    #[error(transparent)]
    Quantize(#[from] crate::quantize::QuantizeError),
    /// A job on files failed.
    #[cfg(feature = "file")]
    #[error(transparent)]
    File(#[from] crate::file::FileError),
    /// A device, its driver, or a call on the device failed.
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

/// A result whose error type is [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;
