//! Stores, prints and draws the rows of a table.

pub mod chart;
mod markdown;
pub mod results;

pub use markdown::markdown;

#[cfg(test)]
mod tests {
    use crate::measure::Row;

    /// Returns a row of made-up numbers.
    pub(crate) fn row(format: &str, nll_difference: f64) -> Row {
        Row {
            format: format.to_owned(),
            stored_bits: 4.1 + nll_difference,
            relative_weight_error: 0.1,
            relative_output_error: 1.0 / 30.0,
            windows: 4,
            tokens: 2044,
            mean_nll: 3.6 + nll_difference,
            perplexity: (3.6 + nll_difference).exp(),
            nll_difference,
            standard_error: Some(nll_difference / 10.0),
            perplexity_ratio: nll_difference.exp(),
            seconds: 1.5,
        }
    }
}
