//! What can be wrong with what is to be quantized.

use crate::Float;

/// Why numbers were not quantized.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// Invalid argument: a buffer's length does not fit the matrix.
    #[error("a {rows} x {cols} matrix of {} numbers does not take {found} bytes", dtype.name())]
    BufferSize {
        /// Element type.
        dtype: Float,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// Invalid argument: a number that no step reaches.
    #[error("row {row}, column {col} is {value}; only finite numbers can be quantized")]
    NotFinite {
        /// Row of the number.
        row: usize,
        /// Column of the number.
        col: usize,
        /// The number: NaN or infinite.
        value: f32,
    },
    /// Invalid argument: no rate that there is a quantizer for.
    #[error("a rate of {0} bits a weight; ask for 2 to 7")]
    Rate(f64),
    /// Invalid argument: a matrix of fewer than 16 rows or columns, or one that is not larger than what a blob has beside
    /// weights.
    #[error("a {rows} x {cols} matrix is too small for a rate")]
    Narrow {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// Invalid argument: a matrix that takes more bits whatever the step is: a small one, or one for which raw bits were
    /// asked for that are too many.
    #[error(
        "{asked} bits a weight cannot be met: the coarsest steps take {found:.2}; ask for more, or for fewer raw bits"
    )]
    Unreachable {
        /// Bits a weight that were asked for.
        asked: f64,
        /// Those that it takes.
        found: f64,
    },
    /// Invalid argument: no name of a quantizer.
    #[error(
        "`{0}` is none of `int8`, `int4`, `int4-zero-points`, `fp8`, `rate=R` with R from 2 to 7"
    )]
    Unknown(String),
    /// Invalid argument: second moments that are not those of the matrix's inputs.
    #[error(
        "a matrix of {cols} columns has as many inputs, and {cols} x {cols} or {cols} second moments; found {found}"
    )]
    Moments {
        /// Columns of the matrix, or inputs.
        cols: usize,
        /// Inputs that there are moments of, or moments.
        found: usize,
    },
    /// Invalid argument: second moments that no inputs have.
    #[error("the second moments are not those of any inputs: {0}")]
    Indefinite(&'static str),
}
