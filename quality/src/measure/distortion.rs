//! Measures errors of quantized weights and of their outputs, relative to the original ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;

use crate::Error;
use crate::model::values::read;

/// Number of rows of weights that are multiplied by moments at a time.
const ROWS: usize = 1024;

/// An open file of moments, as [`moments::write`](crate::measure::moments::write) writes it. The file is mapped into memory: do
/// not change or truncate it while this value exists.
pub struct MomentsFile {
    path: PathBuf,
    mapped: Mmap,
    shared: BTreeMap<String, String>,
}

impl MomentsFile {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let invalid = || Error::invalid(path, "file of moments");
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        // SAFETY: the mapping is read-only and private to this value. That nobody changes or truncates the file cannot be
        // checked; the documentation of `MomentsFile` requires it.
        let mapped = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "read"))?;
        let (_, header) = SafeTensors::read_metadata(&mapped).map_err(invalid())?;
        let shared = header.metadata().as_ref().and_then(|metadata| metadata.get("shared"));
        let shared = shared.map_or(Ok(BTreeMap::new()), |json| serde_json::from_str(json));
        let shared = shared.map_err(Error::invalid(path, "file of moments"))?;
        Ok(Self { path: path.to_owned(), mapped, shared })
    }

    /// Reads the moments of the inputs of the weights `name`: `[K, K]`, or the diagonal, `[K]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Invalid`].
    pub fn moments(&self, name: &str) -> Result<Tensor, Error> {
        let invalid = || Error::invalid(&self.path, "file of moments");
        let file = SafeTensors::deserialize(&self.mapped).map_err(invalid())?;
        let stored = self.shared.get(name).map_or(name, String::as_str);
        let Ok(view) = file.tensor(stored) else {
            return Err(Error::MissingTensor { name: format!("{stored} of moments") });
        };
        Ok(view.load(&Device::Cpu)?)
    }
}

/// The original weights, with which others are compared.
pub struct Originals {
    moments: MomentsFile,
    tensors: BTreeMap<String, Original>,
}

/// An original matrix.
struct Original {
    weights: Tensor,
    /// Sum of the squared weights.
    squares: f64,
    /// Sum over outputs of their mean square.
    outputs: f64,
}

/// Relative errors of a whole model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Root of the mean of each matrix's relative squared error, |E|² / |W|², weighted by its number of weights.
    pub weight: f64,
    /// Root of the mean over matrices of the relative squared error of the outputs, tr(E H Eᵀ) / tr(W H Wᵀ), where H are
    /// the moments of the inputs.
    pub output: f64,
}

impl Originals {
    /// Takes the weights `tensors`, `[N, K]` in F32. `moments` must contain the moments of every tensor.
    ///
    /// # Errors
    /// The errors of [`MomentsFile::moments`]; [`Error::Compute`] if moments have another size.
    pub fn new(moments: MomentsFile, tensors: BTreeMap<String, Tensor>) -> Result<Self, Error> {
        let originals = tensors.into_par_iter().map(|(name, weights)| {
            let squares = read(&weights, |weights| dot(weights, weights))?;
            let outputs = outputs(&weights, &moments.moments(&name)?)?;
            Ok((name, Original { weights, squares, outputs }))
        });
        let tensors = originals.collect::<Result<_, Error>>()?;
        Ok(Self { moments, tensors })
    }

    /// Computes the errors of the weights `replaced`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if some are missing.
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    pub fn errors(&self, replaced: &BTreeMap<String, Tensor>) -> Result<Errors, Error> {
        let errors = self.tensors.par_iter().map(|(name, original)| {
            let Some(replaced) = replaced.get(name) else {
                return Err(Error::MissingTensor { name: name.clone() });
            };
            let error = difference(replaced, &original.weights)?;
            let squares = read(&error, |error| dot(error, error))?;
            let outputs = outputs(&error, &self.moments.moments(name)?)?;
            let weights = error.elem_count() as f64;
            Ok([
                weights,
                weights * ratio(squares, original.squares),
                ratio(outputs, original.outputs),
            ])
        });
        let errors: Vec<[f64; 3]> = errors.collect::<Result<_, Error>>()?;
        let sum = |i: usize| errors.iter().map(|errors| errors[i]).sum::<f64>();
        Ok(Errors {
            weight: ratio(sum(1), sum(0)).sqrt(),
            output: ratio(sum(2), errors.len() as f64).sqrt(),
        })
    }
}

/// Returns a / b, and 0 for 0 / 0.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}

/// Returns a - b, computed on this thread: candle's difference would use a second pool of threads.
fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    let values: Vec<f32> =
        read(a, |a| read(b, |b| a.iter().zip(b).map(|(a, b)| a - b).collect()))??;
    Ok(Tensor::from_vec(values, b.shape(), &Device::Cpu)?)
}

/// Returns tr(W H Wᵀ) of weights W, `[N, K]`, and moments H, `[K, K]` or the diagonal `[K]`: the sum over the N outputs of
/// their mean square.
fn outputs(weights: &Tensor, moments: &Tensor) -> Result<f64, Error> {
    if moments.rank() == 1 {
        let sum = |weights: &[f32], moments: &[f32]| {
            let rows = weights.chunks_exact(moments.len());
            rows.map(|row| {
                row.iter().zip(moments).map(|(&w, &h)| square(w) * f64::from(h)).sum::<f64>()
            })
            .sum()
        };
        let weights = weights.broadcast_as((weights.dim(0)?, moments.dim(0)?))?;
        return Ok(read(&weights, |weights| read(moments, |moments| sum(weights, moments)))??);
    }
    let rows = weights.dim(0)?;
    let mut sum = 0.0;
    for first in (0..rows).step_by(ROWS) {
        let weights = weights.narrow(0, first, ROWS.min(rows - first))?;
        let products = weights.matmul(moments)?;
        sum += read(&weights, |weights| read(&products, |products| dot(weights, products)))??;
    }
    Ok(sum)
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::moments::{self, Kind, Weighting};
    use crate::{Windows, tiny};

    fn matrix(seed: u64, rows: usize, cols: usize) -> Tensor {
        Tensor::from_vec(tiny::noise(seed, rows * cols), (rows, cols), &Device::Cpu).unwrap()
    }

    #[test]
    fn outputs_are_those_of_the_inputs() {
        // More rows than one step multiplies.
        let (weights, inputs) = (matrix(1, ROWS + 3, 5), matrix(2, 9, 5));
        let (w, x) = (weights.to_vec2::<f32>().unwrap(), inputs.to_vec2::<f32>().unwrap());
        let naive: f64 =
            x.iter().flat_map(|x| w.iter().map(move |w| dot(w, x).powi(2) / 9.0)).sum();
        let moments = (inputs.t().unwrap().matmul(&inputs).unwrap() / 9.0).unwrap();
        let found = outputs(&weights, &moments).unwrap();
        assert!((found / naive - 1.0).abs() < 1e-5, "{found}, not {naive}");

        let squares = (inputs.sqr().unwrap().sum(0).unwrap() / 9.0).unwrap();
        let naive: f64 = x
            .iter()
            .flatten()
            .zip((0..5).cycle())
            .map(|(&x, k)| w.iter().map(|w| square(w[k]) * square(x) / 9.0).sum::<f64>())
            .sum();
        let found = outputs(&weights, &squares).unwrap();
        assert!((found / naive - 1.0).abs() < 1e-5, "{found}, not {naive}");
        assert!(outputs(&weights, &matrix(3, 4, 4)).is_err());
        assert!(outputs(&weights, &Tensor::new(&[1_f32; 4], &Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn errors_are_relative() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moments.safetensors");
        let model = tiny::model(true);
        let windows = Windows { context: 1, tokens: vec![(0..40).collect()] };
        let moments =
            moments::moments(&model, &windows, Kind::Matrix, Weighting::Unscaled, &mut |_| {})
                .unwrap();
        moments::write(&path, &moments, &moments::shared(&model), 40, Weighting::Unscaled).unwrap();

        let tensors = tiny::tensors(model.config());
        let linears: BTreeMap<String, Tensor> = model
            .config()
            .linears()
            .map(|name| {
                let tensor = tensors[&name].to_dtype(candle_core::DType::F32).unwrap();
                (name, tensor)
            })
            .collect();
        let open = || MomentsFile::open(&path).unwrap();
        let originals = Originals::new(open(), linears.clone()).unwrap();
        assert_eq!(originals.errors(&linears).unwrap(), Errors { weight: 0.0, output: 0.0 });
        // Every other matrix is too small by a quarter.
        let mut scaled = linears.clone();
        let (mut less, mut all) = (0, 0);
        for (i, tensor) in scaled.values_mut().enumerate() {
            let factor = if i % 2 == 0 { 0.75 } else { 1.0 };
            *tensor = (&*tensor * factor).unwrap();
            all += tensor.elem_count();
            less += if i % 2 == 0 { tensor.elem_count() } else { 0 };
        }
        let errors = originals.errors(&scaled).unwrap();
        let expected = 0.25 * (less as f64 / all as f64).sqrt();
        assert!((errors.weight - expected).abs() < 1e-6, "{errors:?}, not {expected}");
        assert!((errors.output - 0.25 * 0.5_f64.sqrt()).abs() < 1e-6, "{errors:?}");

        scaled.pop_first();
        assert!(matches!(originals.errors(&scaled), Err(Error::MissingTensor { .. })));
        let foreign = BTreeMap::from([("foreign".to_owned(), matrix(1, 2, 2))]);
        let result = Originals::new(open(), foreign);
        assert!(matches!(result, Err(Error::MissingTensor { .. })));
        std::fs::write(&path, "not moments").unwrap();
        assert!(matches!(MomentsFile::open(&path), Err(Error::Invalid { .. })));
    }
}
