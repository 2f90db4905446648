//! Rounds the whole matrix, and corrects the step by what it takes.

use super::search::{
    Candidate, MATRIX_TOLERANCE_BITS, MAX_CANDIDATES, MAX_EXCESS_BITS, StepInterval,
};
use super::trial::{Outcome, ROWS_PER_TASK, RoundedRows, Trial};
use crate::Dtype;
use crate::blob::values::{DequantizedValues, LargeInteger};
use crate::codec::coding_model::exponent_counts;
use crate::quantize::quantized::Quantized;
use rayon::prelude::*;

/// How often the step is corrected by the size of the whole matrix.
const MAX_CORRECTIONS: usize = 8;
/// How much coarser than the sample's the step of the whole matrix may be, as log2, before other codings are tried. The
/// ranking of the codings was made for the errors of the sample's step.
const MAX_STEP_GROWTH_LOG2: f64 = 0.25;
/// Bits per weight by which the exception penalty of the whole matrix may exceed the sample's before another coding is
/// chosen.
const PENALTY_SLACK_BITS: f64 = 0.3;
/// Added to the excess of a matrix above the rate, so that any matrix below the rate is closer.
const ABOVE_RATE_BITS: f64 = 16.0;

impl Trial<'_> {
    /// Rounds all rows to `bits` bits per weight with the first candidate. Tries the next ones if the result exceeds the
    /// rate, or if its step is much coarser than the sample's; then returns the best.
    pub(super) fn round_best(&self, bits: f64, candidates: &[Candidate]) -> (Quantized, Candidate) {
        let mut best: Option<(Quantized, Candidate)> = None;
        for candidate in candidates.iter().take(MAX_CANDIDATES) {
            let rounded = self.round_to_rate(bits, candidate);
            let is_good = rounded.1.step_log2 <= candidate.step_log2 + MAX_STEP_GROWTH_LOG2
                && rounded.1.excess_bits <= MAX_EXCESS_BITS;
            if best.as_ref().is_none_or(|best| rounded.1.compare_matrices(&best.1).is_lt()) {
                best = Some(rounded);
            }
            if is_good {
                break;
            }
        }
        best.expect("a search returns a candidate")
    }

    /// Rounds all rows to `bits` bits per weight, or as close as steps near the candidate's come. Returns the result with
    /// its step and size.
    fn round_to_rate(&self, bits: f64, start: &Candidate) -> (Quantized, Candidate) {
        let max_penalty_bits = start.exception_penalty_bits + PENALTY_SLACK_BITS;
        let (mut quantized, mut best) = self.round_all(start, max_penalty_bits, bits);
        // Small matrices change their size by whole lines; half a line per tile is as close as they come.
        let tolerance = (self.line_bits() / 2.0).clamp(MATRIX_TOLERANCE_BITS, MAX_EXCESS_BITS);
        let (mut interval, mut last) = (StepInterval::all(), best);
        for _ in 0..MAX_CORRECTIONS {
            let step_log2 = interval.next_step(last.step_log2, last.excess_bits);
            if last.excess_bits.abs() <= tolerance || step_log2 == last.step_log2 {
                break;
            }
            let (other, found) =
                self.round_all(&Candidate { step_log2, ..best }, f64::INFINITY, bits);
            if distance(found.excess_bits) < distance(best.excess_bits) {
                (quantized, best) = (other, found);
            }
            last = found;
        }
        (quantized, best)
    }

    /// Rounds all rows with the candidate's step, to be coded as [`Trial::affordable_coding`] returns. Returns the result
    /// with its size.
    fn round_all(
        &self,
        candidate: &Candidate,
        max_penalty_bits: f64,
        bits: f64,
    ) -> (Quantized, Candidate) {
        let (rows, cols) = (self.source.rows(), self.source.cols());
        let all: Vec<usize> = (0..rows).collect();
        let mut weights = vec![0; rows * cols];
        let tasks = all.par_chunks(ROWS_PER_TASK).zip(weights.par_chunks_mut(ROWS_PER_TASK * cols));
        let rounded: Vec<RoundedRows> =
            tasks.map(|(rows, out)| self.round(rows, candidate.step_log2, out)).collect();
        let squared_error = rounded.iter().map(|rows| rows.squared_error).sum();
        let large: Vec<LargeInteger> =
            rounded.iter().flat_map(|rows| &rows.large_integers).copied().collect();
        let scales = rounded.into_iter().flat_map(|rows| rows.scales);
        let counts = exponent_counts(Dtype::I8, &weights);
        let outcome = Outcome { counts, large_integers: large.len() as u64, squared_error };
        let coding = self.affordable_coding(&outcome, candidate.coding, max_penalty_bits, bits);
        let quantized = Quantized {
            row_scales: Some(scales.collect()),
            numbers: DequantizedValues { dtype: Dtype::I8, groups: None, large_integers: large },
            weights_per_symbol: coding.weights_per_symbol,
            raw_bits: coding.raw_bits,
            ..Quantized::new(self.source, Dtype::I8, weights)
        };
        let excess_bits =
            self.size(&quantized, &outcome).map_or(f64::INFINITY, |found| found - bits);
        let penalty =
            self.estimate(&outcome, coding).map_or(f64::INFINITY, |found| found.time_penalty());
        let exception_penalty_bits = penalty;
        let found =
            Candidate { coding, excess_bits, exception_penalty_bits, squared_error, ..*candidate };
        (quantized, found)
    }
}

/// Returns how far a matrix is from the rate. More than [`MAX_EXCESS_BITS`] above it is worse than anything below.
fn distance(excess_bits: f64) -> f64 {
    if excess_bits > MAX_EXCESS_BITS { ABOVE_RATE_BITS + excess_bits } else { excess_bits.abs() }
}
