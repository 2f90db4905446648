//! Rounding that makes up for its errors.
//!
//! The outputs' mean square error of a row of weights w that becomes v is `(w - v) H (w - v)^T`, H being the second
//! moments of the inputs. With `H = R R^T`, R upper triangular, it is the square of `e R`, `e = w - v`: the sum over k of
//!
//! ```text
//! (sum of e[j] R[j][k] for j <= k)^2 = R[k][k]^2 (w[k] + sum of e[j] R[j][k] / R[k][k] for j < k - v[k])^2
//! ```
//!
//! so that each weight in turn is best rounded from where the errors before it have moved it to. (Babai's nearest plane;
//! Frantar et al., "GPTQ", 2023, compute the same from the inverse of H.)

use super::calibration::Factor;
use super::round::large_integer;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Weights of a row that are rounded before their errors are brought to all that follow.
const BLOCK: usize = 64;

/// Rounds the rows of `weights`, one behind the other, to multiples of each one's step; returns the sum of the
/// squares of the rows' errors in the outputs.
pub(super) fn round_rows(factor: &Factor, weights: &[f32], steps: &[f32], out: &mut [i16]) -> f64 {
    let (rows, inputs) = (steps.len(), factor.order.len());
    let mut errors = vec![0.0f32; rows * inputs];
    let mut carried = vec![0.0f32; rows * BLOCK];
    let mut sum = 0.0;
    for first in (0..inputs).step_by(BLOCK) {
        let width = BLOCK.min(inputs - first);
        let carried = &mut carried[..rows * width];
        carry(factor, &errors, first, width, carried);
        for (row, carried) in carried.chunks_exact_mut(width).enumerate() {
            let line = row * inputs..(row + 1) * inputs;
            let block = Block { factor, first, step: steps[row] };
            let errors = &mut errors[line.clone()][first..][..width];
            sum += block.round(&weights[line.clone()], carried, errors, &mut out[line]);
        }
    }
    sum
}

/// What the errors before column `first` add to the `width` columns from there on.
fn carry(factor: &Factor, errors: &[f32], first: usize, width: usize, carried: &mut [f32]) {
    let inputs = factor.order.len();
    let rows = carried.len() / width;
    let errors = MatRef::from_row_major_slice(errors, rows, inputs).subcols(0, first);
    let ratios = MatRef::from_row_major_slice(&factor.ratios, inputs, inputs);
    let ratios = ratios.submatrix(0, first, first, width);
    let carried = MatMut::from_row_major_slice_mut(carried, rows, width);
    matmul(carried, Accum::Replace, errors, ratios, 1.0, Par::Seq);
}

/// Some weights of a row.
struct Block<'a> {
    factor: &'a Factor,
    first: usize,
    step: f32,
}

impl Block<'_> {
    /// Rounds them; `carried` is what errors before them add to each.
    fn round(
        &self,
        weights: &[f32],
        carried: &mut [f32],
        errors: &mut [f32],
        out: &mut [i16],
    ) -> f64 {
        let inputs = self.factor.order.len();
        let mut sum = 0.0;
        for n in 0..carried.len() {
            let place = self.first + n;
            let at = self.factor.order[place];
            let target = weights[at] + carried[n];
            let rounded = large_integer(target, self.step);
            out[at] = rounded;
            let value = (self.step * f32::from(rounded)).clamp(f32::MIN, f32::MAX);
            errors[n] = weights[at] - value;
            sum += (self.factor.diagonal[place] * f64::from(target - value)).powi(2);
            let ratios = &self.factor.ratios[place * inputs + self.first..];
            let error = errors[n];
            for (carried, ratio) in carried.iter_mut().zip(ratios).skip(n + 1) {
                *carried += error * ratio;
            }
        }
        sum
    }
}
