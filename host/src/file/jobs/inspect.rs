//! Reports on the tensors of files: how they are stored, and how small they are.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::file::error::FileError;
use crate::file::format::compressed::CompressedFile;
use crate::file::format::header::Tensor;
use crate::file::format::tensor_file::TensorFile;
use crate::file::model::{Model, PathKind};
use crate::{Blob, entropy};

/// The result of [`inspect`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// All tensors, file by file, each in the order of the original file's data.
    pub tensors: Vec<TensorReport>,
    /// Sums over all files.
    pub totals: Totals,
}

/// One tensor of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// Name of the tensor.
    pub name: String,
    /// Shape before compression.
    pub shape: Vec<usize>,
    /// Dtype before compression, by its safetensors name.
    pub dtype: String,
    /// How the tensor is stored.
    pub format: StoredAs,
    /// Number of elements.
    pub weights: u64,
    /// Size in the file in bytes, with tables, scales and checksums.
    pub stored_bytes: u64,
    /// `8 * stored_bytes / weights`; 0 without weights.
    pub bits_per_weight: f64,
    /// Order-0 entropy: of floating-point numbers that of the exponents, plus the other bits; of integers that of the
    /// values. The stored width for types that the codec does not take; 0 without weights.
    pub entropy_bits_per_weight: f64,
    /// Number of weights outside the coded window, which are listed one by one.
    pub exceptions: u64,
    /// How the weights are coded, if the tensor is compressed.
    pub coding: Option<CodingReport>,
}

/// How the weights of a blob are coded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CodingReport {
    /// Type of the coded weights. Differs from the tensor's if that is quantized.
    pub dtype: String,
    /// How many weights share a symbol.
    pub weights_per_symbol: u8,
    /// Bits of each weight that are stored as they are. The others are coded.
    pub raw_bits: u8,
    /// Whether rows have scales.
    pub row_scales: bool,
    /// Whether some integers take more than a byte.
    pub large_integers: bool,
    /// Whether groups of 128 columns have scales.
    pub group_scales: bool,
    /// Whether groups have zero points.
    pub zero_points: bool,
}

impl CodingReport {
    fn new(blob: &Blob<'_>) -> Self {
        let split = blob.split();
        Self {
            dtype: split.dtype().name().to_owned(),
            weights_per_symbol: split.weights_per_symbol() as u8,
            raw_bits: split.raw_bits(),
            row_scales: blob.row_scales().is_some(),
            large_integers: blob.has_large_integers(),
            group_scales: blob.groups().is_some(),
            zero_points: blob.groups().is_some_and(|groups| groups.zeros),
        }
    }
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoredAs {
    /// As a blob that decodes to the same bits.
    Lossless,
    /// As a blob of quantized weights with scales.
    Quantized,
    /// As it is.
    Raw,
}

/// The sums of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Number of elements of all tensors.
    pub weights: u64,
    /// Size of the files before compression, in bytes.
    pub original_bytes: u64,
    /// Size of the files, in bytes.
    pub stored_bytes: u64,
    /// `8 * stored_bytes / weights`; 0 without weights.
    pub bits_per_weight: f64,
    /// Mean entropy of all weights; 0 without weights.
    pub entropy_bits_per_weight: f64,
    /// Number of exceptions of all tensors.
    pub exceptions: u64,
}

/// Lists the tensors of the model `path`, compressed or not: file by file, each in the order of its data. Use it to see
/// how small a file is, or how small it could become.
///
/// Reads the weights of plain tensors, for their entropy, but of blobs only the headers: it does not verify them. Runs
/// on rayon's current thread pool.
///
/// # Errors
/// The errors of [`Model::open`].
pub fn inspect(path: impl AsRef<Path>) -> Result<Report, FileError> {
    let path = path.as_ref();
    if PathKind::new(path)? == PathKind::File {
        return inspect_file(path);
    }
    let mut reports =
        Model::open(path)?.shards().map(inspect_file).collect::<Result<Vec<_>, _>>()?;
    // Every model has a shard.
    let mut all = reports.remove(0);
    for Report { tensors, totals } in reports {
        all.totals = all.totals.add(&totals);
        all.tensors.extend(tensors);
    }
    Ok(all)
}

fn inspect_file(path: &Path) -> Result<Report, FileError> {
    let (tensors, original_bytes, stored_bytes) = match TensorFile::open(path)? {
        TensorFile::Plain(file) => {
            let tensors = file.tensors().par_iter();
            let tensors = tensors.map(|tensor| report_raw(tensor, file.data(tensor))).collect();
            (tensors, file.file_bytes(), file.file_bytes())
        }
        TensorFile::Compressed(file) => {
            let tensors = (0..file.tensor_count()).into_par_iter();
            let tensors = tensors.map(|index| report_stored(&file, index));
            let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
            (tensors, file.original_bytes(), file.stored_bytes())
        }
    };
    Ok(Report::new(tensors, original_bytes, stored_bytes))
}

/// Reports on a tensor of a compressed file.
fn report_stored(file: &CompressedFile, index: usize) -> Result<TensorReport, FileError> {
    let (tensor, stored) = (&file.tensors()[index], file.stored(index));
    let Some(blob) = file.blob_at(index)? else { return Ok(report_raw(tensor, stored)) };
    let format = match file.quantized()[index] {
        true => StoredAs::Quantized,
        false => StoredAs::Lossless,
    };
    let report = TensorReport::new(tensor, format, stored.len(), blob.entropy());
    let coding = Some(CodingReport::new(&blob));
    Ok(TensorReport { exceptions: blob.exception_count(), coding, ..report })
}

/// Reports on a tensor that is stored as it is.
fn report_raw(tensor: &Tensor, data: &[u8]) -> TensorReport {
    #[expect(clippy::cast_precision_loss, reason = "a dtype has at most 64 bits")]
    let entropy = match tensor.dtype.codec() {
        Some(dtype) => entropy(dtype, data),
        None => tensor.dtype.bits() as f64,
    };
    TensorReport::new(tensor, StoredAs::Raw, data.len(), entropy)
}

impl Report {
    /// Adds up the reports on tensors of files that take `original_bytes` before compression and `stored_bytes` now.
    /// Use it for a report on a part of a model.
    #[must_use]
    pub fn new(tensors: Vec<TensorReport>, original_bytes: u64, stored_bytes: u64) -> Self {
        let totals = Totals::new(&tensors, original_bytes, stored_bytes);
        Self { tensors, totals }
    }
}

impl TensorReport {
    fn new(tensor: &Tensor, format: StoredAs, stored_bytes: usize, entropy: f64) -> Self {
        let (weights, stored_bytes) = (tensor.weights(), stored_bytes as u64);
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype.to_string(),
            format,
            weights,
            stored_bytes,
            bits_per_weight: bits_per_weight(stored_bytes, weights),
            entropy_bits_per_weight: if weights > 0 { entropy } else { 0.0 },
            exceptions: 0,
            coding: None,
        }
    }
}

impl Totals {
    /// Adds up the reports on all tensors of a file.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    fn new(tensors: &[TensorReport], original_bytes: u64, stored_bytes: u64) -> Self {
        let weights = tensors.iter().map(|tensor| tensor.weights).sum();
        let bits =
            tensors.iter().map(|tensor| tensor.weights as f64 * tensor.entropy_bits_per_weight);
        let bits: f64 = bits.sum();
        Self {
            weights,
            original_bytes,
            stored_bytes,
            bits_per_weight: bits_per_weight(stored_bytes, weights),
            entropy_bits_per_weight: if weights == 0 { 0.0 } else { bits / weights as f64 },
            exceptions: tensors.iter().map(|tensor| tensor.exceptions).sum(),
        }
    }

    /// Adds up the totals of two files.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    fn add(&self, other: &Self) -> Self {
        let weights = self.weights + other.weights;
        let stored_bytes = self.stored_bytes + other.stored_bytes;
        let bits = |totals: &Self| totals.weights as f64 * totals.entropy_bits_per_weight;
        let bits = bits(self) + bits(other);
        Self {
            weights,
            original_bytes: self.original_bytes + other.original_bytes,
            stored_bytes,
            bits_per_weight: bits_per_weight(stored_bytes, weights),
            entropy_bits_per_weight: if weights == 0 { 0.0 } else { bits / weights as f64 },
            exceptions: self.exceptions + other.exceptions,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn bits_per_weight(bytes: u64, weights: u64) -> f64 {
    if weights == 0 { 0.0 } else { 8.0 * bytes as f64 / weights as f64 }
}
