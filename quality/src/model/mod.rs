//! Llama models: their files and their arithmetic.

pub mod config;
pub mod gguf;
mod llama;
pub(crate) mod ops;
pub(crate) mod values;
mod weights;

pub use config::Config;
pub use llama::{Llama, Observer};
pub use weights::Weights;
