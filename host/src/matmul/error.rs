//! What can be wrong with a multiplication.

use super::Float;
use crate::{BlobError, Dtype, ErrorKind};
use std::fmt;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// x, M x K.
    Activations,
    /// y, M x N.
    Outputs,
    /// The epilogue's factors, N.
    Scale,
    /// The epilogue's addends, N.
    Bias,
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activations => "activations",
            Self::Outputs => "outputs",
            Self::Scale => "scale",
            Self::Bias => "bias",
        })
    }
}

/// Why a multiplication was refused. Nothing that a caller passes or a blob contains panics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatmulError {
    /// Invalid argument: the weights are not multiplied with activations of that type.
    #[error(
        "{} weights cannot be multiplied with {} activations; convert these to {}",
        .weights.name(), .found.name(), activation_types(*.weights)
    )]
    ActivationType {
        /// Type of the weights.
        weights: Dtype,
        /// Type of the activations.
        found: Float,
    },
    /// Invalid argument: outputs are neither of the activations' type nor F32.
    #[error(
        "outputs of {x} activations are {x} or F32, not {}; ask for one of these",
        .found.name(), x = .activations.name()
    )]
    OutputType {
        /// Type of the activations.
        activations: Float,
        /// Type of the outputs.
        found: Float,
    },
    /// Invalid argument: rows overlap.
    #[error(
        "the {operand} have {cols} elements a row, but rows start every {found}; the row_stride dimension is counted in elements and at least {cols}"
    )]
    RowStride {
        /// The matrix.
        operand: Argument,
        /// Elements of a row: K of activations, N of outputs.
        cols: usize,
        /// The row_stride dimension.
        found: usize,
    },
    /// Invalid argument: a buffer ends too early.
    #[error("the {operand} take {expected} bytes, the buffer has {found}")]
    TooShort {
        /// The matrix.
        operand: Argument,
        /// Bytes from its first to its last element.
        expected: u64,
        /// Bytes of the buffer.
        found: u64,
    },
    /// Invalid argument: there cannot be so many bytes.
    #[error("{rows} rows of {operand}, one every {row_stride} elements, cannot be addressed")]
    TooLarge {
        /// The matrix.
        operand: Argument,
        /// Rows, M.
        rows: usize,
        /// The row_stride dimension.
        row_stride: usize,
    },
    /// Invalid argument: scale or bias do not have one number for each row of the weights.
    #[error(
        "the {operand} has {found} numbers, the weights have {expected} rows; give one for each"
    )]
    Features {
        /// Scale or bias.
        operand: Argument,
        /// Rows of the weights, N.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// The blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl MatmulError {
    /// Returns the kind of this error, for callers that only need to know what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Blob(error) => error.kind(),
            _ => ErrorKind::InvalidArgument,
        }
    }
}

/// The activations that these weights take, in words.
fn activation_types(weights: Dtype) -> &'static str {
    match weights {
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
        Dtype::F8E4M3 | Dtype::I8 => "BF16 or F16",
    }
}
