//! Measures what quantization costs a language model: the perplexity of a Llama model on a text.
//!
//! - [`model`] reads a model and computes its likelihoods, on the CPU and in F32.
//! - [`corpus`] reads a text and cuts it into windows of tokens.
//! - [`measure`] measures perplexity, the second moments that calibrate a quantizer, and, with [`Table`], every weight format.
//! - [`report`] stores, prints and draws the results.
//!
//! [`Llama::new`] takes its tensors from a function. So a caller can replace any of them in memory:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use fused_rans_quality::measure::perplexity;
//! use fused_rans_quality::{Config, Llama, Tokens, Weights};
//!
//! let folder = Path::new("model");
//! let (config, weights) = (Config::read(&folder.join("config.json"))?, Weights::open(folder)?);
//! let rounded = Llama::new(config, |name| {
//!     let tensor = weights.tensor_f32(name)?;
//!     Ok(if name.ends_with("_proj.weight") { tensor.round()? } else { tensor })
//! })?;
//! let windows = Tokens::read(folder, &["score.txt".into()])?.windows(Some(64), 512)?;
//! let nll: Vec<f64> = perplexity::nll(&rounded, &windows, &mut |_| {})?;
//! # Ok::<(), fused_rans_quality::Error>(())
//! ```

pub mod corpus;
mod error;
pub mod measure;
pub mod model;
mod output;
pub mod report;
#[cfg(test)]
mod tiny;

pub use corpus::{Tokens, Windows};
pub use error::Error;
pub use measure::Table;
pub use model::{Config, Llama, Observer, Weights};
