//! Where a search for a step is, and what it comes to.

use crate::codec::coding_model::CodingRequest;
use std::cmp::Ordering;

/// Steps that are tried, over the root mean square of a row, as exponents of 2: up to where nearly all weights are 0.
const STEPS: std::ops::RangeInclusive<f64> = -8.0..=2.0;
/// How near the whole matrix has to be, or steps are tried once more.
pub(super) const NEAR_ENOUGH: f64 = 0.02;
/// Bits a weight by which a matrix may be above the rate.
pub(super) const MOST_ABOVE: f64 = 0.05;

/// What a search comes to.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) step: f64,
    pub(super) way: CodingRequest,
    /// Bits a weight by which the rate is missed.
    pub(super) miss: f64,
    /// Bits a weight that the exceptions count for, beyond those that they take.
    pub(super) extra: f64,
    /// The share of the weights that take more than a byte.
    pub(super) wide: f64,
    /// Sum of the squares of the errors, of the sample or of the whole matrix.
    pub(super) error: f64,
}

impl Found {
    /// What errors, bits and exceptions count for.
    pub(super) fn cost(&self) -> f64 {
        log2(self.error) + cost(self.miss, self.extra)
    }

    /// Ways of many raw bits may take too much, whatever the step is.
    pub(super) fn is_small_enough(&self) -> bool {
        self.miss <= NEAR_ENOUGH
    }

    /// What is worth more first; what is small enough before what is not.
    pub(super) fn by_worth(&self, other: &Self) -> Ordering {
        let larger = other.is_small_enough().cmp(&self.is_small_enough());
        larger.then(self.cost().total_cmp(&other.cost()))
    }

    /// As [`Found::by_worth`], of what whole matrices take.
    pub(super) fn by_worth_met(&self, other: &Self) -> Ordering {
        let larger = (self.miss > MOST_ABOVE).cmp(&(other.miss > MOST_ABOVE));
        larger.then(self.cost().total_cmp(&other.cost()))
    }
}

/// What bits, and exceptions that count for `extra`, are worth, as a logarithm of errors: a bit a factor of 4, exceptions a
/// fourth of what they count for, as errors would else grow with the rate where another way becomes the better one.
pub(super) fn cost(bits: f64, extra: f64) -> f64 {
    2.0 * bits + 0.5 * extra
}

/// Steps between which the one is that takes so many bits.
pub(super) struct Between {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Default for Between {
    fn default() -> Self {
        Self { low: *STEPS.start(), high: *STEPS.end() }
    }
}

impl Between {
    /// The step to be tried after `step`, which took `miss` bits too many.
    pub(super) fn after(&mut self, step: f64, miss: f64) -> f64 {
        *(if miss > 0.0 { &mut self.low } else { &mut self.high }) = step;
        // A step twice as large saves a bit.
        let next = step + miss;
        if next <= self.low || next >= self.high {
            return f64::midpoint(self.low, self.high);
        }
        next
    }
}

/// How bad it is to miss a rate by so many bits. Fewer are better than more, but for a few.
pub(super) fn badness(miss: f64) -> f64 {
    if miss > MOST_ABOVE { 16.0 + miss } else { miss.abs() }
}

/// Of an error, which may be 0.
fn log2(error: f64) -> f64 {
    error.max(f64::MIN_POSITIVE).log2()
}
