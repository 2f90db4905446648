//! Faults of single tensors.

#[cfg(feature = "quantize")]
use crate::quantize::QuantizeError;
use crate::{BlobError, ErrorKind};

/// A fault of a tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFault {
    /// The bytes do not match the checksum in the header.
    #[error("checksum mismatch")]
    Checksum,
    /// The stored tensor and the original header disagree on name, order, dtype or shape.
    #[error("does not agree with the original header: {0}")]
    Original(&'static str),
    /// The blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The tensor cannot be quantized.
    #[cfg(feature = "quantize")]
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Of a calibration: a tensor that is not F32.
    #[error(
        "it is {0}, but second moments are F32: convert them, or name the file that holds them"
    )]
    MomentsType(String),
    /// Of a calibration: a tensor whose shape is not one of second moments.
    #[error(
        "its shape is {0:?}, but second moments of K inputs are [K, K], or [K] for the diagonal: name the file that \
         holds them"
    )]
    MomentsShape(Vec<usize>),
}

impl TensorFault {
    /// Returns the kind of this fault.
    pub(in crate::file) fn kind(&self) -> ErrorKind {
        match self {
            Self::Checksum | Self::Original(_) => ErrorKind::Corruption,
            Self::Blob(fault) => fault.kind(),
            #[cfg(feature = "quantize")]
            Self::Quantize(fault) => fault.kind(),
            // Calibrations refuse arguments.
            _ => ErrorKind::InvalidArgument,
        }
    }
}
