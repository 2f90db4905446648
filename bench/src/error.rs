//! Errors of a measurement.

use super::CublasError;
use fused_rans::BlobError;
use fused_rans::gpu::GpuError;

/// Reason why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The device or the driver failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// cuBLAS failed.
    #[error(transparent)]
    Cublas(#[from] CublasError),
    /// The layer is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An output of the fused product is wrong. Its time would mean nothing.
    #[error(
        "{name}, {rows} rows of x: output [{row}][{col}] is {found:e}, not within {bound:e} of {exact:e}; nothing \
         was timed"
    )]
    Wrong {
        /// Name of the layer.
        name: String,
        /// Number of rows of x.
        rows: usize,
        /// Row of y.
        row: usize,
        /// Column of y.
        col: usize,
        /// The output.
        found: f32,
        /// The product in F64.
        exact: f64,
        /// The largest error allowed.
        bound: f64,
    },
    /// The reference computes another product. A comparison with its time would mean nothing.
    #[error(
        "{name}, {rows} rows of x: the reference's outputs have a relative error of {error:e}; nothing was timed"
    )]
    Reference {
        /// Name of the layer.
        name: String,
        /// Number of rows of x.
        rows: usize,
        /// Norm of the error over the norm of the product.
        error: f64,
    },
    /// Invalid argument: no rows of x, or more than the subject was prepared for.
    #[error("cannot measure with {rows} rows of x; this layer was prepared for 1 to {max_rows}")]
    Batch {
        /// Number of rows of x.
        rows: usize,
        /// Largest number of rows of x.
        max_rows: usize,
    },
}
