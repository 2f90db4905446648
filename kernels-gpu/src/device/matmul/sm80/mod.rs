//! The matmul kernels for compute capability 8.0 and later.

mod activations;
mod edges;
mod mainloop;
mod ring;
mod run;

// Each is a part that can be built by itself, beside the other.
#[cfg(feature = "bf16")]
mod kernels_bf16;
#[cfg(feature = "f16")]
mod kernels_f16;
