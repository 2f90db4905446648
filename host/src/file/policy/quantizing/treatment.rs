//! The treatment of a tensor: the options and the rules, combined.

use crate::WeightsPerSymbol;
use crate::file::format::header::Tensor;
use crate::file::format::lossless::LosslessCoding;
use crate::file::policy::options::CompressOptions;
use crate::quantize::{Quantizer, Rate};

/// Parts of the names of tensors that are quantized on request only: they are small, or looked up instead of multiplied.
const DELICATE: [&str; 6] = ["embed", "wte", "wpe", "norm", "bias", "position"];

/// The form that a rule requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    Raw,
    Lossless,
    Quantized(Quantizer),
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Treatment {
    /// As it is.
    Raw,
    /// Encoded without loss, if that makes it smaller.
    Lossless(LosslessCoding),
    /// Quantized.
    Quantize(Quantization),
}

/// How a tensor is quantized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantization {
    pub(super) quantizer: Quantizer,
    /// Whether a rule has set the quantizer for this tensor, which then takes no part in a shared rate.
    pub(super) pinned: bool,
    pub(super) weights_per_symbol: WeightsPerSymbol,
    pub(super) raw_bits: Option<u8>,
    /// Factor of its error where a rate is shared.
    pub(super) weight: f64,
}

impl Quantization {
    /// Returns the rate, if other tensors may share it.
    pub(super) fn shared_rate(self) -> Option<Rate> {
        match self.quantizer {
            Quantizer::Rate(rate) if !self.pinned => Some(rate),
            _ => None,
        }
    }
}

impl Treatment {
    /// Chooses the treatment of `tensor`.
    pub(super) fn new(options: &CompressOptions, tensor: &Tensor) -> Self {
        let (name, settings) = (tensor.name.as_str(), &options.quantize);
        if !options.selects(name) {
            return Self::Raw;
        }
        let rule = settings.rules.rule(name);
        let weights_per_symbol = rule.weights_per_symbol.unwrap_or(options.weights_per_symbol);
        let raw_bits = rule.raw_bits;
        let lossless = Self::Lossless(LosslessCoding { weights_per_symbol, raw_bits });
        let quantizer = match rule.format {
            Some(Target::Raw) => return Self::Raw,
            Some(Target::Lossless) => return lossless,
            Some(Target::Quantized(quantizer)) => Some(quantizer),
            None => {
                settings.quantizer.filter(|_| settings.quantize_embeddings || !is_delicate(name))
            }
        };
        match quantizer.filter(|_| tensor.numbers().is_some()) {
            None => lossless,
            Some(quantizer) => Self::Quantize(Quantization {
                quantizer,
                pinned: rule.format.is_some(),
                weights_per_symbol,
                raw_bits,
                weight: rule.weight.unwrap_or(1.0),
            }),
        }
    }
}

fn is_delicate(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    DELICATE.iter().any(|part| name.contains(part))
}
