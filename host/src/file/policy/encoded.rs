//! The result of encoding a tensor by a policy.

use crate::Blob;

/// The stored form of a tensor, as a policy has chosen it.
pub(in crate::file) struct EncodedTensor {
    /// `None` if the tensor is to be stored as it is.
    pub(in crate::file) blob: Option<Blob<'static>>,
    pub(in crate::file) outcome: Outcome,
}

/// How a tensor was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "quantize"), expect(dead_code, reason = "nothing is quantized"))]
pub(in crate::file) enum Outcome {
    /// Without loss, or not at all.
    Lossless,
    /// Without loss, although a quantizer was chosen: the tensor is too small for scales, or for the rate.
    TooSmall,
    Quantized,
    /// Quantized with second moments of the inputs.
    Calibrated,
}
