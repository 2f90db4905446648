//! Errors of quantizers.

use crate::Float;

/// Why numbers were not quantized.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// Invalid argument: a buffer's length does not fit the matrix.
    #[error("a {rows} x {cols} matrix of {dtype} numbers does not take {found} bytes", dtype = dtype.name())]
    BufferSize {
        /// Type of the numbers.
        dtype: Float,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Length of the buffer in bytes.
        found: usize,
    },
    /// Invalid argument: a number is NaN or infinite.
    #[error(
        "the number in row {row}, column {col} is {value}; only finite numbers can be quantized"
    )]
    NotFinite {
        /// Row of the number.
        row: usize,
        /// Column of the number.
        col: usize,
        /// The number.
        value: f32,
    },
    /// Invalid argument: a rate outside 2 to 7 bits per weight.
    #[error("{0} bits per weight are out of range; ask for 2 to 7")]
    RateOutOfRange(f64),
    /// Invalid argument: a matrix with fewer than 16 rows or columns, or one that no blob makes smaller, because
    /// headers and tables take more than the numbers.
    #[error("a {rows} x {cols} matrix is too small to be quantized to a rate")]
    TooSmall {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// Invalid argument: a matrix that takes more bits with any step. It is small, or too many raw bits were requested.
    #[error(
        "{asked} bits per weight cannot be met: the coarsest steps take {found:.2}; ask for more, or for fewer raw bits"
    )]
    Unreachable {
        /// Bits per weight that were requested.
        asked: f64,
        /// Bits per weight that the coarsest step takes.
        found: f64,
    },
    /// Invalid argument: a text that names no quantizer.
    #[error(
        "`{0}` is none of `int8`, `int4`, `int4-zero-points`, `fp8`, `rate=R` with R from 2 to 7"
    )]
    UnknownQuantizer(String),
    /// Invalid argument: a wrong number of second moments.
    #[error(
        "{inputs} inputs have {inputs} x {inputs} second moments, or {inputs} on the diagonal; found {found}"
    )]
    MomentsLength {
        /// Number of inputs.
        inputs: usize,
        /// Number of moments.
        found: usize,
    },
    /// Invalid argument: second moments of another number of inputs than the matrix has columns.
    #[error(
        "a matrix of {cols} columns needs second moments of {cols} inputs; found those of {found}"
    )]
    MomentsInputs {
        /// Columns of the matrix.
        cols: usize,
        /// Inputs that the moments are of.
        found: usize,
    },
    /// Invalid argument: a weight of a layer's error that is not above 0 and finite.
    #[error("the weight of a layer's error is {0}, it must be above 0 and finite")]
    InvalidWeight(f64),
    /// Invalid argument: values that cannot be second moments of any inputs.
    #[error("these are no second moments of inputs: {0}")]
    InvalidMoments(&'static str),
    /// Out of memory: the factor of the second moments, K x K numbers for K inputs, does not fit into memory.
    #[error(
        "cannot allocate {bytes} bytes to factorize the second moments: quantize without calibration"
    )]
    Memory {
        /// Requested number of bytes.
        bytes: u64,
    },
}

impl QuantizeError {
    /// Returns the kind of this error, for callers that only need to know how to react.
    #[must_use]
    pub fn kind(&self) -> crate::ErrorKind {
        match self {
            Self::Memory { .. } => crate::ErrorKind::OutOfMemory,
            _ => crate::ErrorKind::InvalidArgument,
        }
    }
}
