//! What products of resident layers may differ by.

use crate::product::{Case, Inputs, numbers, weight_numbers};
use fused_rans::Blob;
use fused_rans::resident::ResidentPlan;
use std::collections::BTreeSet;

/// Returns the magnitudes that bound the errors of products with `blob` as a resident layer, and takes from `inputs` what
/// such products lose.
///
/// In place of an exception, the kernels multiply with the decoded weight and with its difference to the exception. If the
/// exception is much smaller, the roundings of both products are not.
pub fn bounds_of_resident(
    case: &Case,
    blob: &Blob<'_>,
    weights: &[f64],
    inputs: &mut Inputs,
) -> Vec<f64> {
    if blob.exception_count() == 0 {
        return weights.to_vec();
    }
    assert!(!blob.has_groups(), "exceptions are not scaled");
    let layer = ResidentPlan::new(blob).and_then(ResidentPlan::build).expect("a valid blob");
    let decoded = layer.decoded_weights(blob.grid(), blob.split(), blob.frequencies());
    let decoded = weight_numbers(blob.dtype(), &decoded.expect("a valid layer"));
    avoid_lost_infinities(case, inputs, weights, &decoded);
    weights.iter().zip(&decoded).map(|(weight, decoded)| weight.abs().max(decoded.abs())).collect()
}

/// Replaces infinite activations by NaNs where they meet an exception whose decoded weight is 0 or has another sign. The
/// product with the decoded weight is then a NaN or another infinity, and whatever is added, the kernels' sum is a NaN.
fn avoid_lost_infinities(case: &Case, inputs: &mut Inputs, weights: &[f64], decoded: &[f64]) {
    let (cols, nan) = (case.recipe.cols, u16::MAX.to_le_bytes());
    let differ = weights.iter().zip(decoded).enumerate().filter(|(_, (weight, decoded))| {
        **weight != 0.0 && (**decoded == 0.0 || weight.signum() != decoded.signum())
    });
    let columns: BTreeSet<usize> = differ.map(|(at, _)| at % cols).collect();
    for row in inputs.x[case.offset_x..].chunks_mut(2 * case.stride_x) {
        let x = row.as_chunks_mut().0;
        for &col in &columns {
            if numbers(case.x, &x[col])[0].is_infinite() {
                x[col] = nan;
            }
        }
    }
}
