//! A row of the table.

use serde::{Deserialize, Serialize};

use super::formats::REFERENCE;

/// Measurements of a format. The fields' names are the columns of the CSV file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the format.
    pub format: String,
    /// Stored bits per weight of the quantized matrices, tables and scales included. Embeddings and norms, which are the
    /// same in all formats, are not included.
    pub stored_bits: f64,
    /// See [`Errors::weight`](crate::measure::distortion::Errors::weight).
    pub relative_weight_error: f64,
    /// See [`Errors::output`](crate::measure::distortion::Errors::output).
    pub relative_output_error: f64,
    /// Number of windows of the text.
    pub windows: usize,
    /// Number of scored tokens.
    pub tokens: usize,
    /// Mean negative log-likelihood, in nats per token.
    pub mean_nll: f64,
    /// e to the power of the mean.
    pub perplexity: f64,
    /// Mean difference from the reference, in nats per token.
    pub nll_difference: f64,
    /// Standard error of the paired difference; `None` for a single window.
    pub standard_error: Option<f64>,
    /// Perplexity divided by the reference's.
    pub perplexity_ratio: f64,
    /// Time for measuring this row, in seconds.
    pub seconds: f64,
}

impl Row {
    /// Returns the increase of perplexity over the reference, in percent.
    #[must_use]
    pub fn increase(&self) -> f64 {
        100.0 * self.nll_difference.exp_m1()
    }

    /// Returns the standard error of [`increase`](Self::increase), to first order.
    #[must_use]
    pub fn increase_error(&self) -> Option<f64> {
        self.standard_error.map(|error| 100.0 * self.perplexity_ratio * error)
    }

    /// Returns whether this is the row of the reference.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.format == REFERENCE
    }
}
