//! Rounding in which each weight corrects for the errors of those before it.
//!
//! Let a row of weights w be rounded to v, and let H be the second moments of the inputs. The mean squared error of the
//! output is `(w - v) H (w - v)^T`. With `H = R R^T`, R upper triangular, and `e = w - v`, it is the squared length of
//! `e R`: the sum over k of
//!
//! ```text
//! (sum of e[j] R[j][k] for j <= k)^2 = R[k][k]^2 (w[k] + sum of e[j] R[j][k] / R[k][k] for j < k - v[k])^2
//! ```
//!
//! So the best v[k], given all v before it, is the integer nearest to `w[k] + sum of e[j] R[j][k] / R[k][k]`. (This is
//! Babai's nearest plane; Frantar et al., "GPTQ", 2023, compute the same from the inverse of H.)

use crate::quantize::moments::Factor;
use crate::quantize::rounding::large_integer;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Weights of a row that are rounded before their errors are added to all that follow, by one matrix product.
const BLOCK_WEIGHTS: usize = 64;

/// Rounds consecutive rows of `weights` to integers, with one step per row. Returns the sum of the squared errors of the
/// outputs.
pub(super) fn round_rows(factor: &Factor, weights: &[f32], steps: &[f32], out: &mut [i16]) -> f64 {
    let (rows, inputs) = (steps.len(), factor.order.len());
    let mut errors = vec![0.0f32; rows * inputs];
    let mut corrections = vec![0.0f32; rows * BLOCK_WEIGHTS];
    let mut sum = 0.0;
    for first in (0..inputs).step_by(BLOCK_WEIGHTS) {
        let width = BLOCK_WEIGHTS.min(inputs - first);
        let corrections = &mut corrections[..rows * width];
        correct(factor, &errors, first, width, corrections);
        for (row, corrections) in corrections.chunks_exact_mut(width).enumerate() {
            let range = row * inputs..(row + 1) * inputs;
            let block = Block { factor, first, step: steps[row] };
            let errors = &mut errors[range.clone()][first..][..width];
            sum += block.round(&weights[range.clone()], corrections, errors, &mut out[range]);
        }
    }
    sum
}

/// Computes what the errors before place `first` add to the `width` weights from there on: errors times ratios.
fn correct(factor: &Factor, errors: &[f32], first: usize, width: usize, corrections: &mut [f32]) {
    let inputs = factor.order.len();
    let rows = corrections.len() / width;
    let errors = MatRef::from_row_major_slice(errors, rows, inputs).subcols(0, first);
    let ratios = MatRef::from_row_major_slice(&factor.ratios, inputs, inputs);
    let ratios = ratios.submatrix(0, first, first, width);
    let corrections = MatMut::from_row_major_slice_mut(corrections, rows, width);
    matmul(corrections, Accum::Replace, errors, ratios, 1.0, Par::Seq);
}

/// Consecutive weights of a row, in the factor's order.
struct Block<'a> {
    factor: &'a Factor,
    /// Place of the first weight in the factor's order.
    first: usize,
    step: f32,
}

impl Block<'_> {
    /// Rounds the weights one after another. `corrections` are what errors before the block add to each weight; `errors`
    /// receives those of the block. Returns the sum of the squared errors of the outputs.
    fn round(
        &self,
        weights: &[f32],
        corrections: &mut [f32],
        errors: &mut [f32],
        out: &mut [i16],
    ) -> f64 {
        let inputs = self.factor.order.len();
        let mut sum = 0.0;
        for n in 0..corrections.len() {
            let place = self.first + n;
            let input = self.factor.order[place];
            let target = weights[input] + corrections[n];
            let integer = large_integer(target, self.step);
            out[input] = integer;
            let value = (self.step * f32::from(integer)).clamp(f32::MIN, f32::MAX);
            errors[n] = weights[input] - value;
            sum += (self.factor.diagonal[place] * f64::from(target - value)).powi(2);
            let ratios = &self.factor.ratios[place * inputs + self.first..];
            let error = errors[n];
            for (correction, ratio) in corrections.iter_mut().zip(ratios).skip(n + 1) {
                *correction += error * ratio;
            }
        }
        sum
    }
}
