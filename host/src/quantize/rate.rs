//! Steps as fine as the bits that they may take.

use super::calibration::Factor;
use super::feedback::round_rows;
use super::quantized::Quantized;
use super::round::{integers, row_scale};
use super::source::absmax;
use super::{Options, QuantizeError, Source};
use crate::Dtype;
use crate::estimate::{Estimate, estimate};
use crate::fast::count_exponents;
use crate::model::Wanted;
use fused_rans_layout::{Packing, Split, TileGrid};
use half::bf16;
use rayon::prelude::*;

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
        let (mut step, wanted) = trial.search(self.bits);
        let mut rounded = trial.round_all(step);
        // The sample may not be like the rest. A step twice as large saves a bit.
        for _ in 0..2 {
            let counts = count_in_parallel(&rounded.weights);
            let found = trial.estimate(&counts, wanted).map_or(0.0, |found| found.bits - self.bits);
            let next = (step + found).clamp(*STEPS.start(), *STEPS.end());
            if found.abs() <= NEAR_ENOUGH || next == step {
                break;
            }
            step = next;
            rounded = trial.round_all(step);
        }
        Ok(Quantized { packing: wanted.packing, raw_bits: wanted.raw_bits, ..rounded })
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
        let stride = (rows * cols).div_ceil(sample);
        Ok(Self {
            source,
            options,
            factor: factor.transpose()?,
            rows: source.map_rows(&all, Row::of)?,
            sample: all.into_iter().step_by(stride).collect(),
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

    /// The step by which the sample takes `bits` bits a weight, or the finest or the coarsest if none does, and how
    /// its integers are to be coded.
    fn search(&self, bits: f64) -> (f64, Wanted) {
        let Options { packing, raw_bits, .. } = self.options;
        let four =
            (packing == Packing::Four).then(|| self.search_among(bits, &ways(packing, raw_bits)));
        // Not every distribution can be coded four a symbol.
        let near = four
            .flatten()
            .filter(|found| found.miss.abs() <= NEAR_ENOUGH && found.extra <= DEAREST);
        let found = near.or_else(|| self.search_among(bits, &ways(Packing::Two, raw_bits)));
        let found = found.expect("two a symbol can be coded, whatever they are");
        (found.step, found.way)
    }

    /// As [`Trial::search`], with one of these ways to code. `None` if no way can code what the step gives.
    fn search_among(&self, bits: f64, ways: &[Wanted]) -> Option<Found> {
        let smallest = |outcome: &Outcome| {
            let sizes = ways.iter().filter_map(|&way| self.estimate(&outcome.counts, way));
            sizes.map(|estimate| estimate.bits).min_by(f64::total_cmp)
        };
        // The smallest size falls steadily with the step; the cheapest way's jumps where another becomes the cheapest. So
        // the way is chosen near the step, and then the step for the way.
        // A normal distribution's entropy is 2.05 bits above the step's exponent.
        let (step, _) = self.step_for(bits, 2.2 - bits, smallest);
        let counts = self.outcome(step).counts;
        let (Estimate { cost, .. }, way) = self.cheapest(&counts, ways)?;
        let of_way =
            |outcome: &Outcome| self.estimate(&outcome.counts, way).map(|estimate| estimate.bits);
        let (step, miss) = self.step_for(bits, step, of_way);
        Some(Found { step, way, miss, extra: cost - bits })
    }

    /// The cheapest of these ways to code integers that occur in this proportion.
    fn cheapest(&self, counts: &[u64; 256], ways: &[Wanted]) -> Option<(Estimate, Wanted)> {
        let estimates = ways.iter().filter_map(|&way| Some((self.estimate(counts, way)?, way)));
        estimates.min_by(|(a, _), (b, _)| a.cost.total_cmp(&b.cost))
    }

    /// Bits a weight that the sample takes with `step`, coded in the cheapest way, and the sum of the squares of its errors.
    pub(super) fn point(&self, step: f64) -> (f64, f64) {
        let Options { packing, raw_bits, .. } = self.options;
        let Outcome { counts, error } = self.outcome(step);
        let found =
            [packing, Packing::Two].map(|packing| self.cheapest(&counts, &ways(packing, raw_bits)));
        let (estimate, _) = found.into_iter().flatten().next().expect("two a symbol can be coded");
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
        let (mut step, mut miss) = (first.clamp(low, high), 0.0);
        for _ in 0..TRIALS {
            miss = size(&self.outcome(step)).unwrap_or(0.0) - bits;
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
        (step, miss)
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
            batches.reduce(|| ([0; 256], 0.0), |(a, x), (b, y)| (sums(a, b), x + y));
        Outcome { counts, error }
    }

    /// All rows, rounded by `step`.
    fn round_all(&self, step: f64) -> Quantized {
        let (rows, cols) = (self.source.rows(), self.source.cols());
        let all: Vec<usize> = (0..rows).collect();
        let mut weights = vec![0; rows * cols];
        let batches = all.par_chunks(BATCH).zip(weights.par_chunks_mut(BATCH * cols));
        let scales: Vec<Vec<bf16>> =
            batches.map(|(rows, out)| self.round(rows, step, out).0).collect();
        let row_scales = Some(scales.into_iter().flatten().map(bf16::to_bits).collect());
        Quantized { row_scales, ..Quantized::new(self.source, Dtype::I8, weights) }
    }

    /// What a matrix takes whose integers occur in this proportion.
    fn estimate(&self, counts: &[u64; 256], way: Wanted) -> Option<Estimate> {
        let grid = TileGrid { rows: self.source.rows(), cols: self.source.cols() };
        estimate(way, grid, counts)
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
        row_scale(wanted.max(self.largest / LARGEST))
    }
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

fn count_in_parallel(weights: &[u8]) -> [u64; 256] {
    let chunks = weights.par_chunks(1 << 20).map(|chunk| count_exponents(Dtype::I8, chunk));
    chunks.reduce(|| [0; 256], sums)
}

fn sums(mut a: [u64; 256], b: [u64; 256]) -> [u64; 256] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}
