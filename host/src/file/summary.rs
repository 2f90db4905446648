//! Results of jobs.

use std::error::Error;
use std::path::PathBuf;

use serde::Serialize;

use crate::file::error::ModelFault;
use crate::file::format::compressed::CompressedFile;
use crate::file::model::{Model, Shard};
use crate::file::policy::kept::Kept;
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
    /// Number of elements of all tensors. Set by [`compress`](crate::file::compress) only.
    pub weights: u64,
    /// The tensors that are stored otherwise than the options ask for. Set by [`compress`](crate::file::compress) only.
    pub kept: Vec<Kept>,
    /// Size of the plain files in bytes.
    pub original_bytes: u64,
    /// Size of the compressed files in bytes.
    pub stored_bytes: u64,
    /// Error of each quantized tensor. Set by [`verify_against`](crate::file::verify_against) only.
    pub errors: Vec<RelativeError>,
    /// Options without effect, and faults of the model that did not matter. Set by [`compress`](crate::file::compress) and
    /// [`decompress`](crate::file::decompress).
    pub warnings: Vec<Warning>,
    /// Paths, in the model's folder, of the files that were copied. Set by [`compress`](crate::file::compress) and
    /// [`decompress`](crate::file::decompress).
    pub copied: Vec<PathBuf>,
    /// Paths, in the model's folder, of the entries that were left out. Set like [`Self::copied`].
    pub left_out: Vec<PathBuf>,
}

impl Summary {
    /// Starts the summary of a job that writes a model.
    pub(in crate::file) fn of_model(model: &Model) -> Self {
        let text = |fault: &ModelFault| match fault.source() {
            Some(source) => format!("{fault}: {source}"),
            None => fault.to_string(),
        };
        Self {
            warnings: model.faults().map(|fault| Warning::Model(text(fault))).collect(),
            copied: model.companions().map(PathBuf::from).collect(),
            left_out: model.left_out().map(PathBuf::from).collect(),
            ..Self::default()
        }
    }

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
        let Self { tensors, blobs, quantized, calibrated, weights, .. } = file;
        let Self { kept, original_bytes, stored_bytes, errors, warnings, copied, left_out, .. } =
            file;
        self.tensors += tensors;
        self.blobs += blobs;
        self.quantized += quantized;
        self.calibrated += calibrated;
        self.original_bytes += original_bytes;
        self.stored_bytes += stored_bytes;
        self.weights += weights;
        self.kept.extend(kept);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
        self.copied.extend(copied);
        self.left_out.extend(left_out);
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
    /// The row with the largest relative error of its own. In a linear layer rows are outputs.
    pub worst_row: WorstLine,
    /// The column with the largest relative error of its own.
    pub worst_column: WorstLine,
}

/// The row or column of a tensor with the largest relative error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorstLine {
    /// Its index.
    pub index: usize,
    /// Root mean square of its differences, divided by the root mean square of its original numbers. Infinite where those
    /// are 0, and others are not; JSON has null for it.
    pub relative_error: f64,
}
