//! Steps as fine as the bits that they may take.

use super::calibration::Factor;
use super::feedback::round_rows;
use super::quantized::Quantized;
use super::round::{integers, row_scale};
use super::source::absmax;
use super::{Options, QuantizeError, Source};
use crate::estimate::{Estimate, estimate};
use crate::fast::count_exponents;
use crate::model::{Wanted, add, exponent_counts};
use crate::{Dtype, encode};
use fused_rans_layout::{FRAGMENT, LINE, Packing, Split, TILE};
use half::bf16;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Bits a weight that can be asked for.
pub(super) const RATES: std::ops::RangeInclusive<f64> = 2.0..=7.0;
/// The largest integer.
const LARGEST: f32 = 127.0;
/// Rows that a task takes at a time.
const BATCH: usize = 32;
/// Weights on which steps are tried; a fourth of them, if each makes up for others' errors, which takes long.
const SAMPLE: usize = 1 << 18;
/// How near to the rate a search on the sample comes, in bits a weight.
const NEAR: f64 = 0.002;
/// How near the whole matrix has to be, or steps are tried once more.
const NEAR_ENOUGH: f64 = 0.01;
/// Steps that are tried, over the root mean square of a row, as exponents of 2: up to where nearly all weights are 0.
const STEPS: std::ops::RangeInclusive<f64> = -8.0..=2.0;
/// Bits a weight that the exceptions of four weights a symbol may count for beyond those that they take.
const DEAREST: f64 = 0.2;
/// Bits a weight by which a matrix may be above the rate.
const MOST_ABOVE: f64 = 0.05;
/// As much as lines in each tile may make of it.
const MOST_LINE_BITS: f64 = 0.1;
/// What a sample's way to code may cost more than another with the whole matrix and stay the choice.
const CLOSE: f64 = 0.3;
/// How often a step is corrected by the whole matrix.
const CORRECTIONS: usize = 5;
/// Weights of matrices that are encoded to know their size, rather than estimated; as are those without a whole tile.
const SMALL: usize = 1 << 18;
/// Least rows that steps are tried on, if there are so many.
const SAMPLE_ROWS: usize = 32;
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
        source: Source<'_>,
        options: Options<'_>,
    ) -> Result<Quantized, QuantizeError> {
        let trial = Trial::new(source, options)?;
        let (rows, cols) = (source.rows(), source.cols());
        if rows.min(cols) < FRAGMENT {
            return Err(QuantizeError::Narrow { rows, cols });
        }
        let Found { mut step, way, .. } = trial.search(self.bits);
        let (mut made, mut found) = trial.round_all(step, way, self.bits);
        // The sample may not be like the rest, and small matrices' sizes go by whole lines. A step twice as large saves a
        // bit.
        let miss = |found: f64| (found - self.bits).abs();
        let mut last = found;
        for _ in 0..CORRECTIONS {
            let next = (step + last - self.bits).clamp(*STEPS.start(), *STEPS.end());
            if miss(last) <= NEAR_ENOUGH || next == step {
                break;
            }
            step = next;
            let (other, size) = trial.round_all(step, way, self.bits);
            last = size;
            if miss(size) < miss(found) {
                (made, found) = (other, size);
            }
        }
        if found > self.bits + MOST_ABOVE + trial.line_bits().min(MOST_LINE_BITS) {
            return Err(QuantizeError::Unreachable { asked: self.bits, found });
        }
        Ok(made)
    }
}

/// A row's numbers at a glance.
struct Row {
    root_mean_square: f32,
    largest: f32,
}

/// A matrix on which steps are tried. A step is given as an exponent of 2: what the row's root mean square is multiplied
/// with.
pub(super) struct Trial<'a> {
    source: Source<'a>,
    options: Options<'a>,
    factor: Option<Factor>,
    rows: Vec<Row>,
    sample: Vec<usize>,
}

/// What a search comes to.
struct Found {
    step: f64,
    way: Wanted,
    /// Bits a weight by which the rate is missed.
    miss: f64,
    /// Bits a weight that the exceptions count for, beyond those that they take.
    extra: f64,
}

/// What a step gives on some rows.
struct Outcome {
    /// How often each integer occurs.
    counts: [u64; 256],
    /// Sum of the squares of the errors: of weights, or of outputs if moments are known.
    error: f64,
}

impl<'a> Trial<'a> {
    pub(super) fn new(source: Source<'a>, options: Options<'a>) -> Result<Self, QuantizeError> {
        let (rows, cols) = (source.rows(), source.cols());
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
            rows: source.map_rows(&all, Row::of)?,
            sample: all.into_iter().step_by(stride).map(&mut chosen).collect(),
        })
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

    /// The step by which the sample takes `bits` bits a weight, or fewer, if no step is fine enough for so many or sizes
    /// jump, and how its integers are to be coded. More only if no step is coarse enough.
    fn search(&self, bits: f64) -> Found {
        let Options { packing, raw_bits, .. } = self.options;
        let four = (packing == Packing::Four)
            .then(|| self.search_among(bits, &ways(packing, raw_bits)))
            .flatten();
        // Not every distribution can be coded four a symbol.
        let near = four.filter(|found| found.miss.abs() <= NEAR_ENOUGH && found.extra <= DEAREST);
        let found = near.or_else(|| self.search_among(bits, &ways(Packing::Two, raw_bits)));
        found.expect("two a symbol can be coded, whatever they are")
    }

    /// As [`Trial::search`], with one of these ways to code. `None` if no way can code what the step gives.
    fn search_among(&self, bits: f64, ways: &[Wanted]) -> Option<Found> {
        let smallest = |outcome: &Outcome| {
            let sizes = self.estimates(&outcome.counts, ways).map(|(estimate, _)| estimate.bits);
            sizes.min_by(f64::total_cmp)
        };
        // The smallest size falls steadily with the step; the cheapest way's jumps where another becomes the cheapest. So
        // the way is chosen near the step, and then the step for the way.
        // A normal distribution's entropy is 2.05 bits above the step's exponent.
        let (step, _) = self.step_for(bits, 2.2 - bits, smallest);
        let counts = self.outcome(step).counts;
        let mut costs: Vec<(Estimate, Wanted)> = self.estimates(&counts, ways).collect();
        costs.sort_by(by_cost);
        let found = |(Estimate { cost, .. }, way): (Estimate, Wanted)| {
            let of_way =
                |outcome: &Outcome| self.estimate(&outcome.counts, way).map(|found| found.bits);
            let (step, miss) = self.step_for(bits, step, of_way);
            Found { step, way, miss, extra: cost - bits }
        };
        // The cheapest way may be one of many raw bits, which are too many already.
        let mut all = costs.into_iter().map(found);
        let first = all.next()?;
        if first.miss <= NEAR_ENOUGH {
            return Some(first);
        }
        let reached = all.find(|found| found.miss <= NEAR_ENOUGH);
        Some(reached.unwrap_or(first))
    }

    /// Of `way`, and those of as many weights a symbol, the cheapest that takes `bits` bits at most with these integers, if
    /// it is cheaper by more than a sample may be wrong; also the bits that it takes.
    fn best_way(&self, counts: &[u64; 256], way: Wanted, bits: f64) -> (Wanted, f64) {
        let ways = ways(way.packing, self.options.raw_bits);
        let fits = |(estimate, _): &(Estimate, Wanted)| estimate.bits <= bits + NEAR_ENOUGH;
        let cheapest = self.estimates(counts, &ways).filter(fits).min_by(by_cost);
        match (self.estimate(counts, way), cheapest) {
            (Some(own), Some((other, _))) if own.cost <= other.cost + CLOSE => (way, own.bits),
            (_, Some((other, way))) => (way, other.bits),
            (Some(own), None) => (way, own.bits),
            (None, None) => (way, f64::INFINITY),
        }
    }

    /// What each of these ways takes to code integers that occur in this proportion; but of those that cannot.
    fn estimates(
        &self,
        counts: &[u64; 256],
        ways: &[Wanted],
    ) -> impl Iterator<Item = (Estimate, Wanted)> {
        ways.iter().filter_map(|&way| Some((self.estimate(counts, way)?, way)))
    }

    /// Bits a weight that the sample takes with `step`, coded in the cheapest way, and the sum of the squares of its errors.
    pub(super) fn point(&self, step: f64) -> (f64, f64) {
        let Options { packing, raw_bits, .. } = self.options;
        let Outcome { counts, error } = self.outcome(step);
        let cheapest = |packing| self.estimates(&counts, &ways(packing, raw_bits)).min_by(by_cost);
        let found = cheapest(packing).or_else(|| cheapest(Packing::Two));
        let (estimate, _) = found.expect("two a symbol can be coded, whatever they are");
        (estimate.bits, error)
    }

    /// The step, from `first` on, for which `size` is `bits`, and by how much it is missed. What cannot be coded at all
    /// has too many weights that are 0.
    fn step_for(
        &self,
        bits: f64,
        first: f64,
        size: impl Fn(&Outcome) -> Option<f64>,
    ) -> (f64, f64) {
        let (mut low, mut high) = (*STEPS.start(), *STEPS.end());
        let mut step = first.clamp(low, high);
        // The finest step that does not take too much, and what any step took that does.
        let (mut best, mut above) = (None, None);
        for _ in 0..TRIALS {
            let miss = size(&self.outcome(step)).unwrap_or(0.0) - bits;
            if miss <= NEAR && best.is_none_or(|(other, _)| step < other) {
                best = Some((step, miss));
            } else if miss > NEAR {
                above = Some((step, miss));
            }
            if miss.abs() <= NEAR || high - low < NEAR {
                break;
            }
            *(if miss > 0.0 { &mut low } else { &mut high }) = step;
            // A step twice as large saves a bit.
            step += miss;
            if step <= low || step >= high {
                step = f64::midpoint(low, high);
            }
        }
        best.or(above).expect("a step was tried")
    }

    /// What `step` gives on the sample.
    fn outcome(&self, step: f64) -> Outcome {
        let cols = self.source.cols();
        let batches = self.sample.par_chunks(BATCH).map(|rows| {
            let mut out = vec![0; rows.len() * cols];
            let (_, error) = self.round(rows, step, &mut out);
            (count_exponents(Dtype::I8, &out), error)
        });
        let (counts, error) =
            batches.reduce(|| ([0; 256], 0.0), |(a, x), (b, y)| (add(a, b), x + y));
        Outcome { counts, error }
    }

    /// All rows, rounded by `step` and to be coded in the best way, which may be another than the sample's, `way`; and the bits
    /// a weight that they take.
    fn round_all(&self, step: f64, way: Wanted, bits: f64) -> (Quantized, f64) {
        let (rows, cols) = (self.source.rows(), self.source.cols());
        let all: Vec<usize> = (0..rows).collect();
        let mut weights = vec![0; rows * cols];
        let batches = all.par_chunks(BATCH).zip(weights.par_chunks_mut(BATCH * cols));
        let scales: Vec<Vec<bf16>> =
            batches.map(|(rows, out)| self.round(rows, step, out).0).collect();
        let (way, estimated) = self.best_way(&exponent_counts(Dtype::I8, &weights), way, bits);
        let made = Quantized {
            row_scales: Some(scales.into_iter().flatten().map(bf16::to_bits).collect()),
            packing: way.packing,
            raw_bits: way.raw_bits,
            ..Quantized::new(self.source, Dtype::I8, weights)
        };
        if rows * cols > SMALL && rows.min(cols) >= TILE {
            return (made, estimated);
        }
        // What is rounded up to whole lines and words counts here.
        let blob = encode(made.matrix());
        let size = |blob: Vec<u8>| 8.0 * blob.len() as f64 / (rows as f64 * cols as f64);
        (made, blob.map_or(f64::INFINITY, size))
    }

    /// Bits a weight that a line in each tile takes.
    fn line_bits(&self) -> f64 {
        let grid = self.source.grid();
        let tiles = grid.tiles().unwrap_or(usize::MAX) as f64;
        8.0 * LINE as f64 * tiles / (grid.rows as f64 * grid.cols as f64)
    }

    /// What a matrix takes whose integers occur in this proportion.
    fn estimate(&self, counts: &[u64; 256], way: Wanted) -> Option<Estimate> {
        estimate(way, self.source.grid(), counts)
    }

    /// Rounds some rows to `out`; returns their scales, and the sum of their squared errors.
    fn round(&self, rows: &[usize], step: f64, out: &mut [u8]) -> (Vec<bf16>, f64) {
        let cols = self.source.cols();
        let mut numbers = vec![0.0; rows.len() * cols];
        for (&row, numbers) in rows.iter().zip(numbers.chunks_exact_mut(cols)) {
            self.source.load(row, numbers);
        }
        let mut scales: Vec<bf16> = rows.iter().map(|&row| self.rows[row].scale(step)).collect();
        if let Some(factor) = &self.factor {
            let steps: Vec<f32> = scales.iter().map(|scale| scale.to_f32()).collect();
            let error = round_rows(factor, &numbers, &steps, LARGEST, out);
            return (scales, error);
        }
        let mut sum = 0.0;
        let rows = numbers.chunks_exact(cols).zip(out.chunks_exact_mut(cols));
        for ((numbers, out), scale) in rows.zip(&mut scales) {
            integers(numbers, scale.to_f32(), LARGEST, out);
            *scale = best_scale(numbers, out).unwrap_or(*scale);
            sum += squared_error(numbers, scale.to_f32(), out);
        }
        (scales, sum)
    }
}

impl Row {
    fn of(row: usize, numbers: &[f32]) -> Result<Self, QuantizeError> {
        let largest = absmax(row, numbers)?;
        // Of numbers up to 1, whose squares neither overflow nor vanish.
        let factor = if largest > 0.0 { 1.0 / f64::from(largest) } else { 0.0 };
        let squares: f64 = numbers.iter().map(|&x| (f64::from(x) * factor).powi(2)).sum();
        let mean = squares / numbers.len() as f64;
        Ok(Self { root_mean_square: (mean.sqrt() * f64::from(largest)) as f32, largest })
    }

    /// The scale for `step`: not so fine that the largest number would be clipped.
    fn scale(&self, step: f64) -> bf16 {
        let wanted = (step.exp2() * f64::from(self.root_mean_square)) as f32;
        // By the largest number or more everything is 0; so far steps are finite numbers.
        row_scale(wanted.clamp(self.largest / LARGEST, self.largest))
    }
}

/// The cheaper first.
fn by_cost((a, _): &(Estimate, Wanted), (b, _): &(Estimate, Wanted)) -> Ordering {
    a.cost.total_cmp(&b.cost)
}

/// The ways to code integers so many a symbol: with `raw_bits`, if there is such a way, or any.
fn ways(packing: Packing, raw_bits: Option<u8>) -> Vec<Wanted> {
    let wanted = raw_bits.and_then(|raw_bits| Split::i8(packing, raw_bits));
    let splits = wanted.map_or_else(|| Split::all_i8(packing).collect(), |split| vec![split]);
    let way =
        |split: &Split| Wanted { dtype: Dtype::I8, packing, raw_bits: Some(split.raw_bits()) };
    splits.iter().map(way).collect()
}

/// The scale with which the integers in `rounded` come nearest to `numbers`: a little less than the step, since most
/// numbers that become an integer lie between that and 0. `None` if all are 0.
fn best_scale(numbers: &[f32], rounded: &[u8]) -> Option<bf16> {
    let pairs = numbers.iter().zip(rounded);
    let pairs = pairs.map(|(&x, &n)| (f64::from(x), f64::from(n.cast_signed())));
    let (product, square) = pairs.fold((0.0, 0.0), |(a, b), (x, n)| (a + x * n, b + n * n));
    (square > 0.0).then(|| row_scale((product / square) as f32))
}

fn squared_error(numbers: &[f32], scale: f32, rounded: &[u8]) -> f64 {
    let error = |(&number, &rounded): (&f32, &u8)| {
        f64::from(number - scale * f32::from(rounded.cast_signed())).powi(2)
    };
    numbers.iter().zip(rounded).map(error).sum()
}
