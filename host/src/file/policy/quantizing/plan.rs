//! The plan of a job: which tensor is stored in which form, over all files.

use std::path::Path;

use crate::file::error::{FileError, TensorFault};
use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::Tensor;
use crate::file::format::lossless::{LosslessCoding, encode_lossless};
use crate::file::format::plain::PlainFile;
use crate::file::policy::encoded::{EncodedTensor, Outcome};
use crate::file::policy::kept::{Kept, KeptReason};
use crate::file::policy::options::CompressOptions;
use crate::file::policy::quantizing::calibration::Calibration;
use crate::file::policy::quantizing::rates::{SharedRates, shared_rates};
use crate::file::policy::quantizing::side_data::FolderPlaces;
use crate::file::policy::quantizing::treatment::{Quantization, Treatment};
use crate::file::policy::warning::Warning;
use crate::file::progress::Progress;
use crate::quantize::{Moments, NumberMatrix, QuantizeError, QuantizeOptions, Quantizer};
use crate::{Blob, WeightsPerSymbol};

/// Encodes the tensors of a job's files: by the options, and with the rates that were chosen for all files together.
pub(in crate::file) struct CompressPlan<'a> {
    files: &'a [PlainFile],
    options: &'a CompressOptions,
    /// Where each folder of the model has tensors of codes.
    codes: FolderPlaces<'a>,
    /// Rates of the tensors that share an average rate.
    rates: SharedRates,
}

impl<'a> CompressPlan<'a> {
    /// Makes the plan for `files`. Takes long where tensors share a rate.
    pub(in crate::file) fn new(
        files: &'a [PlainFile],
        options: &'a CompressOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, FileError> {
        let codes = FolderPlaces::new(files);
        let rates = shared_rates(files, options, &codes, progress)?;
        Ok(Self { files, options, codes, rates })
    }

    /// Encodes `tensor` of the file `path`, whose bytes are `data`, into `memory` if it is encoded without loss. The
    /// contents of `memory` do not matter.
    pub(in crate::file) fn encode(
        &self,
        path: &Path,
        tensor: &Tensor,
        data: &[u8],
        memory: Vec<u8>,
    ) -> Result<EncodedTensor, FileError> {
        let lossless = |coding| {
            encode_lossless(tensor, data, coding, memory)
                .map_err(|fault| FileError::tensor(path, &tensor.name, fault))
        };
        match self.treatment(path, tensor) {
            Treatment::Raw => Ok(EncodedTensor { blob: None, outcome: Outcome::AsAsked }),
            Treatment::Lossless(coding) => Ok(EncodedTensor::lossless(tensor, lossless(coding)?)),
            Treatment::Keep(coding, reason, rule) => {
                Ok(self.kept(tensor, lossless(coding)?, reason, rule))
            }
            Treatment::Quantize(quantization) => {
                self.encode_quantized(path, tensor, data, quantization)
            }
        }
    }

    /// Returns the result for a tensor that is not quantized, for this reason, although this rule asks for it.
    fn kept(
        &self,
        tensor: &Tensor,
        blob: Option<Blob<'static>>,
        reason: KeptReason,
        rule: Option<usize>,
    ) -> EncodedTensor {
        let rule = rule.map(|index| self.options.quantize.rules.pattern(index).to_owned());
        EncodedTensor { blob, outcome: Outcome::Kept(Kept::new(tensor, reason, rule)) }
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
        let quantizer = self.quantizer(path, &tensor.name, quantization);
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
        let blob = encode_lossless(tensor, data, coding, Vec::new()).map_err(fault)?;
        Ok(self.kept(tensor, blob, KeptReason::TooSmall, quantization.rule))
    }

    fn treatment(&self, path: &Path, tensor: &Tensor) -> Treatment {
        Treatment::new(self.options, self.codes.of(path), tensor)
    }

    /// Returns the quantizer of the tensor `name` of the file `path`, with its share of the rate.
    fn quantizer(&self, path: &Path, name: &str, quantization: Quantization) -> Quantizer {
        let rate = self
            .rates
            .get(&(path.to_owned(), name.to_owned()))
            .copied()
            .filter(|_| quantization.rule.is_none());
        rate.map_or(quantization.quantizer, Quantizer::Rate)
    }

    /// Returns the options without effect, of a job that has quantized `quantized` tensors and has kept `kept`.
    pub(in crate::file) fn warnings(&self, quantized: usize, kept: &[Kept]) -> Vec<Warning> {
        let tensors = self
            .files
            .iter()
            .flat_map(|file| file.tensors().iter().map(|tensor| (file.path(), tensor)));
        let selected: Vec<(&Path, &Tensor)> =
            tensors.filter(|(_, tensor)| self.options.selects(&tensor.name)).collect();
        if selected.is_empty() && self.files.iter().any(|file| !file.tensors().is_empty()) {
            return vec![Warning::NothingSelected];
        }
        let quantizations =
            selected.iter().filter_map(|&(path, tensor)| match self.treatment(path, tensor) {
                Treatment::Quantize(quantization) => Some((tensor.name.as_str(), quantization)),
                _ => None,
            });
        let quantizations: Vec<(&str, Quantization)> = quantizations.collect();
        let settings = &self.options.quantize;
        let mut warnings = Vec::new();
        if settings.quantizer.is_some() && quantized == 0 {
            warnings.push(Warning::Format);
        }
        let any = |test: fn(&Quantization) -> bool| quantizations.iter().any(|(_, how)| test(how));
        if settings.share_rate && !any(|how| how.shared_rate().is_some()) {
            warnings.push(Warning::ShareRate);
        }
        if self.options.weights_per_symbol != WeightsPerSymbol::default()
            && !any(|how| how.quantizer != Quantizer::Fp8)
            && !selected.iter().any(|(_, tensor)| tensor.dtype == TensorDtype::I8)
        {
            warnings.push(Warning::WeightsPerSymbol);
        }
        if let Some(calibration) = &settings.calibration {
            if !any(|how| matches!(how.quantizer, Quantizer::Rate(_))) {
                warnings.push(Warning::Calibration);
            } else if !quantizations.iter().any(|(name, how)| {
                matches!(how.quantizer, Quantizer::Rate(_)) && calibration.has_moments(name)
            }) {
                warnings.push(Warning::OtherCalibration);
            }
        }
        let names = selected.iter().map(|(_, tensor)| tensor.name.as_str());
        warnings.extend(settings.rules.unused(names).map(|name| Warning::Rule(name.to_owned())));
        warnings.extend(Warning::of_rules(kept));
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
