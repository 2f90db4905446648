//! Host side of fused-rans: codec, CPU multiplication, quantizers (feature `quantize`), files (feature `file`) and the
//! CUDA runtime (feature `cuda`).
//!
//! A *blob* is one compressed matrix: header, frequency table, tile index, tiles. [`encode`] creates one,
//! [`Blob::parse`] checks one, [`Blob::decode`] restores the weights, and [`Blob::matmul`] multiplies with them. The
//! module `file` stores blobs in `.safetensors` files.
//!
//! This crate makes no promises of its own: use `fused-rans`.

mod blob;
mod codec;
mod element;
mod error;
#[cfg(feature = "file")]
pub mod file;
mod float;
#[cfg(feature = "cuda")]
pub mod gpu;
#[doc(hidden)]
pub mod launch_plan;
pub mod matmul;
mod matrix;
#[cfg(feature = "quantize")]
pub mod quantize;
#[doc(hidden)]
pub mod resident;
mod vectorized;

pub use blob::Blob;
pub use blob::error::{BlobError, TileFault};
#[doc(hidden)]
pub use blob::frequencies::Frequencies;
pub use blob::groups::Groups;
#[doc(hidden)]
pub use blob::tile;
pub use blob::values::LargeInteger;
pub use codec::coding_model::entropy;
#[doc(hidden)]
pub use codec::reference;
pub use codec::{Encoder, encode};
pub use element::{Element, F8E4M3, FloatElement};
pub use error::{Error, ErrorKind, Result};
pub use float::{Float, UnknownFloat};
#[doc(hidden)]
pub use fused_rans_layout as layout;
pub use fused_rans_layout::{Dtype, UnknownDtype, WeightsPerSymbol};
pub use matmul::{Activations, Argument, Epilogue, MatmulError, Outputs};
pub use matrix::Matrix;
