//! What a file holds and how small it is.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::file::error::FileError;
use crate::file::format::compressed::{CompressedFile, unmarked};
use crate::file::format::container;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::{Mapped, PlainFile};
use crate::{Blob, entropy};

/// What [`inspect`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Every tensor, in the order of the original file's data.
    pub tensors: Vec<TensorReport>,
    /// The file as a whole.
    pub totals: Totals,
}

/// One tensor of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorReport {
    /// Name.
    pub name: String,
    /// Shape before compression.
    pub shape: Vec<usize>,
    /// Dtype before compression, as safetensors calls it.
    pub dtype: String,
    /// How the tensor is stored.
    pub format: StoredAs,
    /// Elements.
    pub weights: u64,
    /// Bytes that the tensor takes in the file, everything counted.
    pub stored_bytes: u64,
    /// `8 * stored_bytes / weights`; 0 without weights.
    pub bits_per_weight: f64,
    /// Order-0 entropy of single exponents plus the bits beside them, of whole values for
    /// integers; the stored width for types that the codec does not take. 0 without weights.
    pub entropy_bits_per_weight: f64,
    /// Weights outside the coded window.
    pub exceptions: u64,
    /// How the weights of a blob are coded.
    pub coding: Option<CodingReport>,
}

/// How the weights of a blob are coded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodingReport {
    /// Their type: another than the tensor's, if it is quantized.
    pub dtype: String,
    /// How many share a symbol.
    pub weights_per_symbol: u8,
    /// Bits of each that are stored as they are; the rest is coded.
    pub raw_bits: u8,
    /// Whether rows have scales.
    pub row_scales: bool,
    /// Whether some integers take more than a byte.
    pub large_integers: bool,
    /// Whether groups of 128 columns have scales.
    pub group_scales: bool,
    /// Whether these have zero points.
    pub zero_points: bool,
}

impl CodingReport {
    fn of(blob: &Blob<'_>) -> Self {
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
    /// As a blob that gives every bit back.
    Lossless,
    /// As a blob of fewer bits, with scales.
    Quantized,
    /// As it is.
    Raw,
}

/// The sums of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Elements of all tensors.
    pub weights: u64,
    /// Size of the file before compression.
    pub original_bytes: u64,
    /// Size of the file.
    pub stored_bytes: u64,
    /// `8 * stored_bytes / weights`; 0 without weights.
    pub bits_per_weight: f64,
    /// Mean of the tensors' entropies by weights; 0 without weights.
    pub entropy_bits_per_weight: f64,
    /// Exceptions of all tensors.
    pub exceptions: u64,
}

/// Lists the tensors of `path`, compressed or not. Reads the weights of plain tensors for their
/// entropy, but of blobs the headers only: it does not verify them. Runs on rayon's current thread
/// pool.
///
/// # Errors
/// What can be wrong with the file's header.
pub fn inspect(path: impl AsRef<Path>) -> Result<Report, FileError> {
    let mapped = Mapped::open(path.as_ref())?;
    if container::is_marked(mapped.header_text()) {
        let file = CompressedFile::from_marked(mapped)?;
        let tensors = file.tensors().par_iter().enumerate();
        let rows = tensors.map(|(index, tensor)| match file.blob_at(index)? {
            None => Ok(raw(tensor, file.stored(index))),
            Some(blob) => {
                let bytes = file.stored(index).len();
                let format = match file.quantized()[index] {
                    true => StoredAs::Quantized,
                    false => StoredAs::Lossless,
                };
                let row = row(tensor, format, bytes, blob.entropy());
                let coding = Some(CodingReport::of(&blob));
                Ok(TensorReport { exceptions: blob.exceptions(), coding, ..row })
            }
        });
        let rows = rows.collect::<Result<_, FileError>>()?;
        return Ok(report(rows, file.original_bytes(), file.stored_bytes()));
    }
    let plain = PlainFile::from_unmarked(mapped)?;
    if let Some(fault) = unmarked(&plain) {
        return Err(fault);
    }
    let rows = plain.tensors().par_iter().map(|tensor| raw(tensor, plain.data(tensor))).collect();
    Ok(report(rows, plain.file().len(), plain.file().len()))
}

fn raw(tensor: &Tensor, data: &[u8]) -> TensorReport {
    #[expect(clippy::cast_precision_loss, reason = "a dtype has at most 64 bits")]
    let entropy = match tensor.dtype.codec() {
        Some(dtype) => entropy(dtype, data),
        None => tensor.dtype.bits() as f64,
    };
    row(tensor, StoredAs::Raw, data.len(), entropy)
}

fn row(tensor: &Tensor, format: StoredAs, stored_bytes: usize, entropy: f64) -> TensorReport {
    let (weights, stored_bytes) = (tensor.weights(), stored_bytes as u64);
    TensorReport {
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

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn bits_per_weight(bytes: u64, weights: u64) -> f64 {
    if weights == 0 { 0.0 } else { 8.0 * bytes as f64 / weights as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn report(tensors: Vec<TensorReport>, original_bytes: u64, stored_bytes: u64) -> Report {
    let weights = tensors.iter().map(|tensor| tensor.weights).sum();
    let bits = tensors.iter().map(|tensor| tensor.weights as f64 * tensor.entropy_bits_per_weight);
    let bits: f64 = bits.sum();
    let totals = Totals {
        weights,
        original_bytes,
        stored_bytes,
        bits_per_weight: bits_per_weight(stored_bytes, weights),
        entropy_bits_per_weight: if weights == 0 { 0.0 } else { bits / weights as f64 },
        exceptions: tensors.iter().map(|tensor| tensor.exceptions).sum(),
    };
    Report { tensors, totals }
}
