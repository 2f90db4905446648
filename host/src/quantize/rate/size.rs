//! How large a blob is, or would be.

use super::search::MATRIX_TOLERANCE_BITS;
use super::trial::{Outcome, Trial};
use crate::Dtype;
use crate::codec::coding_model::CodingRequest;
use crate::codec::estimate::{Estimate, estimate, measure};
use crate::quantize::QuantizeOptions;
use crate::quantize::quantized::Quantized;
use fused_rans_layout::{LINE, Split, TILE, WeightsPerSymbol};
use std::cmp::Ordering;

/// Matrices of up to this many weights are encoded to know their size. Larger ones are measured by their symbols, which
/// is faster, and exact enough because the rounding of streams to words averages out.
const MAX_ENCODED_WEIGHTS: usize = 1 << 18;
/// Least number of tiles along a side of which the last one may be partial for the size to be measured. With fewer, what
/// the partial tiles add by rounding up to whole lines would weigh too much.
const MIN_TILES_BESIDE_PARTIAL: usize = 16;
const WEIGHTS_PER_TILE: u64 = (TILE * TILE) as u64;

impl Trial<'_> {
    /// Returns `coding` unless its exceptions cost more than `max_penalty_bits`. Otherwise returns the cheapest coding with
    /// as many weights per symbol that stays within `bits` bits per weight, if there is one.
    pub(super) fn affordable_coding(
        &self,
        outcome: &Outcome,
        coding: CodingRequest,
        max_penalty_bits: f64,
        bits: f64,
    ) -> CodingRequest {
        if self.estimate(outcome, coding).is_some_and(|own| own.time_penalty() <= max_penalty_bits)
        {
            return coding;
        }
        let codings = integer_codings(coding.weights_per_symbol, self.options.raw_bits);
        let fits = |(estimate, _): &(Estimate, CodingRequest)| {
            estimate.bits <= bits + MATRIX_TOLERANCE_BITS
        };
        let cheapest = self.estimates(outcome, &codings).filter(fits).min_by(by_cost);
        cheapest.map_or(coding, |(_, coding)| coding)
    }

    /// Estimates the size of the matrix for each of `codings`. Skips those that cannot code such integers.
    pub(super) fn estimates(
        &self,
        outcome: &Outcome,
        codings: &[CodingRequest],
    ) -> impl Iterator<Item = (Estimate, CodingRequest)> {
        codings.iter().filter_map(|&coding| Some((self.estimate(outcome, coding)?, coding)))
    }

    /// Estimates the size of the matrix if its integers occur in the proportion of `outcome`. `None` if `coding` cannot
    /// code them.
    pub(super) fn estimate(&self, outcome: &Outcome, coding: CodingRequest) -> Option<Estimate> {
        estimate(coding, self.source.grid(), &outcome.counts, outcome.large_integers)
    }

    /// Tries a step on the sample; returns the bits per weight of the cheapest coding, and the sum of the squared errors.
    pub(super) fn bits_and_error(&self, step_log2: f64) -> (f64, f64) {
        let QuantizeOptions { weights_per_symbol, raw_bits, .. } = self.options;
        let outcome = self.try_step(step_log2);
        let cheapest = |weights_per_symbol| {
            self.estimates(&outcome, &integer_codings(weights_per_symbol, raw_bits)).min_by(by_cost)
        };
        let found = cheapest(weights_per_symbol).or_else(|| cheapest(WeightsPerSymbol::Two));
        let (estimate, _) = found.expect("two weights per symbol can code any integers");
        (estimate.bits, outcome.squared_error)
    }

    /// Returns the bits per weight that the blob of `quantized` takes. `None` if it cannot be encoded.
    pub(super) fn size(&self, quantized: &Quantized, outcome: &Outcome) -> Option<f64> {
        // A tile must have fewer exceptions than weights. Fewer large integers than that cannot fill one.
        if outcome.large_integers < WEIGHTS_PER_TILE && self.is_measurable() {
            let measured = measure(
                quantized.encoder().request(quantized.matrix()),
                quantized.matrix(),
                &outcome.counts,
                outcome.large_integers,
            );
            return measured.map(|found| found.bits);
        }
        let blob = quantized.encode().ok()?;
        Some(
            8.0 * blob.as_bytes().len() as f64
                / (self.source.rows() as f64 * self.source.cols() as f64),
        )
    }

    /// Returns whether the matrix is so large, and so few of its tiles are partial, that measuring its symbols is exact
    /// enough.
    fn is_measurable(&self) -> bool {
        let sides = [self.source.rows(), self.source.cols()];
        let whole =
            |side: usize| side.is_multiple_of(TILE) || side >= MIN_TILES_BESIDE_PARTIAL * TILE;
        sides.iter().product::<usize>() > MAX_ENCODED_WEIGHTS && sides.into_iter().all(whole)
    }

    /// Returns the bits per weight that one line in each tile takes.
    pub(super) fn line_bits(&self) -> f64 {
        let grid = self.source.grid();
        let tiles = grid.tiles().unwrap_or(usize::MAX) as f64;
        8.0 * LINE as f64 * tiles / (grid.rows as f64 * grid.cols as f64)
    }
}

/// Orders the cheaper estimate first, decode time of exceptions included.
fn by_cost((a, _): &(Estimate, CodingRequest), (b, _): &(Estimate, CodingRequest)) -> Ordering {
    a.cost.total_cmp(&b.cost)
}

/// Returns the codings of integers with so many weights per symbol: the one with `raw_bits` if it exists, else all.
pub(super) fn integer_codings(
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: Option<u8>,
) -> Vec<CodingRequest> {
    let requested = raw_bits.and_then(|raw_bits| Split::i8(weights_per_symbol, raw_bits));
    let splits =
        requested.map_or_else(|| Split::all_i8(weights_per_symbol).collect(), |split| vec![split]);
    let coding = |split: &Split| CodingRequest {
        dtype: Dtype::I8,
        weights_per_symbol,
        raw_bits: Some(split.raw_bits()),
    };
    splits.iter().map(coding).collect()
}
