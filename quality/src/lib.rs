//! Measures what quantization costs a language model: the perplexity of a Llama model on a text, and
//! the moments of its layers' inputs, which calibrate a quantizer. [`Table`] does so for all weight
//! formats. On the CPU, in F32.
//!
//! [`Llama::new`] takes its tensors from a function, so that any of them can be replaced in memory:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use fused_rans_quality::{Config, Llama, Tokens, Weights, perplexity};
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

pub mod brown;
pub mod chart;
pub mod config;
pub mod distortion;
mod error;
pub mod formats;
pub mod gguf;
mod llama;
pub mod moments;
pub mod nf4;
mod ops;
mod output;
pub mod perplexity;
pub mod results;
pub mod table;
#[cfg(test)]
mod tiny;
mod tokenizer;
mod values;
mod weights;
mod windows;

pub use config::Config;
pub use error::Error;
pub use llama::{Llama, Observer};
pub use table::Table;
pub use weights::Weights;
pub use windows::{Tokens, Windows};
