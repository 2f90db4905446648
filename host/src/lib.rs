//! Host side of fused-rans: codecs, container, and the CUDA runtime (feature `cuda`).
//!
//! A *blob* is one compressed matrix: header, frequency table, tile index, tiles. [`encode`] makes
//! one, [`Blob::parse`] checks one and [`Blob::decode`] brings the weights back. [`file`] wraps blobs
//! into `.safetensors` files.

mod blob;
mod codec;
mod error;

pub use blob::Blob;
pub use codec::{Matrix, encode, entropy};
pub use error::{BlobError, TileFault};
pub use fused_rans_layout as layout;
pub use fused_rans_layout::Dtype;
