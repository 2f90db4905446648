//! The wide matmul kernels, for resident layers and many rows of x.
//!
//! The warps of a block have different work. One warpgroup multiplies, with `wgmma`, which reads weights and activations from
//! shared memory; the others decode. Work is divided into units, 128 rows of W times a column of tiles: a slab for each warp
//! of a warpgroup of decoders. These take units in turns, and write their weights piece by piece, 32 columns at a time; the
//! multipliers take pieces of all warpgroups in turns. Activations are packed beforehand, so that one bulk copy brings a piece.
//!
//! - [`block`]: roles, barriers, and the order of the pieces.
//! - [`decoder`]: from a slab to pieces of weights.
//! - [`multiplier`]: products, sums, outputs.
//! - [`pack`]: the kernel that packs activations.

mod block;
mod decoder;
mod multiplier;
mod pack;
mod panels;

pub use block::run;
pub use pack::pack;
