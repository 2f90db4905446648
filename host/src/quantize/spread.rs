//! An average rate, spread over many matrices.

use super::rate::{RATES, Trial};
use super::{NumberMatrix, Options, QuantizeError, Rate};

/// Steps at which bits and errors are measured, over the root mean square of a row, as exponents of 2: from 7.2 bits a
/// weight of a normal distribution to 1.7.
const STEPS: (f64, f64) = (-5.0, 0.5);
/// How many.
const POINTS: u32 = 12;
/// Bits by which points differ at least.
const CLOSE: f64 = 0.05;
/// How often the interval of a search is halved.
const HALVINGS: usize = 60;

/// The error of a matrix over the bits that it takes: on a sample of it, relative to its numbers, or to their outputs if
/// moments of the inputs are known.
#[derive(Clone, Debug)]
pub struct Curve {
    weights: f64,
    /// Bits a weight, ascending, and the logarithm of the error there.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The curve of `source`.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`](super::Quantizer::quantize).
    pub fn of(source: NumberMatrix<'_>, options: Options<'_>) -> Result<Self, QuantizeError> {
        let mut trial = Trial::new(source, options)?;
        let mut energy = trial.energy();
        if options.moments.is_some() && energy <= 0.0 {
            // Inputs that were never seen are not worth nothing.
            trial = Trial::new(source, Options { moments: None, ..options })?;
            energy = trial.energy();
        }
        let stride = (STEPS.1 - STEPS.0) / f64::from(POINTS - 1);
        let point = |n| {
            let (bits, error) = trial.point(STEPS.1 - stride * f64::from(n));
            (bits, (error / energy).max(f64::MIN_POSITIVE).ln())
        };
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (bits, error) in (0..POINTS).map(point) {
            // Finer steps do not always give more bits: not where no number is clipped for them.
            if points.last().is_none_or(|&(last, _)| bits > last + CLOSE) {
                points.push((bits, error));
            }
        }
        let weights = source.rows() as f64 * source.cols() as f64;
        Ok(Self { weights, points })
    }

    /// This curve, of a matrix whose error counts `weight` times.
    #[must_use]
    pub fn weighted(mut self, weight: f64) -> Self {
        self.points.iter_mut().for_each(|(_, error)| *error += weight.ln());
        self
    }

    /// The rate at which a bit more for each weight, shared among all weights, would lessen the error by `gain`.
    fn rate(&self, gain: f64) -> f64 {
        let (mut low, mut high) = (*RATES.start(), *RATES.end());
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            *(if self.gain(middle) > gain { &mut low } else { &mut high }) = middle;
        }
        f64::midpoint(low, high)
    }

    /// By how much the error falls, for each bit that all weights together take more.
    fn gain(&self, bits: f64) -> f64 {
        // Of a matrix that takes the same bits whatever the step is.
        let Some(last) = self.points.len().checked_sub(2) else { return 0.0 };
        let segment = self.points[1..].iter().position(|&(end, _)| bits < end).unwrap_or(last);
        let [(left, at_left), (right, at_right)] = [self.points[segment], self.points[segment + 1]];
        let slope = (at_right - at_left) / (right - left);
        -slope * (at_left + slope * (bits - left)).exp() / self.weights
    }
}

/// The rates of matrices with these curves whose average, by weights, is `average` and for which the sum of the errors is
/// least: where a bit more would lessen that by the same for each. (Reverse water-filling.)
#[must_use]
pub fn spread(curves: &[Curve], average: Rate) -> Vec<Rate> {
    let total: f64 = curves.iter().map(|curve| curve.weights).sum();
    let mean = |gain: f64| {
        let bits = curves.iter().map(|curve| curve.weights * curve.rate(gain.exp()));
        bits.sum::<f64>() / total
    };
    // Of logarithms, as errors range over many powers of ten.
    let (mut low, mut high) = (f64::MIN_POSITIVE.ln(), f64::MAX.ln());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *(if mean(middle) > average.bits() { &mut low } else { &mut high }) = middle;
    }
    let gain = f64::midpoint(low, high).exp();
    let clamp = |bits: f64| bits.clamp(*RATES.start(), *RATES.end());
    let rates = curves.iter().map(|curve| Rate::new(clamp(curve.rate(gain))));
    rates.map(|rate| rate.expect("it was put into range")).collect()
}
