//! Uniform steps, as fine as a number of bits per weight allows.
//!
//! Every row has one step: its root mean square times a power of 2 that all rows share. [`Rate::quantize`] looks for that
//! power in three phases:
//!
//! 1. `search` tries steps on a sample of rows (`trial`). It estimates the size of the blob from how often each integer
//!    occurs (`size`), and ranks the ways to code the integers by size, error and decode time.
//! 2. `search` may then limit how many integers of a row may take more than a byte, because each costs decode time.
//! 3. `whole_matrix` rounds all rows with the best candidates, measures the size, and corrects the step.

mod feedback;
mod rows;
mod search;
mod share;
mod size;
mod trial;
mod whole_matrix;

pub use share::{RateCurve, share_rate};

use super::quantized::Quantized;
use super::{NumberMatrix, QuantizeError, QuantizeOptions};
use search::{MATRIX_TOLERANCE_BITS, MAX_EXCESS_BITS};
use std::fmt;
use std::ops::RangeInclusive;
use trial::Trial;

/// Bits per weight that a caller may request.
const SUPPORTED_BITS: RangeInclusive<f64> = 2.0..=7.0;
/// Largest share of large integers with which a rate is met. Above it the result may stay below the rate, because the
/// decode time of more exceptions is worth more than the bits.
const MAX_LARGE_INTEGER_SHARE: f64 = 1.0 / 64.0;
/// Bits per weight, beyond [`MAX_EXCESS_BITS`], that the padding of tiles to whole lines may add before a rate counts as
/// unreachable.
const MAX_PADDING_BITS: f64 = 0.1;

/// A number of bits per weight, from 2 to 7, that counts everything a blob stores: codes, tables, scales, checksums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    bits: f64,
}

impl Rate {
    /// Checks that `bits` bits per weight are a supported rate.
    ///
    /// # Errors
    /// [`QuantizeError::RateOutOfRange`] for a number outside 2 to 7.
    pub fn new(bits: f64) -> Result<Self, QuantizeError> {
        if SUPPORTED_BITS.contains(&bits) {
            Ok(Self { bits })
        } else {
            Err(QuantizeError::RateOutOfRange(bits))
        }
    }

    /// Returns the bits per weight.
    #[must_use]
    pub fn bits(self) -> f64 {
        self.bits
    }

    /// Quantizes `source` so that its blob takes this many bits per weight.
    pub(super) fn quantize(
        self,
        source: NumberMatrix<'_>,
        options: QuantizeOptions<'_>,
    ) -> Result<Quantized, QuantizeError> {
        let mut trial = Trial::new(source, options)?;
        let unlimited = trial.search(self.bits);
        let candidates = trial.limit_large_integers(self.bits, &unlimited)?;
        let (mut quantized, mut result) = trial.round_best(self.bits, &candidates);
        if result.excess_bits < -MATRIX_TOLERANCE_BITS
            && trial.limits_large_integers()
            && unlimited[0].large_integer_share <= MAX_LARGE_INTEGER_SHARE
        {
            // The limit suits the sample, but makes the steps of other rows so coarse that bits are left unused.
            trial.allow_large_integers(1)?;
            (quantized, result) = trial.round_best(self.bits, &unlimited);
        }
        if result.excess_bits.is_infinite() {
            return Err(QuantizeError::TooSmall { rows: source.rows(), cols: source.cols() });
        }
        if result.excess_bits > MAX_EXCESS_BITS + trial.line_bits().min(MAX_PADDING_BITS) {
            let found = self.bits + result.excess_bits;
            return Err(QuantizeError::Unreachable { asked: self.bits, found });
        }
        Ok(quantized)
    }
}

impl fmt::Display for Rate {
    /// Writes the bits per weight as a plain number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bits.fmt(f)
    }
}
