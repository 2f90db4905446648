//! Measures perplexity, moments of inputs, and the errors of weight formats.

pub mod distortion;
pub mod formats;
pub mod moments;
pub mod nf4;
pub mod perplexity;
mod row;
pub mod table;

pub use row::Row;
pub use table::Table;
