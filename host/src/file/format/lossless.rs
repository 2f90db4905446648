//! Tensors to blobs, without loss.

use crate::file::error::TensorFault;
use crate::file::format::header::Tensor;
use crate::{Blob, BlobError, Encoder, Matrix, WeightsPerSymbol};

/// How integers are coded without loss. Other weights are coded in one way only.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::file) struct LosslessCoding {
    pub(in crate::file) weights_per_symbol: WeightsPerSymbol,
    /// Bits per weight that are stored as they are; `None` leaves the choice to the encoder.
    pub(in crate::file) raw_bits: Option<u8>,
}

/// Encodes `tensor`, whose bytes are `data`, into `memory`, whose contents do not matter. Returns `None` if it cannot be encoded, or would not become smaller.
pub(in crate::file) fn encode_lossless(
    tensor: &Tensor,
    data: &[u8],
    coding: LosslessCoding,
    memory: Vec<u8>,
) -> Result<Option<Blob<'static>>, TensorFault> {
    let Some((dtype, rows, cols)) = tensor.matrix() else { return Ok(None) };
    let matrix = match Matrix::from_bytes(dtype, data, rows, cols) {
        Ok(matrix) => matrix,
        // A blob cannot hold it; the file can.
        Err(BlobError::TooLarge { .. }) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let encoder = Encoder::new().weights_per_symbol(coding.weights_per_symbol);
    let encoder = coding.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits));
    // The file stores a matrix as it is where the encoder refuses it.
    Ok(encoder.encode_to(matrix, memory).ok())
}
