//! Shares an average rate among many matrices.

use super::trial::Trial;
use super::{Rate, SUPPORTED_BITS};
use crate::quantize::{NumberMatrix, QuantizeError, QuantizeOptions};

/// Steps at which a curve is measured, as log2 of their ratio to a row's root mean square. For a normal distribution they
/// range from 7.2 bits per weight to 1.7.
const CURVE_STEPS_LOG2: (f64, f64) = (-5.0, 0.5);
/// Number of steps at which a curve is measured.
const CURVE_POINTS: u32 = 12;
/// Least distance of two points of a curve, in bits per weight. Closer ones would give slopes of noise.
const MIN_POINT_DISTANCE_BITS: f64 = 0.05;
/// How often a search halves its interval: down to the precision of F64.
const HALVINGS: usize = 60;

/// The squared error of a matrix as a function of its bits per weight, measured on a sample of its rows.
///
/// The error is relative: to the squares of the outputs if moments of the inputs are known, else to those of the numbers.
/// Use curves to share an average rate among the layers of a model with [`share_rate`].
#[derive(Clone, Debug)]
pub struct RateCurve {
    weights: f64,
    /// Bits per weight, ascending, and the natural logarithm of the error there.
    points: Vec<(f64, f64)>,
}

impl RateCurve {
    /// Measures the curve of `source`. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// The errors of [`Quantizer::quantize`](crate::quantize::Quantizer::quantize), but
    /// [`QuantizeError::Unreachable`].
    pub fn new(
        source: NumberMatrix<'_>,
        options: QuantizeOptions<'_>,
    ) -> Result<Self, QuantizeError> {
        let mut trial = Trial::new(source, options)?;
        let mut energy = trial.energy();
        if options.moments.is_some() && energy <= 0.0 {
            // The calibration never saw these inputs, which does not make them worthless: all weights count alike.
            trial = Trial::new(source, QuantizeOptions { moments: None, ..options })?;
            energy = trial.energy();
        }
        let stride = (CURVE_STEPS_LOG2.1 - CURVE_STEPS_LOG2.0) / f64::from(CURVE_POINTS - 1);
        let point = |n| {
            let (bits, error) = trial.bits_and_error(CURVE_STEPS_LOG2.1 - stride * f64::from(n));
            (bits, (error / energy).max(f64::MIN_POSITIVE).ln())
        };
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (bits, error) in (0..CURVE_POINTS).map(point) {
            // A finer step need not take more bits, for example where a row's largest number limits its scale.
            if points.last().is_none_or(|&(last, _)| bits > last + MIN_POINT_DISTANCE_BITS) {
                points.push((bits, error));
            }
        }
        let weights = source.rows() as f64 * source.cols() as f64;
        Ok(Self { weights, points })
    }

    /// Multiplies the error by `weight`. Use it for layers whose errors matter more, or less, than those of others.
    ///
    /// # Errors
    /// [`QuantizeError::InvalidWeight`] for a weight that is not above 0 and finite.
    pub fn weighted(mut self, weight: f64) -> Result<Self, QuantizeError> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(QuantizeError::InvalidWeight(weight));
        }
        self.points.iter_mut().for_each(|(_, error)| *error += weight.ln());
        Ok(self)
    }

    /// Returns the rate at which one bit more reduces the error by `gain`.
    fn rate(&self, gain: f64) -> f64 {
        let (mut low, mut high) = (*SUPPORTED_BITS.start(), *SUPPORTED_BITS.end());
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            *(if self.gain(middle) > gain { &mut low } else { &mut high }) = middle;
        }
        f64::midpoint(low, high)
    }

    /// Returns by how much the error falls for each bit that the whole matrix takes more.
    ///
    /// Between two points, the logarithm of the error is a line; beyond the ends, the nearest line continues.
    fn gain(&self, bits: f64) -> f64 {
        // A matrix that takes the same bits with any step has one point only.
        let Some(last) = self.points.len().checked_sub(2) else { return 0.0 };
        let segment = self.points[1..].iter().position(|&(end, _)| bits < end).unwrap_or(last);
        let [(left, at_left), (right, at_right)] = [self.points[segment], self.points[segment + 1]];
        let slope = (at_right - at_left) / (right - left);
        -slope * (at_left + slope * (bits - left)).exp() / self.weights
    }
}

/// Shares `average` bits per weight among matrices with these curves, so that the sum of their errors is least.
///
/// At the minimum, one bit more reduces the error of each matrix by the same amount (reverse water-filling). The average
/// is over weights, not matrices. Rates stay within 2 to 7 bits.
#[must_use]
pub fn share_rate(curves: &[RateCurve], average: Rate) -> Vec<Rate> {
    let total: f64 = curves.iter().map(|curve| curve.weights).sum();
    let mean = |gain: f64| {
        let bits = curves.iter().map(|curve| curve.weights * curve.rate(gain.exp()));
        bits.sum::<f64>() / total
    };
    // The logarithm of the gain is bisected, because errors range over many powers of ten.
    let (mut low, mut high) = (f64::MIN_POSITIVE.ln(), f64::MAX.ln());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *(if mean(middle) > average.bits() { &mut low } else { &mut high }) = middle;
    }
    let gain = f64::midpoint(low, high).exp();
    let clamp = |bits: f64| bits.clamp(*SUPPORTED_BITS.start(), *SUPPORTED_BITS.end());
    let rates = curves.iter().map(|curve| Rate::new(clamp(curve.rate(gain))));
    rates.map(|rate| rate.expect("it was clamped to the supported bits")).collect()
}
