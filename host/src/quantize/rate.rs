//! Steps as fine as the bits that they may take.

use super::calibration::Factor;
use super::feedback::round_rows;
use super::quantized::Quantized;
use super::round::{large_integers, low_bytes};
use super::rows::{Row, best_scale, squared_error, wide};
use super::search::{Between, Found, MOST_ABOVE, NEAR_ENOUGH, badness, cost};
use super::{NumberMatrix, Options, QuantizeError};
use crate::blob::values::{LargeInteger, Numbers};
use crate::codec::coding_model::{CodingRequest, FEW, add, exponent_counts};
use crate::codec::estimate::{Estimate, estimate, measure};
use crate::codec::fast::count_exponents;
use crate::{Dtype, encode};
use fused_rans_layout::{FRAGMENT, LINE, Split, TILE, WeightsPerSymbol};
use half::bf16;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Bits a weight that can be asked for.
pub(super) const RATES: std::ops::RangeInclusive<f64> = 2.0..=7.0;
/// The largest share of weights of more than a byte to reach a rate with: more of them are not worth their time.
const MOST_WIDE: f64 = 1.0 / 64.0;
/// Of how many weights of a row one may take more than a byte, where not just as many do as the step asks for.
const WIDE: [usize; 3] = [FEW as usize, 256, 16];
/// Rows that a task takes at a time.
const BATCH: usize = 32;
/// Weights on which steps are tried; a fourth of them, if each makes up for others' errors, which takes long.
const SAMPLE: usize = 1 << 18;
/// How near to the rate a search on the sample comes, in bits a weight.
const NEAR: f64 = 0.002;
/// Bits a weight that the exceptions of four weights a symbol may count for beyond those that they take.
const DEAREST: f64 = 0.2;
/// As much as lines in each tile may make of it.
const MOST_LINE_BITS: f64 = 0.1;
/// Bits a weight by which exceptions may count for more with the whole matrix than with the sample.
const CLOSE: f64 = 0.3;
/// How often a step is corrected by the whole matrix.
const CORRECTIONS: usize = 8;
/// By how much coarser a step may become, as an exponent of 2, without a look at what other ways come to.
const FAR: f64 = 0.25;
/// Weights of matrices that are encoded to know their size, rather than measured.
const SMALL: usize = 1 << 18;
/// Tiles beside each other of which one may be cut off for a matrix to be measured.
const MANY_TILES: usize = 16;
/// Weights of a tile.
const TILE_WEIGHTS: u64 = (TILE * TILE) as u64;
/// Least rows that steps are tried on, if there are so many.
const SAMPLE_ROWS: usize = 32;
/// Ways to code whose own steps are tried, the likeliest to be the best.
const LIKELY: usize = 3;
/// Most steps that are tried.
const TRIALS: usize = 24;

/// A number of bits a weight, everything that is stored counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    bits: f64,
}

impl Rate {
    /// `bits` bits a weight.
    ///
    /// # Errors
    /// [`QuantizeError::Rate`] for a number outside 2 to 7.
    pub fn new(bits: f64) -> Result<Self, QuantizeError> {
        if RATES.contains(&bits) { Ok(Self { bits }) } else { Err(QuantizeError::Rate(bits)) }
    }

    /// The number of bits.
    #[must_use]
    pub fn bits(self) -> f64 {
        self.bits
    }

    pub(super) fn quantize(
        self,
        source: NumberMatrix<'_>,
        options: Options<'_>,
    ) -> Result<Quantized, QuantizeError> {
        let mut trial = Trial::new(source, options)?;
        let start = trial.search(self.bits);
        let chosen = trial.limit_wide(self.bits, &start)?;
        let (mut made, mut found) = trial.meet_best(self.bits, &chosen);
        if found.miss < -NEAR_ENOUGH && trial.one_of > 1 && start[0].wide <= MOST_WIDE {
            // The rows of the sample have room enough, others have not.
            trial.set_wide(1)?;
            (made, found) = trial.meet_best(self.bits, &start);
        }
        if found.miss.is_infinite() {
            return Err(QuantizeError::Narrow { rows: source.rows(), cols: source.cols() });
        }
        if found.miss > MOST_ABOVE + trial.line_bits().min(MOST_LINE_BITS) {
            let found = self.bits + found.miss;
            return Err(QuantizeError::Unreachable { asked: self.bits, found });
        }
        Ok(made)
    }
}

/// A matrix on which steps are tried. A step is given as an exponent of 2: what the row's root mean square is multiplied
/// with.
pub(super) struct Trial<'a> {
    source: NumberMatrix<'a>,
    options: Options<'a>,
    factor: Option<&'a Factor>,
    rows: Vec<Row>,
    /// Of how many weights of a row one may take more than a byte.
    one_of: usize,
    sample: Vec<usize>,
}

/// What a step gives on some rows.
struct Outcome {
    /// How often each integer occurs.
    counts: [u64; 256],
    /// How many of them take more than the byte that is counted.
    wide: u64,
    /// Sum of the squares of the errors: of weights, or of outputs if moments are known.
    error: f64,
}

/// A step that was tried.
struct Tried {
    step: f64,
    /// Bits a weight by which what was looked for is missed.
    miss: f64,
    outcome: Outcome,
}

/// Some rows, rounded.
struct Rounded {
    scales: Vec<bf16>,
    /// Sum of the squares of the errors.
    error: f64,
    /// What does not fit into the bytes.
    wide: Vec<LargeInteger>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        source: NumberMatrix<'a>,
        options: Options<'a>,
    ) -> Result<Self, QuantizeError> {
        let (rows, cols) = (source.rows(), source.cols());
        if rows.min(cols) < FRAGMENT {
            return Err(QuantizeError::Narrow { rows, cols });
        }
        let factor = options.moments.map(|moments| match moments.inputs() == cols {
            true => moments.factor(),
            false => Err(QuantizeError::Moments { cols, found: moments.inputs() }),
        });
        let all: Vec<usize> = (0..rows).collect();
        let sample = if factor.is_some() { SAMPLE / 4 } else { SAMPLE };
        let stride = (rows * cols).div_ceil(sample).min(rows.div_ceil(SAMPLE_ROWS));
        // One of each so many, by chance, but always the same: rows may be alike at regular distances.
        let mut random = 1u64;
        let mut chosen = |first: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (first + (random >> 33) as usize % stride).min(rows - 1)
        };
        Ok(Self {
            source,
            options,
            factor: factor.transpose()?,
            rows: Row::all(source, 1)?,
            one_of: 1,
            sample: all.into_iter().step_by(stride).map(&mut chosen).collect(),
        })
    }

    fn set_wide(&mut self, one_of: usize) -> Result<(), QuantizeError> {
        self.rows = Row::all(self.source, one_of)?;
        self.one_of = one_of;
        Ok(())
    }

    /// Lets fewer weights take more than a byte, if there are many at the end of the search `start`, and what that saves in
    /// time is worth the coarser steps of their rows; returns the end of the search then.
    fn limit_wide(&mut self, bits: f64, start: &[Found]) -> Result<Vec<Found>, QuantizeError> {
        let mut best = (1, start.to_vec());
        if start[0].wide * FEW as f64 > 1.0 {
            for one_of in WIDE {
                self.set_wide(one_of)?;
                let found = self.search(bits);
                // Too few bits are those of rows whose largest numbers ask for coarser steps than the rate does.
                let enough = found[0].miss >= -NEAR_ENOUGH || start[0].wide > MOST_WIDE;
                if enough && found[0].cost() < best.1[0].cost() {
                    best = (one_of, found);
                }
            }
            self.set_wide(best.0)?;
        }
        Ok(best.1)
    }

    /// The sum of the squares of the sample's numbers, or of their outputs if moments are known.
    pub(super) fn energy(&self) -> f64 {
        let square = |numbers: &[f32]| match self.options.moments {
            Some(moments) => moments.output(numbers),
            None => numbers.iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
        };
        let energies = self.source.map_rows(&self.sample, |_, numbers| Ok(square(numbers)));
        energies.map_or(0.0, |energies| energies.iter().sum())
    }

    /// How the integers may be coded, the best way first, and the step of each by which the sample takes `bits` bits a
    /// weight, or fewer, if no step is fine enough for so many or sizes jump. More only if no step is coarse enough.
    fn search(&self, bits: f64) -> Vec<Found> {
        let Options { weights_per_symbol, raw_bits, .. } = self.options;
        if weights_per_symbol == WeightsPerSymbol::Four {
            let found = self.search_among(bits, &ways(weights_per_symbol, raw_bits));
            // Not every distribution can be coded four a symbol.
            let near = |best: &Found| best.miss.abs() <= NEAR_ENOUGH && best.extra <= DEAREST;
            if found.first().is_some_and(near) {
                return found;
            }
        }
        let found = self.search_among(bits, &ways(WeightsPerSymbol::Two, raw_bits));
        assert!(!found.is_empty(), "two a symbol can be coded, whatever they are");
        found
    }

    /// As [`Trial::search`], with these ways to code. None if no way can code what the step gives.
    fn search_among(&self, bits: f64, ways: &[CodingRequest]) -> Vec<Found> {
        let smallest = |outcome: &Outcome| {
            let sizes = self.estimates(outcome, ways).map(|(estimate, _)| estimate.bits);
            sizes.min_by(f64::total_cmp)
        };
        // A step near which to begin. A normal distribution's entropy is 2.05 bits above the step's exponent.
        let Tried { step, outcome, .. } = self.step_for(bits, 2.2 - bits, smallest);
        // The best at this step are the likeliest to be it at their own.
        let cost = |found: &Estimate| cost(found.bits, found.extra());
        let mut ways: Vec<(Estimate, CodingRequest)> = self.estimates(&outcome, ways).collect();
        ways.sort_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b)));
        let mut all: Vec<Found> = Vec::new();
        for (number, (_, way)) in ways.into_iter().enumerate() {
            if number >= LIKELY && all.iter().any(Found::is_small_enough) {
                break;
            }
            let found = self.with_way(bits, step, way);
            all.extend(found.extra.is_finite().then_some(found));
        }
        all.sort_by(Found::by_worth);
        all
    }

    /// The step, from about `step` on, for which `way` takes `bits` bits.
    fn with_way(&self, bits: f64, step: f64, way: CodingRequest) -> Found {
        let size = |outcome: &Outcome| self.estimate(outcome, way).map(|found| found.bits);
        let Tried { step, miss, outcome } = self.step_for(bits, step, size);
        let extra = self.estimate(&outcome, way).map_or(f64::INFINITY, |found| found.extra());
        let wide = outcome.wide as f64 / outcome.counts.iter().sum::<u64>() as f64;
        Found { step, way, miss, extra, wide, error: outcome.error }
    }

    /// All rows, rounded to take `bits` bits a weight, in the first of these ways, or the best of the likeliest if that takes
    /// too much or its step has to be far coarser than the sample's, as errors are others then.
    fn meet_best(&self, bits: f64, ways: &[Found]) -> (Quantized, Found) {
        let mut best: Option<(Quantized, Found)> = None;
        for way in ways.iter().take(LIKELY) {
            let met = self.meet(bits, way);
            let good = met.1.step <= way.step + FAR && met.1.miss <= MOST_ABOVE;
            if best.as_ref().is_none_or(|best| met.1.by_worth_met(&best.1).is_lt()) {
                best = Some(met);
            }
            if good {
                break;
            }
        }
        best.expect("a search finds a way")
    }

    /// All rows, rounded to take `bits` bits a weight, or what comes nearest, by the step at which a search ended or one near
    /// it; and what came of it.
    fn meet(&self, bits: f64, start: &Found) -> (Quantized, Found) {
        let (mut made, mut best) = self.round_all(start, start.extra + CLOSE, bits);
        // The sample may not be like the rest, and small matrices' sizes go by whole lines.
        let near = (self.line_bits() / 2.0).clamp(NEAR_ENOUGH, MOST_ABOVE);
        let (mut between, mut last) = (Between::default(), best);
        for _ in 0..CORRECTIONS {
            let step = between.after(last.step, last.miss);
            if last.miss.abs() <= near || step == last.step {
                break;
            }
            let (other, found) = self.round_all(&Found { step, ..best }, f64::INFINITY, bits);
            if badness(found.miss) < badness(best.miss) {
                (made, best) = (other, found);
            }
            last = found;
        }
        (made, best)
    }

    /// `way`, or, if its exceptions count for more than `extra` bits, of those of as many weights a symbol the cheapest that
    /// takes `bits` bits at most with these integers.
    fn best_way(
        &self,
        outcome: &Outcome,
        way: CodingRequest,
        extra: f64,
        bits: f64,
    ) -> CodingRequest {
        if self.estimate(outcome, way).is_some_and(|own| own.extra() <= extra) {
            return way;
        }
        let ways = ways(way.weights_per_symbol, self.options.raw_bits);
        let fits = |(estimate, _): &(Estimate, CodingRequest)| estimate.bits <= bits + NEAR_ENOUGH;
        let cheapest = self.estimates(outcome, &ways).filter(fits).min_by(by_cost);
        cheapest.map_or(way, |(_, way)| way)
    }

    /// What each of these ways takes to code integers that occur in this proportion; but of those that cannot.
    fn estimates(
        &self,
        outcome: &Outcome,
        ways: &[CodingRequest],
    ) -> impl Iterator<Item = (Estimate, CodingRequest)> {
        ways.iter().filter_map(|&way| Some((self.estimate(outcome, way)?, way)))
    }

    /// Bits a weight that the sample takes with `step`, coded in the cheapest way, and the sum of the squares of its errors.
    pub(super) fn point(&self, step: f64) -> (f64, f64) {
        let Options { weights_per_symbol, raw_bits, .. } = self.options;
        let outcome = self.outcome(step);
        let cheapest = |weights_per_symbol| {
            self.estimates(&outcome, &ways(weights_per_symbol, raw_bits)).min_by(by_cost)
        };
        let found = cheapest(weights_per_symbol).or_else(|| cheapest(WeightsPerSymbol::Two));
        let (estimate, _) = found.expect("two a symbol can be coded, whatever they are");
        (estimate.bits, outcome.error)
    }

    /// The step, from `first` on, for which `size` is `bits`. What cannot be coded at all
    /// has too many weights that are 0.
    fn step_for(&self, bits: f64, first: f64, size: impl Fn(&Outcome) -> Option<f64>) -> Tried {
        let mut between = Between::default();
        let mut step = first.clamp(between.low, between.high);
        // The finest step that does not take too much, and what any step took that does.
        let (mut best, mut above): (Option<Tried>, Option<Tried>) = (None, None);
        for _ in 0..TRIALS {
            let outcome = self.outcome(step);
            let miss = size(&outcome).unwrap_or(0.0) - bits;
            let tried = Tried { step, miss, outcome };
            if miss > NEAR {
                above = Some(tried);
            } else if best.as_ref().is_none_or(|best| step < best.step) {
                best = Some(tried);
            }
            if miss.abs() <= NEAR || between.high - between.low < NEAR {
                break;
            }
            step = between.after(step, miss);
        }
        best.or(above).expect("a step was tried")
    }

    /// What `step` gives on the sample.
    fn outcome(&self, step: f64) -> Outcome {
        let cols = self.source.cols();
        let batches = self.sample.par_chunks(BATCH).map(|rows| {
            let mut out = vec![0; rows.len() * cols];
            let Rounded { error, wide, .. } = self.round(rows, step, &mut out);
            let counts = count_exponents(Dtype::I8, &out);
            Outcome { counts, wide: wide.len() as u64, error }
        });
        batches.reduce(Outcome::none, Outcome::plus)
    }

    /// All rows, rounded by the step of `from` and to be coded as [`Trial::best_way`] says, and what came of it.
    fn round_all(&self, from: &Found, extra: f64, bits: f64) -> (Quantized, Found) {
        let (rows, cols) = (self.source.rows(), self.source.cols());
        let all: Vec<usize> = (0..rows).collect();
        let mut weights = vec![0; rows * cols];
        let batches = all.par_chunks(BATCH).zip(weights.par_chunks_mut(BATCH * cols));
        let rounded: Vec<Rounded> =
            batches.map(|(rows, out)| self.round(rows, from.step, out)).collect();
        let error = rounded.iter().map(|batch| batch.error).sum();
        let wide = rounded.iter().flat_map(|batch| &batch.wide);
        let wide: Vec<LargeInteger> = wide.copied().collect();
        let scales = rounded.into_iter().flat_map(|batch| batch.scales);
        let counts = exponent_counts(Dtype::I8, &weights);
        let outcome = Outcome { counts, wide: wide.len() as u64, error };
        let way = self.best_way(&outcome, from.way, extra, bits);
        let made = Quantized {
            row_scales: Some(scales.map(bf16::to_bits).collect()),
            numbers: Numbers { dtype: Dtype::I8, groups: None, wide },
            weights_per_symbol: way.weights_per_symbol,
            raw_bits: way.raw_bits,
            ..Quantized::new(self.source, Dtype::I8, weights)
        };
        let miss = self.size(&made, &outcome).map_or(f64::INFINITY, |found| found - bits);
        let extra = self.estimate(&outcome, way).map_or(f64::INFINITY, |found| found.extra());
        (made, Found { way, miss, extra, error, ..*from })
    }

    /// Bits a weight that a matrix takes whose integers occur like this. `None` if it cannot be coded.
    fn size(&self, made: &Quantized, outcome: &Outcome) -> Option<f64> {
        // A tile may have fewer exceptions than weights.
        if outcome.wide < TILE_WEIGHTS && self.is_regular() {
            let measured = measure(made.matrix(), &outcome.counts, outcome.wide);
            return measured.map(|found| found.bits);
        }
        // What is rounded up to whole lines and words counts here.
        let blob = encode(made.matrix())?;
        Some(8.0 * blob.len() as f64 / (self.source.rows() as f64 * self.source.cols() as f64))
    }

    /// Whether the matrix is large, and of tiles that are whole, or nearly all of them.
    fn is_regular(&self) -> bool {
        let sides = [self.source.rows(), self.source.cols()];
        let whole = |side: usize| side.is_multiple_of(TILE) || side >= MANY_TILES * TILE;
        sides.iter().product::<usize>() > SMALL && sides.into_iter().all(whole)
    }

    /// Bits a weight that a line in each tile takes.
    fn line_bits(&self) -> f64 {
        let grid = self.source.grid();
        let tiles = grid.tiles().unwrap_or(usize::MAX) as f64;
        8.0 * LINE as f64 * tiles / (grid.rows as f64 * grid.cols as f64)
    }

    /// What a matrix takes whose integers occur in this proportion.
    fn estimate(&self, outcome: &Outcome, way: CodingRequest) -> Option<Estimate> {
        estimate(way, self.source.grid(), &outcome.counts, outcome.wide)
    }

    /// Rounds some rows; their low bytes go to `out`.
    fn round(&self, rows: &[usize], step: f64, out: &mut [u8]) -> Rounded {
        let cols = self.source.cols();
        let mut numbers = vec![0.0; rows.len() * cols];
        for (&row, numbers) in rows.iter().zip(numbers.chunks_exact_mut(cols)) {
            self.source.load(row, numbers);
        }
        let mut scales: Vec<bf16> = rows.iter().map(|&row| self.rows[row].scale(step)).collect();
        let mut integers = vec![0; rows.len() * cols];
        let mut error = 0.0;
        if let Some(factor) = &self.factor {
            let steps: Vec<f32> = scales.iter().map(|scale| scale.to_f32()).collect();
            error = round_rows(factor, &numbers, &steps, &mut integers);
        } else {
            let rows = numbers.chunks_exact(cols).zip(integers.chunks_exact_mut(cols));
            for ((numbers, integers), scale) in rows.zip(&mut scales) {
                large_integers(numbers, scale.to_f32(), integers);
                *scale = best_scale(numbers, integers).unwrap_or(*scale);
                error += squared_error(numbers, scale.to_f32(), integers);
            }
        }
        let all = low_bytes(&integers, out);
        let wide = if all { Vec::new() } else { wide(rows, cols, &integers) };
        Rounded { scales, error, wide }
    }
}

impl Outcome {
    fn none() -> Self {
        Self { counts: [0; 256], wide: 0, error: 0.0 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            counts: add(self.counts, other.counts),
            wide: self.wide + other.wide,
            error: self.error + other.error,
        }
    }
}

/// The cheaper first.
fn by_cost((a, _): &(Estimate, CodingRequest), (b, _): &(Estimate, CodingRequest)) -> Ordering {
    a.cost.total_cmp(&b.cost)
}

/// The ways to code integers so many a symbol: with `raw_bits`, if there is such a way, or any.
fn ways(weights_per_symbol: WeightsPerSymbol, raw_bits: Option<u8>) -> Vec<CodingRequest> {
    let wanted = raw_bits.and_then(|raw_bits| Split::i8(weights_per_symbol, raw_bits));
    let splits =
        wanted.map_or_else(|| Split::all_i8(weights_per_symbol).collect(), |split| vec![split]);
    let way = |split: &Split| CodingRequest {
        dtype: Dtype::I8,
        weights_per_symbol,
        raw_bits: Some(split.raw_bits()),
    };
    splits.iter().map(way).collect()
}
