//! Axes with round numbers at their ends and ticks.

use std::ops::RangeInclusive;

/// Smallest range of an axis in bits per weight. A smaller one would exaggerate differences of a hundredth of a bit.
const MIN_SPAN: f64 = 1.0;

/// An axis of bits per weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BitAxis {
    /// Bits per weight between two ticks.
    step: f64,
    /// Ends of the axis, in steps.
    low: f64,
    high: f64,
}

impl BitAxis {
    /// Returns an axis that contains `values`, with about `ticks` steps at most.
    pub(super) fn over(values: impl Iterator<Item = f64>, ticks: f64) -> Self {
        let (min, max) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let (min, max) = if min <= max { (min, max) } else { (0.0, 0.0) };
        let short = (MIN_SPAN - (max - min)).max(0.0);
        let min = (min - short / 2.0).max(0.0);
        let max = max.max(min + MIN_SPAN);
        let step = round_step((max - min) / ticks);
        let (low, high) = ((min / step).floor(), (max / step).ceil());
        Self { step, low, high: high.max(low + 1.0) }
    }

    /// Returns the lower end in bits per weight.
    pub(super) fn low(&self) -> f64 {
        self.low * self.step
    }

    /// Returns the upper end in bits per weight.
    pub(super) fn high(&self) -> f64 {
        self.high * self.step
    }

    /// Returns the values of all ticks, both ends included.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let next = |at: &f64| Some(at + 1.0);
        let steps = std::iter::successors(Some(self.low), next);
        steps.take_while(|at| *at <= self.high).map(|at| at * self.step).collect()
    }

    /// Formats the value of a tick with as many decimals as the step needs.
    pub(super) fn tick_label(&self, value: f64) -> String {
        if self.step < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") }
    }
}

/// Returns the smallest of 0.1, 0.2, 0.5, 1, 2, 5, 10, ... that is at least `least`.
fn round_step(least: f64) -> f64 {
    let mut unit = 0.1;
    loop {
        let step = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * unit).find(|s| *s >= least);
        match step {
            Some(step) => return step,
            None => unit *= 10.0,
        }
    }
}

/// Returns the layers to label: multiples of a round number, about `count` at most.
pub(super) fn layer_ticks(layers: RangeInclusive<u32>, count: u32) -> Vec<u32> {
    let (low, high) = layers.into_inner();
    let units = std::iter::successors(Some(1_u32), |unit| unit.checked_mul(10));
    let mut steps = units.flat_map(|unit| [1, 2, 5].map(|factor| unit.saturating_mul(factor)));
    let step = steps.find(|step| (high - low) / step < count).unwrap_or(u32::MAX);
    (low.div_ceil(step)..=high / step).map(|tick| tick * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> BitAxis {
        BitAxis::over(values.iter().copied(), 5.0)
    }

    #[test]
    fn axes_hold_their_values_between_round_numbers() {
        for values in [&[3.1, 4.9, 11.2][..], &[10.91, 10.92], &[0.0], &[64.0, 0.01], &[]] {
            let axis = axis(values);
            let ticks = axis.ticks();
            assert!((2..=8).contains(&ticks.len()), "{values:?}: {ticks:?}");
            assert!(axis.low() >= 0.0 && axis.high() - axis.low() > 0.99, "{axis:?}");
            for value in values {
                assert!((axis.low()..=axis.high()).contains(value), "{value} in {axis:?}");
            }
            let first = axis.tick_label(ticks[0]).parse::<f64>().unwrap();
            assert!((first - axis.low()).abs() < 1e-9);
        }
        assert_eq!(axis(&[2.0, 6.0]).ticks(), [2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn layers_are_numbered_in_round_steps() {
        assert_eq!(layer_ticks(0..=2, 5), [0, 1, 2]);
        assert_eq!(layer_ticks(0..=29, 5), [0, 10, 20]);
        assert_eq!(layer_ticks(3..=79, 5), [20, 40, 60]);
        assert_eq!(layer_ticks(7..=7, 5), [7]);
        assert!(layer_ticks(0..=99_999, 5).len() <= 6);
    }
}
