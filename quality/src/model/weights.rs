//! Reads the tensors of a model's folder.

use std::path::{Path, PathBuf};

use candle_core::safetensors::{Load, MmapedSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensorError};

use crate::Error;

/// An open `model.safetensors`. The file is mapped into memory: do not change or truncate it while this value exists.
pub struct Weights {
    path: PathBuf,
    file: MmapedSafetensors,
}

impl Weights {
    /// Opens the `model.safetensors` of a folder.
    ///
    /// # Errors
    /// [`Error::Invalid`], also if the file cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("model.safetensors");
        // SAFETY: the mapping is read-only and private to this value. That nobody changes or truncates the file cannot be
        // checked; the documentation of `Weights` requires it.
        let file = unsafe { MmapedSafetensors::new(&path) };
        let file = file.map_err(Error::invalid(&path, "safetensors file"))?;
        Ok(Self { path, file })
    }

    /// Reads the tensor `name` in its stored type: BF16, F16 or F32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Unsupported`] for other types.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let view = match self.file.get(name) {
            Ok(view) => view,
            Err(candle_core::Error::SafeTensor(SafeTensorError::TensorNotFound(_))) => {
                return Err(Error::MissingTensor { name: name.to_owned() });
            }
            Err(error) => return Err(Error::invalid(&self.path, "safetensors file")(error)),
        };
        if !matches!(view.dtype(), Dtype::BF16 | Dtype::F16 | Dtype::F32) {
            return Err(Error::unsupported(&self.path, format!("{name} in {:?}", view.dtype())));
        }
        Ok(view.load(&Device::Cpu)?)
    }

    /// Reads the tensor `name` and converts it to F32.
    ///
    /// # Errors
    /// The errors of [`Weights::tensor`].
    pub fn tensor_f32(&self, name: &str) -> Result<Tensor, Error> {
        Ok(self.tensor(name)?.to_dtype(DType::F32)?)
    }
}
