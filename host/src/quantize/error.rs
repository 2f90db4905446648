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
    /// Invalid argument: no name of a quantizer.
    #[error(
        "`{0}` is none of `int8`, `int4`, `int4-zero-points`, `fp8`, `rate=R` with R from 2 to 7"
    )]
    Unknown(String),
    /// Invalid argument: second moments that are not those of the matrix's inputs.
    #[error("second moments of {found} inputs do not go with a matrix of {cols} columns")]
    Moments {
        /// Columns of the matrix.
        cols: usize,
        /// Inputs that there are moments of.
        found: usize,
    },
    /// Invalid argument: second moments that no inputs have.
    #[error("the second moments are not those of any inputs: {0}")]
    Indefinite(&'static str),
}
