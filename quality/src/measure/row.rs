//! A row of the table.

use serde::{Deserialize, Serialize};

use super::formats::REFERENCE;

/// What a format costs. The names are the file's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The format.
    pub format: String,
    /// Bits a weight of the matrices that are quantized, everything that is stored counted. Embeddings
    /// and norms are the same in all formats; they do not count.
    pub stored_bits: f64,
    /// As [`Errors::weight`](crate::measure::distortion::Errors::weight).
    pub relative_weight_error: f64,
    /// As [`Errors::output`](crate::measure::distortion::Errors::output).
    pub relative_output_error: f64,
    /// Windows of the text.
    pub windows: usize,
    /// Tokens that are scored.
    pub tokens: usize,
    /// Mean negative log-likelihood, in nats a token.
    pub mean_nll: f64,
    /// e to that.
    pub perplexity: f64,
    /// Mean difference to the reference, in nats a token.
    pub nll_difference: f64,
    /// Standard error of that, paired; `None` for one window.
    pub standard_error: Option<f64>,
    /// Perplexity over the reference's.
    pub perplexity_ratio: f64,
    /// Seconds that this row took.
    pub seconds: f64,
}

impl Row {
    /// By how many percent perplexity is above the reference's.
    #[must_use]
    pub fn increase(&self) -> f64 {
        100.0 * self.nll_difference.exp_m1()
    }

    /// Standard error of [`increase`](Self::increase), to first order.
    #[must_use]
    pub fn increase_error(&self) -> Option<f64> {
        self.standard_error.map(|error| 100.0 * self.perplexity_ratio * error)
    }

    /// Whether this is the reference itself.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.format == REFERENCE
    }
}
