//! Options of quantizers.

use super::Moments;
use fused_rans_layout::WeightsPerSymbol;

/// Options of [`Quantizer::quantize`](super::Quantizer::quantize): how to code the weights, and moments of the layer's
/// inputs. The default suits most matrices.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuantizeOptions<'a> {
    pub(super) weights_per_symbol: WeightsPerSymbol,
    pub(super) raw_bits: Option<u8>,
    pub(super) moments: Option<&'a Moments>,
}

impl<'a> QuantizeOptions<'a> {
    /// Returns the default: two weights per symbol, raw bits chosen by the encoder, no moments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many integers share a symbol. Two, the default, give smaller blobs; four multiply faster on a GPU.
    #[must_use]
    pub fn weights_per_symbol(self, weights_per_symbol: WeightsPerSymbol) -> Self {
        Self { weights_per_symbol, ..self }
    }

    /// Sets the raw bits of integers, or with `None` leaves them to the encoder, as the default does. Use it to compare
    /// splits.
    #[must_use]
    pub fn raw_bits(self, raw_bits: impl Into<Option<u8>>) -> Self {
        Self { raw_bits: raw_bits.into(), ..self }
    }

    /// Sets second moments of the layer's inputs. [`Quantizer::Rate`](super::Quantizer::Rate) then lets each weight correct
    /// for the errors of those before it, which reduces the error of the outputs. Other quantizers ignore them.
    #[must_use]
    pub fn moments(self, moments: impl Into<Option<&'a Moments>>) -> Self {
        Self { moments: moments.into(), ..self }
    }
}
