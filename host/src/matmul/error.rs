//! Errors about the arguments of a multiplication.

use super::Float;
use crate::{BlobError, Dtype, ErrorKind};
use std::fmt;

/// An argument of a multiplication, which an error names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Argument {
    /// Activations x, M x K.
    Activations,
    /// Outputs y, M x N.
    Outputs,
    /// Factors of the epilogue, N.
    Scale,
    /// Addends of the epilogue, N.
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

/// An error of a multiplication. Invalid arguments and damaged blobs never cause a panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatmulError {
    /// Invalid argument: weights of this type cannot be multiplied with activations of that type.
    #[error(
        "{} weights cannot be multiplied with {} activations: convert the activations to {}",
        .weights.name(), .found.name(), activation_types(*.weights)
    )]
    ActivationType {
        /// Type of the weights.
        weights: Dtype,
        /// Type of the activations.
        found: Float,
    },
    /// Invalid argument: the outputs have neither the type of the activations nor F32.
    #[error(
        "outputs of {x} activations are {x} or F32, not {}",
        .found.name(), x = .activations.name()
    )]
    OutputType {
        /// Type of the activations.
        activations: Float,
        /// Type of the outputs.
        found: Float,
    },
    /// Invalid argument: the row stride is shorter than a row, so rows would overlap.
    #[error(
        "the row stride of the {argument} is {found} elements, shorter than a row: it must be at least {cols}"
    )]
    RowStride {
        /// The matrix: activations or outputs.
        argument: Argument,
        /// Number of elements of a row: K for activations, N for outputs.
        cols: usize,
        /// Row stride in elements.
        found: usize,
    },
    /// Invalid argument: the buffer is too short.
    #[error("the {argument} take {expected} bytes, but the buffer has {found}")]
    TooShort {
        /// The matrix: activations or outputs.
        argument: Argument,
        /// Number of bytes from the first to the last element.
        expected: u64,
        /// Size of the buffer in bytes.
        found: u64,
    },
    /// Invalid argument: layers of a group have different numbers of columns.
    #[error(
        "layers that share activations must have the same columns, but some have {expected} and some {found}"
    )]
    SharedActivations {
        /// Columns of the first layer.
        expected: usize,
        /// Columns of another one.
        found: usize,
    },
    /// Invalid argument: there is not one output for each layer of a group.
    #[error(
        "the group has {expected} layers, but there are {found} outputs: pass one for each layer"
    )]
    OutputCount {
        /// Layers of the group.
        expected: usize,
        /// Number of outputs.
        found: usize,
    },
    /// Invalid argument: no buffer can be so large.
    #[error(
        "{rows} rows of {argument} with a row stride of {row_stride} elements exceed the address space"
    )]
    TooLarge {
        /// The matrix: activations or outputs.
        argument: Argument,
        /// Number of rows, M.
        rows: usize,
        /// Row stride in elements.
        row_stride: usize,
    },
    /// Invalid argument: scale or bias does not have one number per row of the weights.
    #[error(
        "the {argument} has {found} numbers, but the weights have {expected} rows: pass one number per row"
    )]
    Features {
        /// The vector: scale or bias.
        argument: Argument,
        /// Number of rows of the weights, N.
        expected: usize,
        /// Number of elements of the vector.
        found: usize,
    },
    /// The blob is damaged, or the multiplication does not fit into memory ([`BlobError::Memory`]).
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl MatmulError {
    /// Returns the kind of this error, for callers that only need to know how to react.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Blob(error) => error.kind(),
            _ => ErrorKind::InvalidArgument,
        }
    }
}

/// Returns the types of activations that weights of this type take, as text.
fn activation_types(weights: Dtype) -> &'static str {
    match weights {
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
        Dtype::F8E4M3 | Dtype::I8 => "BF16 or F16",
    }
}
