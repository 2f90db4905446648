//! Searches the step, and the coding, by which a sample meets a rate.

use super::MAX_LARGE_INTEGER_SHARE;
use super::size::integer_codings;
use super::trial::{Outcome, Trial};
use crate::codec::coding_model::{CodingRequest, WEIGHTS_PER_EXCEPTION};
use crate::codec::estimate::Estimate;
use crate::quantize::{QuantizeError, QuantizeOptions};
use fused_rans_layout::WeightsPerSymbol;
use std::cmp::Ordering;

/// Steps that are tried, as log2 of their ratio to a row's root mean square. The finest take more than 7 bits, the
/// coarsest make nearly all weights 0.
const STEP_RANGE_LOG2: std::ops::RangeInclusive<f64> = -8.0..=2.0;
/// log2 of the step, plus the bits per weight it takes, from which a search starts. A normal distribution has
/// log2(sqrt(2 pi e)) = 2.05 bits; the rest is a guess at what a blob stores beside codes.
const START_STEP_LOG2_PLUS_BITS: f64 = 2.2;
/// Distance from the rate, in bits per weight, at which a search on the sample ends.
const SEARCH_TOLERANCE_BITS: f64 = 0.002;
/// Distance from the rate, in bits per weight, at which the whole matrix meets it. Less is not worth rounding all rows
/// once more.
pub(super) const MATRIX_TOLERANCE_BITS: f64 = 0.02;
/// Bits per weight by which the whole matrix may exceed the rate before this counts as a failure.
pub(super) const MAX_EXCESS_BITS: f64 = 0.05;
/// Most steps that one search tries. Bisecting the whole range down to the tolerance takes 13.
const MAX_TRIALS: usize = 24;
/// Codings whose own steps are searched, the likeliest to be the best. More are searched only while none is within the
/// rate.
pub(super) const MAX_CANDIDATES: usize = 3;
/// Largest decode-time penalty of exceptions, in bits per weight, with which four weights share a symbol. Above it two do,
/// because their widest split holds any byte without exceptions.
const MAX_EXCEPTION_PENALTY_BITS: f64 = 0.2;
/// Most bits per weight, by their worth in errors, that four weights per symbol may cost against two.
const MAX_FOUR_BITS: f64 = 0.3;
/// Limits on the large integers of a row that are tried: at most one in so many weights. The first is the share up to
/// which exceptions cost hardly any time; each next one allows 16 times as many.
const WEIGHTS_PER_LARGE_INTEGER: [usize; 3] = [WEIGHTS_PER_EXCEPTION as usize, 256, 16];

/// A coding and a step, with what they give on the sample or on the whole matrix.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    /// log2 of the step's ratio to a row's root mean square.
    pub(super) step_log2: f64,
    pub(super) coding: CodingRequest,
    /// Bits per weight above the rate; negative below it.
    pub(super) excess_bits: f64,
    /// The decode time of exceptions, as bits per weight.
    pub(super) exception_penalty_bits: f64,
    /// Share of the weights that become large integers.
    pub(super) large_integer_share: f64,
    /// Sum of the squared errors.
    pub(super) squared_error: f64,
}

impl Candidate {
    /// Returns the weighted sum of error, bits and exceptions, as log2 of an error.
    pub(super) fn cost(&self) -> f64 {
        let error = self.squared_error.max(f64::MIN_POSITIVE).log2();
        error + size_cost(self.excess_bits, self.exception_penalty_bits)
    }

    /// Returns whether the sample stays within the rate. Codings with many raw bits may exceed it with any step.
    fn is_within_rate(&self) -> bool {
        self.excess_bits <= MATRIX_TOLERANCE_BITS
    }

    /// Orders results of the sample: those within the rate first, then by cost.
    fn compare_samples(&self, other: &Self) -> Ordering {
        let larger = other.is_within_rate().cmp(&self.is_within_rate());
        larger.then(self.cost().total_cmp(&other.cost()))
    }

    /// Orders results of the whole matrix: those within [`MAX_EXCESS_BITS`] first, then by cost.
    pub(super) fn compare_matrices(&self, other: &Self) -> Ordering {
        let larger =
            (self.excess_bits > MAX_EXCESS_BITS).cmp(&(other.excess_bits > MAX_EXCESS_BITS));
        larger.then(self.cost().total_cmp(&other.cost()))
    }
}

/// Returns what bits and exceptions are worth, as log2 of a squared error.
///
/// A bit halves the step, and so divides the squared error by 4: a factor of 2 in log2. Exceptions count for a fourth of
/// their penalty. With all of it, the error would grow with the rate where another coding becomes the better one.
fn size_cost(bits: f64, exception_penalty_bits: f64) -> f64 {
    2.0 * bits + 0.5 * exception_penalty_bits
}

/// The interval that contains the step for a number of bits.
pub(super) struct StepInterval {
    low: f64,
    high: f64,
}

impl StepInterval {
    /// Returns the interval of all steps.
    pub(super) fn all() -> Self {
        Self { low: *STEP_RANGE_LOG2.start(), high: *STEP_RANGE_LOG2.end() }
    }

    /// Narrows the interval by a step that exceeded the rate by `excess_bits`; returns the step to try next.
    ///
    /// A step twice as large saves a bit, so the excess is added to log2 of the step. If that leaves the interval, the
    /// interval is bisected.
    pub(super) fn next_step(&mut self, step_log2: f64, excess_bits: f64) -> f64 {
        *(if excess_bits > 0.0 { &mut self.low } else { &mut self.high }) = step_log2;
        let next = step_log2 + excess_bits;
        if next <= self.low || next >= self.high {
            return f64::midpoint(self.low, self.high);
        }
        next
    }
}

/// A step that was tried on the sample.
struct TriedStep {
    step_log2: f64,
    /// Bits per weight above the rate.
    excess_bits: f64,
    outcome: Outcome,
}

impl Trial<'_> {
    /// Searches, for each of the likeliest codings, the step by which the sample takes `bits` bits per weight. Returns the
    /// best coding first.
    ///
    /// A candidate takes fewer bits if no step is fine enough or sizes change in jumps. It takes more only if no step is
    /// coarse enough.
    pub(super) fn search(&self, bits: f64) -> Vec<Candidate> {
        let QuantizeOptions { weights_per_symbol, raw_bits, .. } = self.options;
        if weights_per_symbol == WeightsPerSymbol::Four {
            let codings = integer_codings(weights_per_symbol, raw_bits);
            let found = self.search_codings(bits, &codings);
            // Four weights per symbol cannot code every distribution well.
            let is_good = |best: &Candidate| {
                best.excess_bits.abs() <= MATRIX_TOLERANCE_BITS
                    && best.exception_penalty_bits <= MAX_EXCEPTION_PENALTY_BITS
            };
            if found.first().is_some_and(is_good) {
                return match raw_bits {
                    Some(_) => found,
                    None => self.unless_much_worse(bits, found),
                };
            }
        }
        self.search_two(bits)
    }

    /// Returns `found`, codings of four weights per symbol, unless they cost more than [`MAX_FOUR_BITS`] against two.
    ///
    /// Between the coarsest step of one split, at which a symbol is as frequent as four weights per symbol allow, and the
    /// finest of the next one, the size does not follow the step: then the rate is met with far larger errors.
    fn unless_much_worse(&self, bits: f64, found: Vec<Candidate>) -> Vec<Candidate> {
        let two = self.search_two(bits);
        match found[0].squared_error <= (2.0 * MAX_FOUR_BITS).exp2() * two[0].squared_error {
            true => found,
            false => two,
        }
    }

    /// Searches as [`Trial::search`] does, among the codings of two weights per symbol only.
    fn search_two(&self, bits: f64) -> Vec<Candidate> {
        let codings = integer_codings(WeightsPerSymbol::Two, self.options.raw_bits);
        let found = self.search_codings(bits, &codings);
        assert!(!found.is_empty(), "two weights per symbol can code any integers");
        found
    }

    /// Searches among these codings, as [`Trial::search`] does. Returns nothing if none can code the integers.
    fn search_codings(&self, bits: f64, codings: &[CodingRequest]) -> Vec<Candidate> {
        let smallest = |outcome: &Outcome| {
            let sizes = self.estimates(outcome, codings).map(|(estimate, _)| estimate.bits);
            sizes.min_by(f64::total_cmp)
        };
        let start = self.step_for(bits, START_STEP_LOG2_PLUS_BITS - bits, smallest);
        // The codings that cost least at this step are the likeliest to cost least at their own.
        let cost = |found: &Estimate| size_cost(found.bits, found.time_penalty());
        let mut likeliest: Vec<(Estimate, CodingRequest)> =
            self.estimates(&start.outcome, codings).collect();
        likeliest.sort_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b)));
        let mut candidates: Vec<Candidate> = Vec::new();
        for (number, (_, coding)) in likeliest.into_iter().enumerate() {
            if number >= MAX_CANDIDATES && candidates.iter().any(Candidate::is_within_rate) {
                break;
            }
            let found = self.search_step(bits, start.step_log2, coding);
            candidates.extend(found.exception_penalty_bits.is_finite().then_some(found));
        }
        candidates.sort_by(Candidate::compare_samples);
        candidates
    }

    /// Searches the step for which `coding` takes `bits` bits per weight, starting at `start_log2`.
    fn search_step(&self, bits: f64, start_log2: f64, coding: CodingRequest) -> Candidate {
        let size = |outcome: &Outcome| self.estimate(outcome, coding).map(|found| found.bits);
        let TriedStep { step_log2, excess_bits, outcome } = self.step_for(bits, start_log2, size);
        let penalty =
            self.estimate(&outcome, coding).map_or(f64::INFINITY, |found| found.time_penalty());
        let weights = outcome.counts.iter().sum::<u64>() as f64;
        Candidate {
            step_log2,
            coding,
            excess_bits,
            exception_penalty_bits: penalty,
            large_integer_share: outcome.large_integers as f64 / weights,
            squared_error: outcome.squared_error,
        }
    }

    /// Returns the finest step, starting at `start_log2`, for which `size` is at most `bits`; the last one tried if there
    /// is none.
    ///
    /// Integers that cannot be coded count as 0 bits: then too many are 0, and a finer step is needed.
    fn step_for(
        &self,
        bits: f64,
        start_log2: f64,
        size: impl Fn(&Outcome) -> Option<f64>,
    ) -> TriedStep {
        let mut interval = StepInterval::all();
        let mut step_log2 = start_log2.clamp(interval.low, interval.high);
        let (mut best, mut above): (Option<TriedStep>, Option<TriedStep>) = (None, None);
        for _ in 0..MAX_TRIALS {
            let outcome = self.try_step(step_log2);
            let excess_bits = size(&outcome).unwrap_or(0.0) - bits;
            let tried = TriedStep { step_log2, excess_bits, outcome };
            if excess_bits > SEARCH_TOLERANCE_BITS {
                above = Some(tried);
            } else if best.as_ref().is_none_or(|best| step_log2 < best.step_log2) {
                best = Some(tried);
            }
            if excess_bits.abs() <= SEARCH_TOLERANCE_BITS
                || interval.high - interval.low < SEARCH_TOLERANCE_BITS
            {
                break;
            }
            step_log2 = interval.next_step(step_log2, excess_bits);
        }
        best.or(above).expect("a step was tried")
    }

    /// Limits the large integers of each row if there are many, and if the decode time that this saves is worth the coarser
    /// steps of the rows. Returns the candidates under the limit; `unlimited` are those without.
    pub(super) fn limit_large_integers(
        &mut self,
        bits: f64,
        unlimited: &[Candidate],
    ) -> Result<Vec<Candidate>, QuantizeError> {
        let mut best = (1, unlimited.to_vec());
        if unlimited[0].large_integer_share * WEIGHTS_PER_EXCEPTION as f64 > 1.0 {
            for limit in WEIGHTS_PER_LARGE_INTEGER {
                self.allow_large_integers(limit)?;
                let found = self.search(bits);
                // The limit may make rows too coarse to use the rate up, which only a large share justifies.
                let is_allowed = found[0].excess_bits >= -MATRIX_TOLERANCE_BITS
                    || unlimited[0].large_integer_share > MAX_LARGE_INTEGER_SHARE;
                if is_allowed && found[0].cost() < best.1[0].cost() {
                    best = (limit, found);
                }
            }
            self.allow_large_integers(best.0)?;
        }
        Ok(best.1)
    }
}
