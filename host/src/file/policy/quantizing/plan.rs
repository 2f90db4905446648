//! The plan of a job: which tensor is stored in which form, over all files.

use std::collections::HashMap;
use std::path::Path;

use crate::Blob;
use crate::file::error::{FileError, TensorFault};
use crate::file::format::header::Tensor;
use crate::file::format::lossless::{LosslessCoding, encode_lossless};
use crate::file::format::plain::PlainFile;
use crate::file::policy::encoded::{EncodedTensor, Outcome};
use crate::file::policy::options::CompressOptions;
use crate::file::policy::quantizing::calibration::Calibration;
use crate::file::policy::quantizing::rates::shared_rates;
use crate::file::policy::quantizing::treatment::{Quantization, Treatment};
use crate::file::policy::warning::Warning;
use crate::file::progress::Progress;
use crate::quantize::{Moments, NumberMatrix, QuantizeError, QuantizeOptions, Quantizer, Rate};

/// Encodes the tensors of a job's files: by the options, and with the rates that were chosen for all files together.
pub(in crate::file) struct CompressPlan<'a> {
    files: &'a [PlainFile],
    options: &'a CompressOptions,
    /// Rates of the tensors that share an average rate, by name.
    rates: HashMap<String, Rate>,
}

impl<'a> CompressPlan<'a> {
    /// Makes the plan for `files`. Takes long where tensors share a rate.
    pub(in crate::file) fn new(
        files: &'a [PlainFile],
        options: &'a CompressOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, FileError> {
        let rates = shared_rates(files, options, progress)?;
        Ok(Self { files, options, rates })
    }

    /// Encodes `tensor` of the file `path`, whose bytes are `data`.
    pub(in crate::file) fn encode(
        &self,
        path: &Path,
        tensor: &Tensor,
        data: &[u8],
    ) -> Result<EncodedTensor, FileError> {
        match Treatment::new(self.options, tensor) {
            Treatment::Raw => Ok(EncodedTensor { blob: None, outcome: Outcome::Lossless }),
            Treatment::Lossless(coding) => {
                let blob = encode_lossless(tensor, data, coding)
                    .map_err(|fault| FileError::tensor(path, &tensor.name, fault))?;
                Ok(EncodedTensor { blob, outcome: Outcome::Lossless })
            }
            Treatment::Quantize(quantization) => {
                self.encode_quantized(path, tensor, data, quantization)
            }
        }
    }

    /// Quantizes and encodes `tensor`, or encodes it without loss if it is too small for that.
    fn encode_quantized(
        &self,
        path: &Path,
        tensor: &Tensor,
        data: &[u8],
        quantization: Quantization,
    ) -> Result<EncodedTensor, FileError> {
        let fault = |fault| FileError::tensor(path, &tensor.name, fault);
        let quantizer = self.quantizer(&tensor.name, quantization);
        // The other quantizers do not use moments.
        let moments = match quantizer {
            Quantizer::Rate(_) => self.options.quantize.moments(&tensor.name)?,
            _ => None,
        };
        let blob = quantized(tensor, data, quantizer, quantization, moments.as_ref());
        if let Some(blob) = blob.map_err(fault)? {
            let outcome = if moments.is_some() { Outcome::Calibrated } else { Outcome::Quantized };
            return Ok(EncodedTensor { blob: Some(blob), outcome });
        }
        let weights_per_symbol = quantization.weights_per_symbol;
        let coding = LosslessCoding { weights_per_symbol, raw_bits: None };
        let blob = encode_lossless(tensor, data, coding).map_err(fault)?;
        Ok(EncodedTensor { blob, outcome: Outcome::TooSmall })
    }

    /// Returns the quantizer of the tensor `name`, with its share of the rate.
    fn quantizer(&self, name: &str, quantization: Quantization) -> Quantizer {
        let rate = self.rates.get(name).copied().filter(|_| !quantization.pinned);
        rate.map_or(quantization.quantizer, Quantizer::Rate)
    }

    /// Returns the options that have no effect on any tensor.
    pub(in crate::file) fn warnings(&self) -> Vec<Warning> {
        let tensors: Vec<&Tensor> = self.files.iter().flat_map(PlainFile::tensors).collect();
        let quantized =
            tensors.iter().filter_map(|tensor| match Treatment::new(self.options, tensor) {
                Treatment::Quantize(quantization) => Some((tensor.name.as_str(), quantization)),
                _ => None,
            });
        let quantized: Vec<(&str, Quantization)> = quantized.collect();
        let is_rate =
            |quantization: Quantization| matches!(quantization.quantizer, Quantizer::Rate(_));
        let settings = &self.options.quantize;
        let mut warnings = Vec::new();
        if settings.quantizer.is_some() && quantized.is_empty() {
            warnings.push(Warning::Format);
        }
        if settings.share_rate && !quantized.iter().any(|(_, how)| how.shared_rate().is_some()) {
            warnings.push(Warning::ShareRate);
        }
        if let Some(calibration) = &settings.calibration {
            let mut rates = quantized.iter().filter(|(_, how)| is_rate(*how)).peekable();
            if rates.peek().is_none() {
                warnings.push(Warning::Calibration);
            } else if !rates.any(|(name, _)| calibration.has_moments(name)) {
                warnings.push(Warning::OtherCalibration);
            }
        }
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        let unused = settings.rules.unused(names.filter(|name| self.options.selects(name)));
        warnings.extend(unused.map(|name| Warning::Rule(name.to_owned())));
        warnings
    }

    /// Checks that no file has changed since the job opened it, nor the calibration. All files are checked, since one
    /// may change after it was planned and before it is compressed.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.files.iter().try_for_each(PlainFile::check_unchanged)?;
        let calibration = self.options.quantize.calibration.as_ref();
        calibration.map_or(Ok(()), Calibration::check_unchanged)
    }
}

/// Quantizes and encodes `tensor`, whose bytes are `data`. Returns `None` if it is too small for that.
fn quantized(
    tensor: &Tensor,
    data: &[u8],
    quantizer: Quantizer,
    quantization: Quantization,
    moments: Option<&Moments>,
) -> Result<Option<Blob<'static>>, TensorFault> {
    let (dtype, rows, cols) = tensor.numbers().expect("only numbers are quantized");
    let Quantization { weights_per_symbol, raw_bits, .. } = quantization;
    let coding = QuantizeOptions::new()
        .weights_per_symbol(weights_per_symbol)
        .raw_bits(raw_bits)
        .moments(moments);
    let source = NumberMatrix::from_bytes(dtype, data, rows, cols)?;
    let is_small = |fault: &QuantizeError| match fault {
        QuantizeError::TooSmall { .. } => true,
        // Unless the tensor is large enough, and the user's raw bits are too many.
        QuantizeError::Unreachable { .. } => {
            raw_bits.is_none() || quantizer.quantize(source, coding.raw_bits(None)).is_err()
        }
        _ => false,
    };
    let quantized = match quantizer.quantize(source, coding) {
        Err(fault) if is_small(&fault) => return Ok(None),
        quantized => quantized?,
    };
    // As for lossless blobs: what the encoder refuses is stored in another way.
    Ok(quantized.encode().ok())
}
