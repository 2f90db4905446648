//! Compressed files, checked and compared.

use std::cell::Cell;
use std::path::Path;

use crate::file::error::{FileError, ModelFault};
use crate::file::format::compressed::CompressedFile;
use crate::file::format::plain::PlainFile;
use crate::file::jobs::compare::Comparison;
use crate::file::model::{Model, Shard};
use crate::file::progress::Progress;
use crate::file::summary::Summary;

/// Checks every checksum of the compressed model `path`, and decodes every tensor. Files that are not compressed, while
/// others are, have no checksums: only their headers are checked.
///
/// # Errors
/// The errors of [`Model::open`]; [`FileError::NotCompressed`] if no file is compressed; [`FileError::Tensor`] for the first
/// damaged tensor; [`FileError::Changed`], [`FileError::Memory`].
pub fn verify(path: impl AsRef<Path>, mut progress: Progress<'_>) -> Result<Summary, FileError> {
    let model = Model::open_compressed(path.as_ref())?;
    progress.add_to_total(model.tensor_bytes());
    let mut summary = Summary::default();
    for shard in model.files() {
        summary.add(verify_shard(shard, &mut progress)?);
    }
    Ok(summary)
}

fn verify_shard(shard: &Shard, progress: &mut Progress<'_>) -> Result<Summary, FileError> {
    if !shard.is_compressed {
        progress.add(shard.tensor_bytes);
        return Ok(Summary::from_plain(shard));
    }
    let file = CompressedFile::open(&shard.path)?;
    let scratch = Cell::new(Vec::new());
    for index in 0..file.tensor_count() {
        file.original_parts(
            index,
            || scratch.take(),
            |piece| {
                progress.add(piece.bytes().len() as u64);
                scratch.set(piece.into_memory());
                Ok::<(), FileError>(())
            },
        )?;
    }
    file.check_unchanged()?;
    Ok(Summary::from_compressed(&file))
}

/// Verifies the compressed model `path` as [`verify`] does, and compares all its tensors with those of the plain model
/// `against`: names, dtypes, shapes and bytes. Quantized tensors are not compared by bytes; the summary has their relative
/// errors instead. The order of the tensors and the metadata may differ.
///
/// Both models must consist of files of the same names, or of one file each.
///
/// # Errors
/// The errors of [`verify`], for both models; [`FileError::Differs`] for the first difference, or for a NaN or an infinity
/// in a quantized tensor; [`ModelFault::NoCounterpart`] for a file that only one model has.
pub fn verify_against(
    path: impl AsRef<Path>,
    against: impl AsRef<Path>,
    mut progress: Progress<'_>,
) -> Result<Summary, FileError> {
    let model = Model::open_compressed(path.as_ref())?;
    let against = Model::open(against)?;
    check_counterparts(&model, &against)?;
    progress.add_to_total(model.tensor_bytes());
    let mut summary = Summary::default();
    // Both are in the order of their names.
    for (shard, other) in model.files().iter().zip(against.files()) {
        summary.add(match shard.is_compressed {
            true => compare_compressed(shard, other, &mut progress)?,
            false => compare_plain(shard, other, &mut progress)?,
        });
    }
    Ok(summary)
}

/// Verifies a compressed shard, and compares its tensors with those of the plain shard `other`.
fn compare_compressed(
    shard: &Shard,
    other: &Shard,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let file = CompressedFile::open(&shard.path)?;
    let comparison = Comparison::new(file.path(), file.tensors(), &other.path)?;
    let (mut scratch, mut errors) = (Vec::new(), Vec::new());
    for (index, tensor) in file.tensors().iter().enumerate() {
        let piece = file.original(index, scratch)?;
        let data = piece.bytes();
        match tensor.numbers().filter(|_| file.quantized()[index]) {
            None => comparison.check_equal(tensor, data)?,
            Some(matrix) => errors.push(comparison.relative_error(tensor, matrix, data)?),
        }
        scratch = piece.into_memory();
        progress.add(tensor.byte_len());
    }
    file.check_unchanged()?;
    comparison.check_unchanged()?;
    Ok(Summary { errors, ..Summary::from_compressed(&file) })
}

/// Compares the tensors of two plain shards.
fn compare_plain(
    shard: &Shard,
    other: &Shard,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let file = PlainFile::open(&shard.path)?;
    let comparison = Comparison::new(&shard.path, file.tensors(), &other.path)?;
    for tensor in file.tensors() {
        comparison.check_equal(tensor, file.data(tensor))?;
    }
    file.check_unchanged()?;
    comparison.check_unchanged()?;
    progress.add(shard.tensor_bytes);
    Ok(Summary::from_plain(shard))
}

/// Checks that two models consist of files of the same names, or of one file each.
fn check_counterparts(model: &Model, against: &Model) -> Result<(), FileError> {
    if let ([_], [_]) = (model.files(), against.files()) {
        return Ok(());
    }
    for (one, other) in [(model, against), (against, model)] {
        let is_missing = |shard: &&Shard| {
            other.files().binary_search_by(|other| other.name.cmp(&shard.name)).is_err()
        };
        if let Some(shard) = one.files().iter().find(is_missing) {
            let (path, against) = (shard.path.clone(), other.path().to_owned());
            return Err(ModelFault::NoCounterpart { path, against }.into());
        }
    }
    Ok(())
}
