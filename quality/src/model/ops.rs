//! The operations between matrix products, on slices and on one thread: every window is computed by a thread of its own.

use multiversion::multiversion;

/// Number of partial sums of a reduction: fills vector registers.
const LANES: usize = 16;

/// Compiles a function for AVX-512, for AVX2 and for any CPU; each call chooses.
macro_rules! vectorized {
    ($function:item) => {
        #[multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi1+bmi2+lzcnt",
            "x86_64+avx2+bmi1+bmi2+lzcnt"
        ))]
        $function
    };
}

vectorized! {
    /// Adds `change` to `values`.
    pub fn add(values: &mut [f32], change: &[f32]) {
        for (value, change) in values.iter_mut().zip(change) {
            *value += change;
        }
    }
}

vectorized! {
    /// RMSNorm: divides each row by its root mean square and multiplies it by `weight`.
    pub fn rms_norm(rows: &mut [f32], weight: &[f32], eps: f32) {
        for row in rows.chunks_exact_mut(weight.len()) {
            let mut squares = [0.0; LANES];
            for values in row.chunks(LANES) {
                for (sum, &value) in squares.iter_mut().zip(values) {
                    *sum += value * value;
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "no row is that long")]
            let mean = squares.iter().sum::<f32>() / row.len() as f32;
            let scale = 1.0 / (mean + eps).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value *= scale * weight;
            }
        }
    }
}

/// The rotary embedding's rotations at each position.
pub struct Rotary {
    half: usize,
    /// Cosine and sine of each angle, `[positions, half]`.
    rotations: Vec<(f32, f32)>,
}

impl Rotary {
    /// Computes the rotations of positions 0 to `positions - 1` for heads of `head_dim` values.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "small numbers"
    )]
    pub fn new(positions: usize, head_dim: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|i| theta.powf(-(2.0 * i as f64) / head_dim as f64)).collect();
        let rotation = |position: usize, frequency: f64| {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            (cos as f32, sin as f32)
        };
        let rotations = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |&f| rotation(position, f)))
            .collect();
        Self { half, rotations }
    }

    /// Rotates the heads of `values`, `[positions, heads, head_dim]`. As in Hugging Face's models, value `i` of a head's first
    /// half forms a pair with value `i` of its second half.
    pub fn rotate(&self, values: &mut [f32], heads: usize) {
        let positions = values.chunks_exact_mut(heads * 2 * self.half);
        for (values, rotations) in positions.zip(self.rotations.chunks_exact(self.half)) {
            for head in values.chunks_exact_mut(2 * self.half) {
                let (first, second) = head.split_at_mut(self.half);
                for ((a, b), &(cos, sin)) in first.iter_mut().zip(second).zip(rotations) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

vectorized! {
    /// Causal softmax over rows of `queries` scores, which are multiplied by `scale` first. Row `t` of every `queries` rows sees
    /// its first `t + 1` scores; the others become 0.
    pub fn causal_softmax(scores: &mut [f32], queries: usize, scale: f32) {
        for (row, scores) in scores.chunks_exact_mut(queries).enumerate() {
            let (seen, unseen) = scores.split_at_mut(row % queries + 1);
            unseen.fill(0.0);
            let max = largest(seen);
            for score in seen.iter_mut() {
                *score = exp((*score - max) * scale);
            }
            let sum = 1.0 / sum(seen);
            for score in seen {
                *score *= sum;
            }
        }
    }
}

vectorized! {
    /// SwiGLU: replaces each value of `gate` by its SiLU times the value of `up`.
    pub fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate *= up / (1.0 + exp(-*gate));
        }
    }
}

vectorized! {
    /// Returns the logarithm of the sum of the exponentials of `logits`.
    pub fn log_sum_exp(logits: &[f32]) -> f64 {
        /// Number of logits that are summed in F32 before their sum is added to one in F64.
        const PART: usize = 1024;
        let max = largest(logits);
        let mut total = 0.0;
        for part in logits.chunks(PART) {
            let mut sums = [0.0; LANES];
            for values in part.chunks(LANES) {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += exp(value - max);
                }
            }
            total += f64::from(sums.iter().sum::<f32>());
        }
        f64::from(max) + total.ln()
    }
}

/// Returns the largest of `values`, NaNs ignored.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for values in values.chunks(LANES) {
        for (largest, &value) in largest.iter_mut().zip(values) {
            *largest = if value > *largest { value } else { *largest };
        }
    }
    largest.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Returns the sum of `values`.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for values in values.chunks(LANES) {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

/// Returns e^x within 2 units in the last place. Loops inline and vectorize this function, unlike that of the standard
/// library.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has few bits, so that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Below -87, 2^n is not a normal number; above 88, the result is infinite.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // Taylor series: since |r| <= ln 2 / 2, the first omitted term is below 1e-8.
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + term;
    }
    series * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for i in -87_000..=88_000_i32 {
            let x = i as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2.5e-7, "exp({x}) = {found}, not {expected}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rms_norm_brings_rows_to_a_root_mean_square_of_one() {
        let mut rows = [3.0, 4.0, 0.0, 0.0, -1.0, 1.0, -1.0, 1.0];
        rms_norm(&mut rows, &[1.0, 1.0, 1.0, 2.0], 0.0);
        // sqrt((9 + 16) / 4) = 2.5
        let expected = [1.2, 1.6, 0.0, 0.0, -1.0, 1.0, -1.0, 2.0];
        for (found, expected) in rows.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{rows:?}");
        }
        let mut zeros = [0.0; 4];
        rms_norm(&mut zeros, &[1.0; 4], 1e-5);
        assert_eq!(zeros, [0.0; 4]);
    }

    #[test]
    fn products_of_rotated_heads_depend_on_their_distance_only() {
        let (query, key) = ([0.3, -1.2, 0.7, 2.0], [1.1, 0.4, -0.6, 0.9]);
        let rotary = Rotary::new(32, 4, 100.0);
        let at = |head: [f32; 4], position: usize| {
            let mut values = [head; 32].concat();
            rotary.rotate(&mut values, 1);
            values[4 * position..][..4].to_vec()
        };
        let product = |q: usize, k: usize| -> f32 {
            at(query, q).iter().zip(at(key, k)).map(|(a, b)| a * b).sum()
        };
        assert!((product(5, 2) - product(30, 27)).abs() < 1e-5);
        assert!((product(5, 2) - product(5, 3)).abs() > 1e-2);
        assert_eq!(at(query, 0), query);
    }

    #[test]
    fn softmax_sees_nothing_ahead() {
        let mut scores = [1.0, 9.0, 1.0, 2.0, 0.5, 7.0, 3.0, 3.0];
        causal_softmax(&mut scores, 2, 0.5);
        let odds = |a: f32| 1.0 / (1.0 + (0.5 * a).exp());
        let expected = [1.0, 0.0, odds(1.0), odds(-1.0), 1.0, 0.0, 0.5, 0.5];
        for (found, expected) in scores.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn log_sum_exp_of_large_logits_is_finite() {
        let logits: Vec<f32> = (0..5000).map(|i| 300.0 + (i % 7) as f32).collect();
        let expected: f64 = logits.iter().map(|&x| f64::from(x - 300.0).exp()).sum();
        assert!((log_sum_exp(&logits) - 300.0 - expected.ln()).abs() < 1e-6);
        assert!((log_sum_exp(&[0.0; 3]) - 3.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn swiglu_is_silu_times_up() {
        let mut gate = [-2.0, 0.0, 3.0];
        swiglu(&mut gate, &[1.0, 5.0, -2.0]);
        let silu = |x: f32| x / (1.0 + (-x).exp());
        for (found, expected) in gate.iter().zip([silu(-2.0), 0.0, -2.0 * silu(3.0)]) {
            assert!((found - expected).abs() < 1e-5, "{gate:?}");
        }
    }
}
