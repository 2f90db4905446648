//! `fused-rans bench`, or why there is nothing to measure on.

#[cfg(feature = "cuda")]
mod layers;
#[cfg(feature = "cuda")]
mod measure;

#[cfg(feature = "cuda")]
pub(crate) use measure::run;

/// The program was built without the GPU's side.
#[cfg(not(feature = "cuda"))]
#[derive(Debug, thiserror::Error)]
#[error(
    "this program was built without CUDA and can measure nothing; build it with `--features cuda` and run it where there is an NVIDIA GPU"
)]
struct NotBuiltIn;

/// `fused-rans bench`
#[cfg(not(feature = "cuda"))]
pub(crate) fn run(_: &crate::args::Bench) -> Result<(), crate::terminal::Failure> {
    Err(NotBuiltIn.into())
}
