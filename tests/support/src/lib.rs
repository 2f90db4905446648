//! What several test binaries share: matrices, products, files made by hand, damage.

#![allow(missing_docs, reason = "for now")]

pub mod allocation;
pub mod codec;
pub mod craft;
pub mod crc;
pub mod golden;
pub mod mutate;
pub mod product;
pub mod quantized;
pub mod readers;
mod recipe;
pub mod seal;
pub mod sources;
pub mod step;
pub mod victim;

#[cfg(feature = "cuda")]
pub use recipe::device;
pub use recipe::{AnyGroups, AnyWide, Recipe, Weights, any_matrix, integer_splits};
