//! Rounds numbers to NormalFloat4, the format of QLoRA, as a baseline.
//!
//! Tim Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, section 3 and appendix E. NF4 divides each
//! block of 64 numbers by their largest magnitude and rounds the quotients to the nearest of 16 levels. Here the magnitude is
//! stored in FP16, without the paper's double quantization: 4.25 bits per weight.

use half::f16;
use rayon::prelude::*;

/// Number of consecutive numbers of a row that share a scale.
pub const BLOCK: usize = 64;

/// The levels, as listed in appendix E of the paper: seven quantiles of the negative half of a normal distribution, 0, and
/// eight quantiles of the positive half.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Returns the bits per weight of rows of `cols` weights.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "no row is that long")]
pub fn bits(cols: usize) -> f64 {
    4.0 + (16 * cols.div_ceil(BLOCK)) as f64 / cols.max(1) as f64
}

/// Rounds `numbers`, rows of `cols` each, to NF4.
pub fn round(numbers: &mut [f32], cols: usize) {
    numbers.par_chunks_mut(cols.max(1)).for_each(|row| row.chunks_mut(BLOCK).for_each(round_block));
}

fn round_block(block: &mut [f32]) {
    let largest = block.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let scale = f16::from_f32(largest).to_f32();
    for number in block {
        // The scale is too small for FP16: all numbers become 0.
        *number = if scale == 0.0 { 0.0 } else { scale * nearest(*number / scale) };
    }
}

/// Returns the level nearest to `number`.
fn nearest(number: f32) -> f32 {
    let above = LEVELS.windows(2).filter(|pair| number > f32::midpoint(pair[0], pair[1])).count();
    LEVELS[above]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    /// Returns the probability that a normal number lies between 0 and `x`, by Simpson's rule.
    fn probability(x: f64) -> f64 {
        const STEPS: i32 = 2000;
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let step = x / f64::from(STEPS);
        let weight = |i: i32| if i == 0 || i == STEPS { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        (0..=STEPS).map(|i| weight(i) * density(step * f64::from(i))).sum::<f64>() * step / 3.0
    }

    /// Each half's levels are evenly spaced quantiles up to the mean of 1 - 1/32 and 1 - 1/30, divided by the largest one.
    #[test]
    fn levels_are_quantiles_of_a_normal_distribution() {
        let last = 0.5 - f64::midpoint(1.0 / 32.0, 1.0 / 30.0);
        let (mut low, mut high) = (1.0, 3.0);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            *(if probability(middle) < last { &mut low } else { &mut high }) = middle;
        }
        let zero = LEVELS.iter().position(|&level| level == 0.0).unwrap();
        let (negative, positive) = LEVELS.split_at(zero);
        for half in [negative.iter().rev().copied().collect(), positive[1..].to_vec()] {
            for (i, level) in half.iter().enumerate() {
                let expected = last * (i + 1) as f64 / half.len() as f64;
                let found = probability(f64::from(level.abs()) * low);
                assert!((found - expected).abs() < 1e-6, "{level}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn numbers_become_the_nearest_level_of_their_block() {
        const COLS: usize = 150;
        let numbers: Vec<f32> = tiny::noise(1, 3 * COLS).iter().map(|x| x * x * x).collect();
        let mut rounded = numbers.clone();
        round(&mut rounded, COLS);
        let rows = numbers.chunks(COLS).zip(rounded.chunks(COLS));
        for (numbers, rounded) in rows.flat_map(|(a, b)| a.chunks(BLOCK).zip(b.chunks(BLOCK))) {
            let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let scale = f16::from_f32(largest).to_f32();
            for (number, rounded) in numbers.iter().zip(rounded) {
                let distances = LEVELS.map(|level| (number - scale * level).abs());
                let least = distances.into_iter().fold(f32::INFINITY, f32::min);
                assert!(((number - rounded).abs() - least).abs() < 1e-6 * scale);
                assert!(LEVELS.iter().any(|level| scale * level == *rounded));
            }
        }
        let mut zeros = [0.0, 1e-30, -0.0];
        round(&mut zeros, 3);
        assert_eq!(zeros, [0.0; 3]);
    }

    #[test]
    fn every_block_has_a_scale() {
        assert_eq!(bits(576), 4.25);
        assert_eq!(bits(65), 4.0 + 32.0 / 65.0);
    }
}
