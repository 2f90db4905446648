//! The command `fused-rans bench`. The measuring itself is the crate `fused-rans-bench`'s.

#[cfg(feature = "cuda")]
mod measure;

#[cfg(feature = "cuda")]
pub(crate) use measure::run;

/// Error of a program that was built without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot measure: this program was built without CUDA; build it with `--features cuda` and run it on a \
     machine with an NVIDIA GPU"
)]
struct NotBuiltIn;

/// Fails, because there is nothing to measure on.
#[cfg(not(feature = "cuda"))]
pub(crate) fn run(_: &crate::args::Bench) -> Result<(), crate::terminal::Failure> {
    Err(NotBuiltIn.into())
}
