//! The result of encoding a tensor by a policy.

use crate::Blob;
use crate::file::format::header::Tensor;
use crate::file::policy::kept::{Kept, KeptReason};

/// The stored form of a tensor, as a policy has chosen it.
pub(in crate::file) struct EncodedTensor {
    /// `None` if the tensor is to be stored as it is.
    pub(in crate::file) blob: Option<Blob<'static>>,
    pub(in crate::file) outcome: Outcome,
}

/// How a tensor was encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "quantize"), expect(dead_code, reason = "nothing is quantized"))]
pub(in crate::file) enum Outcome {
    /// As the options ask, without quantizing.
    AsAsked,
    Quantized,
    /// Quantized with second moments of the inputs.
    Calibrated,
    /// Otherwise than the options ask.
    Kept(Kept),
}

impl EncodedTensor {
    /// Returns the result for a tensor that was to be encoded without loss; `blob` is `None` if that was not possible.
    pub(in crate::file) fn lossless(tensor: &Tensor, blob: Option<Blob<'static>>) -> Self {
        let reason = if blob.is_none() { KeptReason::of_raw(tensor) } else { None };
        let outcome = reason
            .map_or(Outcome::AsAsked, |reason| Outcome::Kept(Kept::new(tensor, reason, None)));
        Self { blob, outcome }
    }
}
