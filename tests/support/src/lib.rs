//! Shared code of the tests, benches and fuzz targets: random matrices, products, handmade files, damaged blobs.
//!
//! A module belongs here if at least two test binaries use it.

pub mod allocation;
pub mod codec;
pub mod craft;
pub mod crc;
pub mod golden;
mod job;
pub mod mutate;
pub mod product;
pub mod quantized;
pub mod readers;
mod recipe;
pub mod resident;
pub mod seal;
pub mod sources;
pub mod step;
pub mod victim;

pub use job::{Job, bf16s, encoded};
#[cfg(feature = "cuda")]
pub use recipe::device;
pub use recipe::{AnyGroups, AnyLargeIntegers, Recipe, Weights, any_matrix, integer_splits};
