//! Host side of fused-rans: codecs, container, and the CUDA runtime (feature `cuda`).
//!
//! A *blob* is one compressed matrix: header, frequency table, tile index, tiles. [`encode`] makes
//! one, [`Blob::parse`] checks one and [`Blob::decode`] brings the weights back. [`mod@file`] wraps blobs
//! into `.safetensors` files.

mod blob;
mod codec;
mod error;
mod fast;
pub mod file;
mod frequencies;
#[cfg(feature = "cuda")]
pub mod gpu;
mod header;
mod model;
pub mod reference;
#[doc(hidden)] // for tests that look into tiles
pub mod tile;

pub use blob::Blob;
pub use codec::{Matrix, encode};
pub use error::{BlobError, TileFault};
pub use frequencies::Frequencies;
pub use fused_rans_layout as layout;
pub use fused_rans_layout::Dtype;
pub use model::entropy;
