//! What is to become of which tensor.

use crate::WeightsPerSymbol;
use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::policy::calibration::Calibration;
use crate::file::policy::rules::Rules;
use crate::file::policy::warning::Warning;
use crate::quantize::{Moments, Quantizer, Rate};

/// Decides by its name whether a tensor is compressed.
type Select = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Tensors that quantizers leave alone unless they are asked for: what these parts of a name stand for is either small or
/// looked up, not multiplied with.
const DELICATE: [&str; 6] = ["embed", "wte", "wpe", "norm", "bias", "position"];

/// What [`compress`](super::compress) compresses, and how. By default, every matrix of a type that the codec takes,
/// without loss.
#[derive(Default)]
pub struct Options {
    select: Option<Select>,
    weights_per_symbol: WeightsPerSymbol,
    quantizer: Option<Quantizer>,
    quantize_embeddings: bool,
    share_rate: bool,
    rules: Rules,
    calibration: Option<Calibration>,
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug)]
pub(in crate::file) enum Treatment {
    /// It keeps its bytes.
    Raw,
    /// It is coded without loss, where that makes it smaller.
    Lossless { weights_per_symbol: WeightsPerSymbol, raw_bits: Option<u8> },
    /// It is quantized.
    Quantize(Quantization),
}

/// How a tensor is quantized.
#[derive(Clone, Copy, Debug)]
pub(in crate::file) struct Quantization {
    pub(in crate::file) quantizer: Quantizer,
    /// Whether the quantizer is this tensor's own, rather than all others'.
    pub(in crate::file) pinned: bool,
    pub(in crate::file) weights_per_symbol: WeightsPerSymbol,
    pub(in crate::file) raw_bits: Option<u8>,
    /// What its error counts, others being 1.
    pub(in crate::file) weight: f64,
}

impl Quantization {
    /// The rate, if it is all others', too.
    pub(in crate::file) fn shared_rate(self) -> Option<Rate> {
        match self.quantizer {
            Quantizer::Rate(rate) if !self.pinned => Some(rate),
            _ => None,
        }
    }
}

impl Options {
    /// Compresses only tensors whose name `select` is true for; the rest keep their bytes.
    #[must_use]
    pub fn select(mut self, select: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Codes integers with so many weights a symbol where that is possible; see [`Matrix::packed`](crate::Matrix::packed).
    #[must_use]
    pub fn weights_per_symbol(mut self, weights_per_symbol: WeightsPerSymbol) -> Self {
        self.weights_per_symbol = weights_per_symbol;
        self
    }

    /// Quantizes matrices of BF16, FP16 and F32 numbers: those that are selected, but for embeddings, norms and biases,
    /// by their names, which are coded without loss.
    #[must_use]
    pub fn quantize(mut self, quantizer: Quantizer) -> Self {
        self.quantizer = Some(quantizer);
        self
    }

    /// Quantizes embeddings, norms and biases, too.
    #[must_use]
    pub fn quantize_embeddings(mut self, quantize: bool) -> Self {
        self.quantize_embeddings = quantize;
        self
    }

    /// Whether to take the bits of [`Quantizer::Rate`] as the average of all tensors that are quantized to it, and to give
    /// each so many that the sum of their relative errors is least (of their outputs, with a calibration), rather than the
    /// same to all, which is the default. What that is worth depends on the model and the rate (`docs/quality.md`).
    #[must_use]
    pub fn share_rate(mut self, share: bool) -> Self {
        self.share_rate = share;
        self
    }

    /// Treats tensors as `rules` say, where they say anything.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Takes what is known of the layers' inputs into account.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// The second moments of the inputs of the matrix `name`, if they are known.
    pub(in crate::file) fn moments(&self, name: &str) -> Result<Option<Moments>, FileError> {
        self.calibration.as_ref().map_or(Ok(None), |calibration| calibration.moments(name))
    }

    /// Checks that the calibration's file is as it was.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.calibration.as_ref().map_or(Ok(()), Calibration::check_unchanged)
    }

    pub(in crate::file) fn shares_rate(&self) -> bool {
        self.share_rate
    }

    /// What of this has no effect on `tensors`, which are all that there are.
    pub(in crate::file) fn warnings(&self, tensors: &[&Tensor]) -> Vec<Warning> {
        let rates = tensors.iter().filter_map(|tensor| match self.treatment(tensor) {
            Treatment::Quantize(quantization) => match quantization.quantizer {
                Quantizer::Rate(_) => Some((tensor.name.as_str(), quantization)),
                _ => None,
            },
            _ => None,
        });
        let rates: Vec<(&str, Quantization)> = rates.collect();
        let mut warnings = Vec::new();
        let quantized = |tensor: &&Tensor| matches!(self.treatment(tensor), Treatment::Quantize(_));
        if self.quantizer.is_some() && !tensors.iter().any(quantized) {
            warnings.push(Warning::Format);
        }
        let shared = rates.iter().any(|(_, quantization)| quantization.shared_rate().is_some());
        if self.share_rate && !shared {
            warnings.push(Warning::Spread);
        }
        if let Some(calibration) = &self.calibration {
            if rates.is_empty() {
                warnings.push(Warning::Calibration);
            } else if !rates.iter().any(|(name, _)| calibration.knows(name)) {
                warnings.push(Warning::OtherCalibration);
            }
        }
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        let idle = self.rules.idle(names.filter(|name| self.selects(name)));
        warnings.extend(idle.map(|name| Warning::Rule(name.to_owned())));
        warnings
    }

    fn selects(&self, name: &str) -> bool {
        self.select.as_ref().is_none_or(|select| select(name))
    }

    /// What becomes of `tensor`.
    pub(in crate::file) fn treatment(&self, tensor: &Tensor) -> Treatment {
        let name = tensor.name.as_str();
        if !self.selects(name) {
            return Treatment::Raw;
        }
        let rule = self.rules.of(name);
        let (weights_per_symbol, raw_bits) =
            (rule.weights_per_symbol.unwrap_or(self.weights_per_symbol), rule.raw_bits);
        let lossless = Treatment::Lossless { weights_per_symbol, raw_bits };
        let quantizer = match rule.format {
            Some(Target::Raw) => return Treatment::Raw,
            Some(Target::Lossless) => return lossless,
            Some(Target::Quantized(quantizer)) => Some(quantizer),
            None => self.quantizer.filter(|_| self.quantize_embeddings || !is_delicate(name)),
        };
        match quantizer.filter(|_| tensor.numbers().is_some()) {
            None => lossless,
            Some(quantizer) => Treatment::Quantize(Quantization {
                quantizer,
                pinned: rule.format.is_some(),
                weights_per_symbol,
                raw_bits,
                weight: rule.weight.unwrap_or(1.0),
            }),
        }
    }
}

/// What a rule can ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::file) enum Target {
    Raw,
    Lossless,
    Quantized(Quantizer),
}

fn is_delicate(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    DELICATE.iter().any(|part| name.contains(part))
}
