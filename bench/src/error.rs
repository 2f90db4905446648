//! What can go wrong in a measurement.

use super::CublasError;
use fused_rans::BlobError;
use fused_rans::gpu::GpuError;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The GPU's side.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// cuBLAS.
    #[error(transparent)]
    Cublas(#[from] CublasError),
    /// The layer is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An output is wrong, so that its time means nothing.
    #[error(
        "{name}, {m} rows of x: output [{row}][{col}] is {found:e}, not within {bound:e} of {exact:e}; nothing is timed"
    )]
    Wrong {
        /// The layer.
        name: String,
        /// Rows of x.
        m: usize,
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
    /// What the layer is compared with gives something else, so that its time means nothing.
    #[error("{name}, {m} rows of x: the reference's outputs are off by {error:e} of their norm")]
    Reference {
        /// The layer.
        name: String,
        /// Rows of x.
        m: usize,
        /// Norm of the error, over that of the product.
        error: f64,
    },
    /// More rows of x than the layer was prepared for, or none.
    #[error("{m} rows of x: from 1 to {most} were prepared for")]
    Batch {
        /// Rows of x.
        m: usize,
        /// Most rows of x.
        most: usize,
    },
}
