//! Tensors to blobs, without loss.

use crate::file::error::TensorFault;
use crate::file::format::header::Tensor;
use crate::{Blob, BlobError, Encoder, Matrix, WeightsPerSymbol};

/// How integers are coded without loss. Other weights are coded in one way only.
#[derive(Clone, Copy, Debug)]
pub(in crate::file) struct LosslessCoding {
    pub(in crate::file) weights_per_symbol: WeightsPerSymbol,
    /// Bits per weight that are stored as they are; `None` leaves the choice to the encoder.
    pub(in crate::file) raw_bits: Option<u8>,
}

/// The stored form of a tensor, as a policy has chosen it.
pub(in crate::file) struct EncodedTensor {
    /// Blob and checksum; `None` if the tensor is to be stored as it is.
    pub(in crate::file) blob: Option<(Vec<u8>, u32)>,
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

/// Encodes `tensor`, whose bytes are `data`. Returns `None` if it cannot be encoded, or would not become smaller.
pub(in crate::file) fn encode_lossless(
    tensor: &Tensor,
    data: &[u8],
    coding: LosslessCoding,
) -> Result<Option<(Vec<u8>, u32)>, TensorFault> {
    let Some((dtype, rows, cols)) = tensor.matrix() else { return Ok(None) };
    let matrix = match Matrix::from_bytes(dtype, data, rows, cols) {
        Ok(matrix) => matrix,
        // A blob cannot hold it; the file can.
        Err(BlobError::TooLarge { .. }) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let encoder = Encoder::new().weights_per_symbol(coding.weights_per_symbol);
    let encoder = coding.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits));
    Ok(encoder.encode(matrix).ok().map(with_checksum))
}

/// Returns a blob's bytes and its checksum.
pub(in crate::file) fn with_checksum(blob: Blob<'static>) -> (Vec<u8>, u32) {
    let crc = blob.crc();
    (blob.into_bytes(), crc)
}
