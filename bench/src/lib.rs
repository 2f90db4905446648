//! Measuring multiplications: verified first, then timed, cold, in turns with what they compete with.
//!
//! [`Session`] is a device with its competitor, cuBLAS or a dense kernel of ours; [`Subject`] is a layer
//! in its memory; [`Subject::row`] measures it. Used by `cargo bench --bench matmul` and by
//! `fused-rans bench`.

#![cfg(feature = "cuda")]

mod check;
mod cublas;
mod error;
mod machine;
mod numbers;
mod row;
mod session;
mod subject;
mod timing;

pub use cublas::{Cublas, CublasError};
pub use error::BenchError;
pub use machine::{commit, driver_version, slug};
pub use row::{Report, Row};
pub use session::{Reference, Session};
pub use subject::Subject;
pub use timing::{Effort, Timer, Times};
