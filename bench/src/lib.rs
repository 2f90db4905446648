//! Measures products y = x W^T with compressed layers on a GPU.
//!
//! Outputs are verified first. Then products are timed with cold caches, in turns with a reference: cuBLAS, or a dense kernel
//! of ours where cuBLAS is not installed. A [`Session`] is a device with its reference, a [`Subject`] is a layer in its
//! memory, and [`Subject::measure`] returns a [`Measurement`], which becomes part of a [`Report`]. A [`Token`] is all
//! linear layers of a model, in a CUDA graph; a [`Group`] is layers that share activations.
//!
//! Three things are called "bench", and two of them use this crate: the command `fused-rans bench`, which measures the
//! layers of a file, and `cargo bench --bench matmul` (in `benches/`), which measures layers of given shapes. The other
//! programs in `benches/` measure the codec on the CPU and decoding on the GPU without it.

#![cfg_attr(
    not(feature = "cuda"),
    allow(rustdoc::broken_intra_doc_links, reason = "the crate is empty")
)]
#![cfg(feature = "cuda")]

mod check;
mod cublas;
mod error;
mod group;
mod machine;
mod numbers;
mod report;
mod session;
mod subject;
mod timing;
mod token;

pub use cublas::{Cublas, CublasError};
pub use error::BenchError;
pub use group::{Group, GroupMeasurement};
pub use machine::{commit, driver_version, slug};
pub use report::{Measurement, Report};
pub use session::{Reference, Session};
pub use subject::Subject;
pub use timing::{Effort, Timer, Times};
pub use token::{Token, TokenMeasurement};
