//! Results of jobs.

use serde::Serialize;

use crate::file::format::compressed::CompressedFile;
use crate::file::model::Shard;
use crate::file::policy::warning::Warning;

/// The result of a job: counts and sizes over all files of the model.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of compressed tensors.
    pub blobs: usize,
    /// Number of quantized tensors, which are among the compressed ones.
    pub quantized: usize,
    /// Number of tensors quantized with second moments of their inputs, which are among the quantized ones. Set by
    /// [`compress`](crate::file::compress) only.
    pub calibrated: usize,
    /// Names of the tensors that a quantizer was chosen for, but that are too small for it: they are stored without
    /// loss. Set by [`compress`](crate::file::compress) only.
    pub too_small: Vec<String>,
    /// Size of the plain files in bytes.
    pub original_bytes: u64,
    /// Size of the compressed files in bytes.
    pub stored_bytes: u64,
    /// Error of each quantized tensor. Set by [`verify_against`](crate::file::verify_against) only.
    pub errors: Vec<RelativeError>,
    /// Options without effect. Set by [`compress`](crate::file::compress) only.
    pub warnings: Vec<Warning>,
}

impl Summary {
    /// Counts the tensors of a compressed file.
    pub(in crate::file) fn from_compressed(file: &CompressedFile) -> Self {
        Self {
            tensors: file.tensor_count(),
            blobs: file.blob_names().count(),
            quantized: file.quantized().iter().filter(|&&quantized| quantized).count(),
            original_bytes: file.original_bytes(),
            stored_bytes: file.stored_bytes(),
            ..Self::default()
        }
    }

    /// Counts the tensors of a file that is not compressed.
    pub(in crate::file) fn from_plain(shard: &Shard) -> Self {
        let (tensors, bytes) = (shard.tensors, shard.file_bytes);
        Self { tensors, original_bytes: bytes, stored_bytes: bytes, ..Self::default() }
    }

    /// Adds the summary of another file.
    pub(in crate::file) fn add(&mut self, file: Self) {
        let Self { tensors, blobs, quantized, calibrated, .. } = file;
        let Self { too_small, original_bytes, stored_bytes, errors, warnings, .. } = file;
        self.tensors += tensors;
        self.blobs += blobs;
        self.quantized += quantized;
        self.calibrated += calibrated;
        self.original_bytes += original_bytes;
        self.stored_bytes += stored_bytes;
        self.too_small.extend(too_small);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
    }
}

/// How far a quantized tensor is from the original one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RelativeError {
    /// Name of the tensor.
    pub tensor: String,
    /// Root mean square of the differences, divided by the root mean square of the original numbers.
    pub relative_error: f64,
}
