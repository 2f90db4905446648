//! The treatment of a tensor: the options and the rules, combined.

use crate::WeightsPerSymbol;
use crate::file::format::header::Tensor;
use crate::file::format::lossless::LosslessCoding;
use crate::file::policy::kept::KeptReason;
use crate::file::policy::options::CompressOptions;
use crate::file::policy::quantizing::names::{self, NameKind};
use crate::file::policy::quantizing::settings::QuantizeSettings;
use crate::file::policy::quantizing::side_data::CodePlaces;
use crate::quantize::{Quantizer, Rate};

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
    /// Encoded without loss, although a quantizer is chosen; with the rule that chose it.
    Keep(LosslessCoding, KeptReason, Option<usize>),
    /// Quantized.
    Quantize(Quantization),
}

/// How a tensor is quantized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantization {
    pub(super) quantizer: Quantizer,
    /// The rule that has set the quantizer for this tensor, which then takes no part in a shared rate.
    pub(super) rule: Option<usize>,
    pub(super) weights_per_symbol: WeightsPerSymbol,
    pub(super) raw_bits: Option<u8>,
    /// Factor of its error where a rate is shared.
    pub(super) weight: f64,
}

impl Quantization {
    /// Returns the rate, if other tensors may share it.
    pub(super) fn shared_rate(self) -> Option<Rate> {
        match self.quantizer {
            Quantizer::Rate(rate) if self.rule.is_none() => Some(rate),
            _ => None,
        }
    }
}

impl Treatment {
    /// Chooses the treatment of `tensor`. `codes` are the places of its model where tensors of codes are.
    pub(super) fn new(options: &CompressOptions, codes: &CodePlaces<'_>, tensor: &Tensor) -> Self {
        let (name, settings) = (tensor.name.as_str(), &options.quantize);
        if !options.selects(name) {
            return Self::Raw;
        }
        let rule = settings.rules.rule(name);
        let weights_per_symbol = rule.weights_per_symbol.unwrap_or(options.weights_per_symbol);
        let raw_bits = rule.raw_bits;
        let coding = LosslessCoding { weights_per_symbol, raw_bits };
        let (quantizer, rule_index) = match (rule.format, settings.quantizer) {
            (Some((Target::Raw, _)), _) => return Self::Raw,
            (Some((Target::Lossless, _)), _) | (None, None) => return Self::Lossless(coding),
            (Some((Target::Quantized(quantizer), index)), _) => (quantizer, Some(index)),
            (None, Some(quantizer)) => (quantizer, None),
        };
        // Nobody expects that formats apply to vectors.
        if tensor.shape.len() < 2 || tensor.weights() == 0 {
            return Self::Lossless(coding);
        }
        match obstacle(settings, codes, tensor, rule_index.is_some()) {
            Some(reason) => Self::Keep(coding, reason, rule_index),
            None => Self::Quantize(Quantization {
                quantizer,
                rule: rule_index,
                weights_per_symbol,
                raw_bits,
                weight: rule.weight.unwrap_or(1.0),
            }),
        }
    }
}

/// Returns why `tensor` is not quantized, or `None` if it is. `is_named` says whether a rule asks for it.
fn obstacle(
    settings: &QuantizeSettings,
    codes: &CodePlaces<'_>,
    tensor: &Tensor,
    is_named: bool,
) -> Option<KeptReason> {
    let Some((_, rows, cols)) = tensor.numbers() else {
        return Some(match tensor.dtype {
            dtype if dtype.float().is_some() => KeptReason::Dimensions(tensor.shape.len()),
            // A mask or a table of places has more dimensions, or a name that says so.
            dtype if dtype.may_be_codes() && tensor.shape.len() == 2 => KeptReason::Codes(dtype),
            dtype => KeptReason::Dtype(dtype),
        });
    };
    // Not even for a rule, whose pattern may match more names than its author thought of: a scale that becomes 0 erases
    // all weights that it belongs to.
    if codes.has_beside(tensor) {
        return Some(KeptReason::SideData);
    }
    let is_left_alone = match names::kind(&tensor.name, rows, cols) {
        None => false,
        Some(NameKind::Lookup) => !is_named && !settings.quantize_embeddings,
        Some(NameKind::Critical) => !is_named,
    };
    is_left_alone.then_some(KeptReason::Name)
}
