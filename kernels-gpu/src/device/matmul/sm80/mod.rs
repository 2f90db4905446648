//! The matmul kernels for compute capability 8.0 and later.
//!
//! A warp decodes `S` slabs at a time, one under the other, and walks along K: this pair of slabs in one tile is a
//! segment, 64 columns of it are a panel, 32 a stage of the ring. Words of the next segment and raw planes of the
//! next stages are on their way to shared memory meanwhile. The warps of a block do not wait for each other until
//! all have finished. Everywhere here, `B` is the number of octets (8 rows of x) that a kernel takes.
//!
//! - [`segment`]: where a segment lies in the layer.
//! - [`memory`]: where a warp's parts of shared memory are.
//! - [`prefetch`]: the steps that prepare a segment.
//! - [`ring`]: raw planes and activations on their way through shared memory.
//! - [`mainloop`]: decode, dequantize, multiply, along a segment; [`edges`] for segments that need care.
//! - [`run`](mod@run): a warp's loop over its segments.

mod activations;
mod edges;
mod mainloop;
mod memory;
mod prefetch;
mod ring;
mod run;
mod segment;

pub use run::run;
