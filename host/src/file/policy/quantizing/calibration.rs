//! Second moments of layers' inputs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::Float;
use crate::element::zeros;
use crate::file::error::{FileError, HeaderFault, TensorFault};
use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::quantize::Moments;

/// Metadata key of the JSON object that maps names of matrices to the stored tensor of the same inputs.
const SHARED: &str = "shared";

/// A safetensors file with the second moments of layers' inputs. For a matrix of K columns it has an F32 tensor of the
/// same name: `[K, K]`, the mean of `x x^T` over inputs x, or `[K]`, its diagonal. Matrices with the inputs of another
/// matrix are listed in the metadata entry `shared`.
///
/// The file is memory-mapped: do not change it while this value lives.
#[derive(Debug)]
pub struct Calibration {
    file: PlainFile,
    by_name: HashMap<String, usize>,
    shared: HashMap<String, String>,
    /// The last result and the index of its tensor: matrices that share their inputs mostly follow each other.
    last: Mutex<Option<(usize, Moments)>>,
}

impl Calibration {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// The errors of [`PlainFile::open`]; [`FileError::Header`] if `shared` is not a JSON object from names to names,
    /// or names a tensor that is not in the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let file = PlainFile::open(path)?;
        let names = file.tensors().iter().map(|tensor| tensor.name.clone());
        let by_name: HashMap<String, usize> = names.zip(0..).collect();
        let shared = file.header().metadata.iter().find(|(key, _)| key == SHARED);
        let shared = shared.map_or(Ok(HashMap::new()), |(_, json)| serde_json::from_str(json));
        let shared: HashMap<String, String> =
            shared.map_err(|fault| FileError::header(path)(HeaderFault::Shared(fault.into())))?;
        if let Some((name, stored)) =
            shared.iter().find(|(_, stored)| !by_name.contains_key(*stored))
        {
            let fault = HeaderFault::SharedName { name: name.clone(), stored: stored.clone() };
            return Err(FileError::header(path)(fault));
        }
        Ok(Self { file, by_name, shared, last: Mutex::new(None) })
    }

    /// Returns the second moments of the inputs of the matrix `name`, if the file has them. Caches the last ones.
    ///
    /// # Errors
    /// [`FileError::Tensor`] if the tensor has another type or shape than second moments.
    pub fn moments(&self, name: &str) -> Result<Option<Moments>, FileError> {
        let Some(index) = self.index_of(name) else { return Ok(None) };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, moments)) = &*last
            && *cached == index
        {
            return Ok(Some(moments.clone()));
        }
        // Frees the memory before the next ones are read: there may be no room for both.
        *last = None;
        let tensor = &self.file.tensors()[index];
        let moments = self
            .read(tensor)
            .map_err(|fault| FileError::tensor(self.file.path(), &tensor.name, fault))?;
        *last = Some((index, moments.clone()));
        Ok(Some(moments))
    }

    /// Returns whether the file has the second moments of the inputs of the matrix `name`.
    pub(super) fn has_moments(&self, name: &str) -> bool {
        self.index_of(name).is_some()
    }

    /// Checks that the file has not changed since it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), FileError> {
        self.file.check_unchanged()
    }

    /// Returns the index of the tensor with the moments of the matrix `name`.
    fn index_of(&self, name: &str) -> Option<usize> {
        let stored = self.shared.get(name).map_or(name, String::as_str);
        self.by_name.get(stored).copied()
    }

    /// Reads moments.
    fn read(&self, tensor: &Tensor) -> Result<Moments, TensorFault> {
        if tensor.dtype != TensorDtype::F32 {
            return Err(TensorFault::MomentsType(tensor.dtype.to_string()));
        }
        let inputs = match *tensor.shape {
            [inputs] if inputs > 0 => inputs,
            [inputs, other] if inputs > 0 && inputs == other => inputs,
            _ => return Err(TensorFault::MomentsShape(tensor.shape.clone())),
        };
        let data = self.file.data(tensor);
        let mut values = zeros(data.len() / Float::F32.byte_len())?;
        Float::F32.load(data, &mut values);
        Ok(Moments::new(inputs, values)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_moments_are_cached_for_all_that_share_them() {
        let header = r#"{"__metadata__":{"shared":"{\"k\":\"q\"}"},
            "o":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "q":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let data = [2.0f32, 3.0].map(f32::to_le_bytes);
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data.as_flattened()];
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("moments");
        fs::write(&path, bytes.concat()).unwrap();
        let calibration = Calibration::open(&path).unwrap();
        let moments = |name| calibration.moments(name).unwrap().unwrap();
        let (q, k, o) = (moments("q"), moments("k"), moments("o"));
        assert!(q.is_clone_of(&k) && !o.is_clone_of(&q) && o.is_clone_of(&moments("o")));
        assert_eq!(
            [&q, &k, &o, &moments("k")].map(|moments| moments.mean_square_output(&[1.0])),
            [3.0, 3.0, 2.0, 3.0]
        );
        assert!(calibration.moments("v").unwrap().is_none());
    }
}
