//! Files of second moments.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;

use super::error::{FileError, HeaderFault, TensorFault};
use super::mapped::PlainFile;
use crate::Float;
use crate::quantize::{Moments, QuantizeError};

/// Key of the metadata that says which tensors share their inputs, as JSON: `{"name": "name of the one that is stored"}`.
const SHARED: &str = "shared";

/// A safetensors file of second moments of layers' inputs: for a matrix of K columns a tensor of its name, F32,
/// `[K, K]` (the mean of `x x^T` over inputs x) or `[K]` (its diagonal). Matrices that have their inputs from
/// another one are named in the metadata, under `shared`.
///
/// The file is memory-mapped: it must not be changed while this value lives.
#[derive(Debug)]
pub struct Calibration {
    file: PlainFile,
    by_name: HashMap<String, usize>,
    shared: HashMap<String, String>,
}

impl Calibration {
    /// Opens `path`.
    ///
    /// # Errors
    /// What can be wrong with a safetensors file; [`FileError::Header`] if `shared` is no map of names.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let file = PlainFile::open(path.as_ref())?;
        let names = file.tensors().iter().map(|tensor| tensor.name.clone());
        let by_name = names.zip(0..).collect();
        let shared = file.header().metadata.iter().find(|(key, _)| key == SHARED);
        let shared = shared.map_or(Ok(HashMap::new()), |(_, json)| serde_json::from_str(json));
        let shared =
            shared.map_err(|fault| FileError::header(path.as_ref())(HeaderFault::Shared(fault)))?;
        Ok(Self { file, by_name, shared })
    }

    /// The second moments of the inputs of the matrix `name`, if they are known.
    ///
    /// # Errors
    /// [`FileError::Tensor`] for a tensor that cannot be second moments.
    pub fn moments(&self, name: &str) -> Result<Option<Moments>, FileError> {
        let name = self.shared.get(name).map_or(name, String::as_str);
        let Some(&index) = self.by_name.get(name) else { return Ok(None) };
        let tensor = &self.file.tensors()[index];
        let fault = |fault: QuantizeError| {
            FileError::tensor(self.file.file().path(), name, TensorFault::Quantize(fault))
        };
        let inputs = match *tensor.shape {
            [inputs] => inputs,
            [inputs, other] if inputs == other => inputs,
            _ => return Err(fault(QuantizeError::Indefinite("a tensor is neither K x K nor K"))),
        };
        if tensor.dtype != Dtype::F32 {
            return Err(fault(QuantizeError::Indefinite("a tensor is not F32")));
        }
        let data = self.file.data(tensor);
        let mut values = vec![0.0; data.len() / Float::F32.bytes()];
        Float::F32.load(data, &mut values);
        Moments::new(inputs, values).map(Some).map_err(fault)
    }
}
