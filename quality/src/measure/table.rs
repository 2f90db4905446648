//! Measures what each weight format costs a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use fused_rans_host::file::{
    self, Calibration, CompressOptions, CompressedFile, StoredAs as Stored, TensorReport,
};
use fused_rans_host::{Float, quantize::Quantizer};

use crate::measure::Row;
use crate::measure::distortion::{MomentsFile, Originals};
use crate::measure::formats::{Format, Method};
use crate::measure::nf4;
use crate::measure::perplexity::{self, Difference};
use crate::model::values::edit;
use crate::{Config, Error, Llama, Weights, Windows, output};

/// Bits per weight of the reference.
const REFERENCE_BITS: f64 = 16.0;

/// The original model and its measurements, with which every format is compared.
pub struct Table {
    folder: PathBuf,
    calibration: PathBuf,
    config: Config,
    windows: Windows,
    /// All tensors, in F32. All measured models share those that are not quantized.
    tensors: BTreeMap<String, Tensor>,
    originals: Originals,
    /// Likelihoods of the windows by the original model.
    reference: Vec<f64>,
    /// Time for measuring them, in seconds.
    seconds: f64,
}

/// Step of measuring a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Compressing the model; counts bytes.
    Compressing,
    /// Measuring the perplexity; counts windows.
    Measuring,
}

/// A function that is called with the step, the finished amount, and the total.
pub type Progress<'a> = dyn FnMut(Phase, u64, u64) + 'a;

/// The quantized matrices of a model.
struct Variant {
    /// The dequantized matrices in F32, as the GPU's kernels use them. `decompress` would round them to the original type.
    tensors: BTreeMap<String, Tensor>,
    stored_bits: f64,
}

impl Table {
    /// Loads the model in `folder` and measures it on `windows`. Quantizers are calibrated with the moments in the file
    /// `calibration`; errors of outputs are measured with those in the file `outputs`.
    ///
    /// # Errors
    /// The errors of [`Llama::load`], [`MomentsFile::moments`], [`perplexity::nll`].
    pub fn new(
        folder: &Path,
        windows: Windows,
        calibration: &Path,
        outputs: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let moments = MomentsFile::open(outputs)?;
        let config = Config::read(&folder.join("config.json"))?;
        let weights = Weights::open(folder)?;
        let mut tensors = BTreeMap::new();
        let model = Llama::new(config.clone(), |name| {
            let tensor = weights.tensor_f32(name)?;
            tensors.insert(name.to_owned(), tensor.clone());
            Ok(tensor)
        })?;
        let linears = config.linears().map(|name| (name.clone(), tensors[&name].clone()));
        let originals = Originals::new(moments, linears.collect())?;
        let reference = measure(&model, &windows, progress)?;
        Ok(Self {
            folder: folder.to_owned(),
            calibration: calibration.to_owned(),
            config,
            windows,
            tensors,
            originals,
            reference,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Returns the row of the original model.
    #[must_use]
    pub fn reference(&self) -> Row {
        let errors = crate::measure::distortion::Errors { weight: 0.0, output: 0.0 };
        self.row(
            crate::measure::formats::REFERENCE,
            REFERENCE_BITS,
            errors,
            &self.reference,
            self.seconds,
        )
    }

    /// Measures the row of a format, on rayon's current thread pool.
    ///
    /// # Errors
    /// [`Error::File`] if the model cannot be compressed, [`Error::NotQuantized`], those of [`Table::new`].
    pub fn measure(&self, format: &Format, progress: &mut Progress<'_>) -> Result<Row, Error> {
        let start = Instant::now();
        let variant = match format.method {
            Method::Unchanged => return Ok(self.reference()),
            Method::Nf4 => self.nf4()?,
            Method::Compressed { quantizer, calibrated, share_rate } => {
                self.compressed(quantizer, calibrated, share_rate, progress)?
            }
        };
        let errors = self.originals.errors(&variant.tensors)?;
        let model = Llama::new(self.config.clone(), |name| {
            let tensor = variant.tensors.get(name).or_else(|| self.tensors.get(name));
            tensor.cloned().ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
        })?;
        let nll = measure(&model, &self.windows, progress)?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(self.row(&format.name, variant.stored_bits, errors, &nll, seconds))
    }

    fn row(
        &self,
        format: &str,
        stored_bits: f64,
        errors: crate::measure::distortion::Errors,
        nll: &[f64],
        seconds: f64,
    ) -> Row {
        let mean_nll = perplexity::mean(nll);
        let difference = Difference::new(nll, &self.reference);
        Row {
            format: format.to_owned(),
            stored_bits,
            relative_weight_error: errors.weight,
            relative_output_error: errors.output,
            windows: nll.len(),
            tokens: self.windows.scored(),
            mean_nll,
            perplexity: mean_nll.exp(),
            nll_difference: difference.mean_nll,
            standard_error: difference.standard_error,
            perplexity_ratio: difference.perplexity_ratio,
            seconds,
        }
    }

    /// Compresses the model to a temporary folder and reads the matrices back.
    fn compressed(
        &self,
        quantizer: Quantizer,
        calibrated: bool,
        share_rate: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Variant, Error> {
        let temporary = tempfile::Builder::new().prefix(output::PREFIX).tempdir();
        let temporary = temporary.map_err(Error::io(&std::env::temp_dir(), "write"))?;
        let folder = temporary.path().join("model");
        let mut options = CompressOptions::default().quantize(quantizer).share_rate(share_rate);
        if calibrated {
            options = options.calibration(Calibration::open(&self.calibration)?);
        }
        let report = file::Progress::new(|done, total| progress(Phase::Compressing, done, total));
        let summary = file::compress(&self.folder, &folder, &options, report)?;
        let expected = if calibrated { self.config.linears().count() } else { 0 };
        if summary.calibrated < expected {
            return Err(Error::NotCalibrated { path: self.calibration.clone() });
        }
        let report = file::inspect(&folder)?;
        let by_name: BTreeMap<&str, &TensorReport> =
            report.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let file = CompressedFile::open(folder.join("model.safetensors"))?;
        let (mut tensors, mut bytes, mut weights) = (BTreeMap::new(), 0, 0);
        for name in self.config.linears() {
            let stored = by_name.get(name.as_str());
            let Some(stored) = stored.filter(|stored| stored.format == Stored::Quantized) else {
                return Err(Error::NotQuantized { name });
            };
            bytes += stored.stored_bytes;
            weights += stored.weights;
            let tensor = dequantize(&file, &name)?;
            tensors.insert(name, tensor);
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        let stored_bits = 8.0 * bytes as f64 / weights as f64;
        Ok(Variant { tensors, stored_bits })
    }

    /// Rounds the matrices to NF4.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    fn nf4(&self) -> Result<Variant, Error> {
        let (mut tensors, mut bits, mut weights) = (BTreeMap::new(), 0.0, 0.0);
        for name in self.config.linears() {
            let tensor = self.tensors[&name].copy()?;
            let (count, cols) = (tensor.elem_count() as f64, tensor.dim(1)?);
            edit(&tensor, |numbers| nf4::round(numbers, cols))?;
            bits += count * nf4::bits(cols);
            weights += count;
            tensors.insert(name, tensor);
        }
        Ok(Variant { tensors, stored_bits: bits / weights })
    }
}

/// Dequantizes the tensor `name`.
fn dequantize(file: &CompressedFile, name: &str) -> Result<Tensor, Error> {
    let blob = file.blob(name)?;
    let shape = (blob.rows(), blob.cols());
    let mut numbers = vec![0_f32; shape.0 * shape.1];
    let bytes = bytemuck::cast_slice_mut(&mut numbers);
    let done = blob.dequantize(Float::F32, bytes);
    done.map_err(Error::invalid(file.path(), "compressed file"))?;
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// Measures the likelihoods of the windows.
fn measure(
    model: &Llama,
    windows: &Windows,
    progress: &mut Progress<'_>,
) -> Result<Vec<f64>, Error> {
    let total = windows.tokens.len() as u64;
    progress(Phase::Measuring, 0, total);
    perplexity::nll(model, windows, &mut |done| progress(Phase::Measuring, done as u64, total))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;
    use crate::measure::moments::{self, Kind, Weighting};
    use crate::tiny;

    fn windows() -> Windows {
        let window = |seed: u32| (0..12).map(|i| (seed + i * i) % 50).collect();
        Windows { context: 1, tokens: (0..3).map(window).collect() }
    }

    /// Writes the small model and moments of its inputs to a folder.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (folder, moments) = (directory.path(), directory.path().join("moments"));
        let config = tiny::config(false);
        let tensors = tiny::tensors(&config);
        output::save(&folder.join("model.safetensors"), &tensors, HashMap::new()).unwrap();
        fs::write(folder.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        let model = tiny::model(false);
        let matrices =
            moments::moments(&model, &windows(), Kind::Matrix, Weighting::Unscaled, &mut |_| {})
                .unwrap();
        moments::write(&moments, &matrices, &moments::shared(&model), 36, Weighting::Unscaled)
            .unwrap();
        (directory, moments)
    }

    #[test]
    fn rows_are_of_models_with_replaced_matrices() {
        let (folder, moments) = folder();
        let mut seen = Vec::new();
        let progress = &mut |phase, done, total| seen.push((phase, done, total));
        let table = Table::new(folder.path(), windows(), &moments, &moments, progress).unwrap();
        assert_eq!(seen[3], (Phase::Measuring, 3, 3));
        let reference = table.reference();
        assert_eq!((reference.nll_difference, reference.standard_error), (0.0, Some(0.0)));

        let format = |name: &str| {
            Format::all().unwrap().into_iter().find(|format| format.name == name).unwrap()
        };
        let row = table.measure(&format("nf4"), &mut |_, _, _| {}).unwrap();
        let weights = Weights::open(folder.path()).unwrap();
        let rounded = Llama::new(tiny::config(false), |name| {
            let tensor = weights.tensor_f32(name)?;
            if name.ends_with("_proj.weight") || name == "lm_head.weight" {
                let cols = tensor.dim(1)?;
                edit(&tensor, |numbers| nf4::round(numbers, cols))?;
            }
            Ok(tensor)
        });
        let expected = perplexity::nll(&rounded.unwrap(), &windows(), &mut |_| {}).unwrap();
        assert_eq!(row.mean_nll, perplexity::mean(&expected));
        assert!((0.05..0.15).contains(&row.relative_weight_error), "{row:?}");
        assert!((0.05..0.15).contains(&row.relative_output_error), "{row:?}");

        // The matrices are too small for smaller blobs.
        let result = table.measure(&format("int8"), &mut |_, _, _| {});
        assert!(matches!(result, Err(Error::NotQuantized { .. })), "{result:?}");
    }
}
