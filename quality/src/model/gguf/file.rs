//! Reads GGUF files: metadata values and tensors.

use std::fs::File;
use std::io::BufReader;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{Device, Tensor};

use crate::Error;

/// An open GGUF file.
pub(super) struct Gguf<'a> {
    path: &'a Path,
    file: BufReader<File>,
    bytes: u64,
    content: Content,
}

impl<'a> Gguf<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let bytes = file.metadata().map_err(Error::io(path, "open"))?.len();
        let mut file = BufReader::new(file);
        // candle divides by the file's alignment, which may be 0.
        let content = panic::catch_unwind(AssertUnwindSafe(|| Content::read(&mut file)));
        let content = content.map_err(|_| Error::invalid(path, "GGUF file")("broken header"))?;
        let content = content.map_err(Error::invalid(path, "GGUF file"))?;
        Ok(Self { path, file, bytes, content })
    }

    /// Makes the error of an invalid file.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> Error {
        Error::invalid(self.path, "GGUF file")(problem.into())
    }

    /// Makes the error of a file that needs a feature which is not implemented.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::unsupported(self.path, what)
    }

    /// Returns the metadata value `key`, if there is one.
    pub(super) fn optional(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// Returns the metadata value `key`, converted by `convert`.
    pub(super) fn value<'s, T>(
        &'s self,
        key: &str,
        convert: impl FnOnce(&'s Value) -> candle_core::Result<T>,
    ) -> Result<T, Error> {
        let value = self.optional(key).ok_or_else(|| self.invalid(format!("{key} is missing")))?;
        convert(value).map_err(|_| self.invalid(format!("{key} is of another type")))
    }

    /// Returns the names of all tensors, in no order.
    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &String> {
        self.content.tensor_infos.keys()
    }

    /// Reads the tensor `name` and dequantizes it to F32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Shape`] if it does not have the shape `expected`; [`Error::Invalid`].
    pub(super) fn tensor(&mut self, name: &str, expected: &[usize]) -> Result<Tensor, Error> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(Error::MissingTensor { name: name.to_owned() });
        };
        if info.shape.dims() != expected {
            let (expected, found) = (expected.to_vec(), info.shape.dims().to_vec());
            return Err(Error::Shape { name: name.to_owned(), expected, found });
        }
        // Before candle allocates memory for it.
        let end = end(info, self.content.tensor_data_offset);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.invalid(format!("the file ends within tensor {name}")));
        }
        let tensor = info.read(&mut self.file, self.content.tensor_data_offset, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        tensor.map_err(Error::invalid(self.path, "GGUF file"))
    }
}

/// Returns the offset in the file of the end of a tensor's data.
fn end(info: &TensorInfo, data_start: u64) -> Option<u64> {
    let blocks = info.shape.elem_count().div_ceil(info.ggml_dtype.block_size());
    let bytes = blocks.checked_mul(info.ggml_dtype.type_size())?;
    data_start.checked_add(info.offset)?.checked_add(bytes as u64)
}
