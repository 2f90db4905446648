//! Host side of fused-rans: codecs, container, and the CUDA runtime (feature `cuda`).
//!
//! A *blob* is one compressed matrix: header, frequency table, tile index, tiles. [`encode`] makes
//! one, [`Blob::parse`] checks one, [`Blob::decode`] brings the weights back and [`Blob::matmul`]
//! multiplies with them. [`mod@file`] wraps blobs into `.safetensors` files.

mod blob;
mod codec;
mod error;
mod estimate;
mod fast;
pub mod file;
mod frequencies;
#[cfg(feature = "cuda")]
pub mod gpu;
mod groups;
mod header;
mod index;
pub mod matmul;
mod model;
mod numbers;
pub mod plan;
pub mod quantize;
pub mod reference;
#[doc(hidden)] // for tests that look into tiles
pub mod tile;
mod vectorized;

pub use blob::Blob;
pub use codec::{Matrix, encode, encode_grouped};
pub use error::{BlobError, TileFault};
pub use frequencies::Frequencies;
pub use fused_rans_layout as layout;
pub use fused_rans_layout::{Dtype, Packing};
pub use groups::Groups;
pub use matmul::{Activations, Epilogue, Float, MatmulError, Operand, Outputs};
pub use model::entropy;
pub use numbers::WideInteger;
