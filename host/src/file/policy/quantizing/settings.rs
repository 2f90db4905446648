//! The quantizing part of the options.

use crate::file::error::FileError;
use crate::file::policy::options::CompressOptions;
use crate::file::policy::quantizing::calibration::Calibration;
use crate::file::policy::quantizing::rules::Rules;
use crate::quantize::{Moments, Quantizer};

/// The part of [`CompressOptions`] that concerns quantizing.
#[derive(Debug, Default)]
pub struct QuantizeSettings {
    pub(super) quantizer: Option<Quantizer>,
    pub(super) quantize_embeddings: bool,
    pub(super) share_rate: bool,
    pub(super) rules: Rules,
    pub(super) calibration: Option<Calibration>,
}

impl QuantizeSettings {
    /// Returns the second moments of the inputs of the matrix `name`, if the calibration has them.
    pub(super) fn moments(&self, name: &str) -> Result<Option<Moments>, FileError> {
        self.calibration.as_ref().map_or(Ok(None), |calibration| calibration.moments(name))
    }
}

/// Options of the feature `quantize`.
impl CompressOptions {
    /// Quantizes matrices of BF16, FP16 and F32 numbers. Embeddings, norms and biases, recognized by their names, are
    /// compressed without loss.
    #[must_use]
    pub fn quantize(mut self, quantizer: Quantizer) -> Self {
        self.quantize.quantizer = Some(quantizer);
        self
    }

    /// Sets whether embeddings, norms and biases are quantized, too.
    #[must_use]
    pub fn quantize_embeddings(mut self, quantize: bool) -> Self {
        self.quantize.quantize_embeddings = quantize;
        self
    }

    /// Sets whether the bits of [`Quantizer::Rate`] are an average over all tensors with this quantizer, instead of the
    /// rate of each one. Each tensor then gets the bits that minimize the sum of all relative errors: of weights, or of
    /// outputs where there is a calibration. The gain depends on the model and the rate (`docs/quality.md`).
    #[must_use]
    pub fn share_rate(mut self, share: bool) -> Self {
        self.quantize.share_rate = share;
        self
    }

    /// Sets rules, which overrule the other options for the tensors that they name.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.quantize.rules = rules;
        self
    }

    /// Uses second moments of the layers' inputs, with which [`Quantizer::Rate`] costs less quality.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.quantize.calibration = Some(calibration);
        self
    }
}
