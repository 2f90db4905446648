//! What can be done with models: the same as with single files, file by file.

use std::path::Path;

use super::error::ModelFault;
use super::output::OutputFolder;
use super::{Kind, Model, Shard};
use crate::file::error::FileError;
use crate::file::format::mapped::PlainFile;
use crate::file::jobs::compare::Comparison;
use crate::file::jobs::compress::Compression;
use crate::file::policy::plan::planned;
use crate::file::{self, Options, Progress, Report, Summary, Totals};

/// Compresses the model `input`: a single file into the file `output`, as [`file::compress`], a
/// sharded model or a folder into the folder `output`, file by file. The sizes that are returned
/// are those of the weights' files. Takes the memory that [`file::compress`] takes for one of them.
///
/// # Errors
/// What [`Model::open`] and [`file::compress`] refuse; [`FileError::AlreadyCompressed`] if any file
/// is; [`FileError::SameFile`] and [`FileError::Model`] if `output` is not an empty place outside of
/// the input's folder.
pub fn compress_model(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let input = input.as_ref();
    if Kind::of(input)? == Kind::File {
        return file::compress(input, output, options, progress);
    }
    let model = Model::open(input)?;
    // Before hours of work on those that come before it.
    if let Some(shard) = model.shards.iter().find(|shard| shard.is_compressed) {
        return Err(FileError::AlreadyCompressed { path: shard.path.clone() });
    }
    into_folder(&model, output.as_ref(), |folder| {
        planned(model.shards(), options, progress, |plan, progress| {
            let summary = each_shard(&model, progress, |shard, progress| {
                let output = folder.file(shard.name());
                Compression::start(&shard.path, &output)?.run(options, plan, progress)
            })?;
            plan.check_unchanged()?;
            Ok(summary)
        })
    })
}

/// Restores the model that was compressed into `input`, byte for byte but for quantized tensors: a single file as
/// the file `output`, otherwise as the folder `output`. Files that are not compressed, as long as
/// others are, are copied.
///
/// # Errors
/// What [`Model::open`] and [`file::decompress`] refuse; [`FileError::NotCompressed`] if no file is
/// compressed; [`FileError::SameFile`] and [`FileError::Model`] if `output` is not an empty place
/// outside of the input's folder.
pub fn decompress_model(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let input = input.as_ref();
    if Kind::of(input)? == Kind::File {
        return file::decompress(input, output, progress);
    }
    let model = compressed(input)?;
    into_folder(&model, output.as_ref(), |folder| {
        each_shard(&model, progress, |shard, progress| {
            if shard.is_compressed {
                return file::decompress(&shard.path, folder.file(shard.name()), progress);
            }
            folder.copy(&shard.path, shard.name())?;
            progress(shard.tensor_bytes, shard.tensor_bytes);
            Ok(unchanged(shard))
        })
    })
}

/// Checks every checksum of the compressed model `path` and decodes every tensor. With `against`,
/// also compares all tensors with those of that plain model, file by file: of one name, or the only
/// ones. Of files that are not compressed, while others are, only the headers can be checked
/// without `against`: they have no checksums.
///
/// # Errors
/// What [`Model::open`], [`file::verify`] and [`file::verify_against`] find;
/// [`FileError::NotCompressed`] if no file is compressed; [`ModelFault::NoCounterpart`].
pub fn verify_model(
    path: impl AsRef<Path>,
    against: Option<&Path>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let model = compressed(path.as_ref())?;
    let Some(against) = against else {
        return each_shard(&model, progress, |shard, progress| {
            if shard.is_compressed {
                return file::verify(&shard.path, progress);
            }
            progress(shard.tensor_bytes, shard.tensor_bytes);
            Ok(unchanged(shard))
        });
    };
    let against = Model::open(against)?;
    all_have_counterparts(&model, &against)?;
    // Both are in order of name.
    let mut others = against.shards();
    each_shard(&model, progress, |shard, progress| {
        let Some(other) = others.next() else { return Err(no_counterpart(shard, &against)) };
        if shard.is_compressed {
            return file::verify_against(&shard.path, other, progress);
        }
        compare_plain(&shard.path, other)?;
        progress(shard.tensor_bytes, shard.tensor_bytes);
        Ok(unchanged(shard))
    })
}

/// Lists all tensors of a model, compressed or not, file by file, each file's in the order of its
/// data. The sizes of the totals are sums over the weights' files.
///
/// # Errors
/// What [`Model::open`] and [`file::inspect`] find.
pub fn inspect_model(path: impl AsRef<Path>) -> Result<Report, FileError> {
    let path = path.as_ref();
    if Kind::of(path)? == Kind::File {
        return file::inspect(path);
    }
    let model = Model::open(path)?;
    let mut reports = model.shards().map(file::inspect);
    // No model is without a shard.
    let first = reports.next().unwrap_or_else(|| file::inspect(path))?;
    reports.try_fold(first, |mut all, report| {
        let report = report?;
        all.totals = sum(&all.totals, &report.totals);
        all.tensors.extend(report.tensors);
        Ok(all)
    })
}

/// Opens a model of which some file, at least, is compressed.
fn compressed(path: &Path) -> Result<Model, FileError> {
    let model = Model::open(path)?;
    match model.shards.iter().any(|shard| shard.is_compressed) {
        true => Ok(model),
        false => Err(FileError::NotCompressed { path: path.to_owned() }),
    }
}

/// Copies into the folder `output` what is no shard, and has `job` write the rest.
fn into_folder(
    model: &Model,
    output: &Path,
    job: impl FnOnce(&OutputFolder) -> Result<Summary, FileError>,
) -> Result<Summary, FileError> {
    let folder = OutputFolder::create(output, &model.root)?;
    // First, as they are small and may be missing.
    for name in &model.companions {
        folder.copy(&model.root.join(name), name)?;
    }
    let summary = job(&folder).map_err(|error| folder.renamed(error))?;
    folder.commit()?;
    Ok(summary)
}

/// Runs `job` on every shard, one after another; `progress` counts over all of them.
fn each_shard(
    model: &Model,
    progress: &mut Progress<'_>,
    mut job: impl FnMut(&Shard, &mut Progress<'_>) -> Result<Summary, FileError>,
) -> Result<Summary, FileError> {
    let total = model.tensor_bytes();
    let mut before = 0;
    let mut all = Summary::default();
    for shard in &model.shards {
        let mut within = |done: u64, _| progress(before + done.min(shard.tensor_bytes), total);
        add(&mut all, job(shard, &mut within)?);
        before += shard.tensor_bytes;
    }
    Ok(all)
}

/// Adds the summary of a file to that of those before it.
fn add(all: &mut Summary, file: Summary) {
    let Summary {
        tensors,
        blobs,
        quantized,
        calibrated,
        too_small,
        original_bytes,
        stored_bytes,
        errors,
        warnings,
    } = file;
    all.tensors += tensors;
    all.blobs += blobs;
    all.quantized += quantized;
    all.calibrated += calibrated;
    all.original_bytes += original_bytes;
    all.stored_bytes += stored_bytes;
    all.too_small.extend(too_small);
    all.errors.extend(errors);
    all.warnings.extend(warnings);
}

/// The summary of a file that is not compressed.
fn unchanged(shard: &Shard) -> Summary {
    let bytes = shard.file_bytes;
    let tensors = shard.tensors;
    Summary { tensors, original_bytes: bytes, stored_bytes: bytes, ..Summary::default() }
}

/// Checks that two models consist of files of the same names, or of one file each.
fn all_have_counterparts(model: &Model, against: &Model) -> Result<(), FileError> {
    if let ([_], [_]) = (&model.shards[..], &against.shards[..]) {
        return Ok(());
    }
    for (one, other) in [(model, against), (against, model)] {
        let has = |shard: &Shard| {
            let place = other.shards.binary_search_by(|other| other.name().cmp(shard.name()));
            place.is_ok()
        };
        if let Some(shard) = one.shards.iter().find(|shard| !has(shard)) {
            return Err(no_counterpart(shard, other));
        }
    }
    Ok(())
}

fn no_counterpart(shard: &Shard, against: &Model) -> FileError {
    let (path, against) = (shard.path.clone(), against.path.clone());
    ModelFault::NoCounterpart { path, against }.into()
}

/// Compares the tensors of two files, neither of them compressed, as [`file::verify_against`] does.
fn compare_plain(path: &Path, against: &Path) -> Result<(), FileError> {
    let file = PlainFile::open(path)?;
    let comparison = Comparison::new(path, file.tensors(), against)?;
    file.tensors().iter().try_for_each(|tensor| comparison.same(tensor, file.data(tensor)))?;
    file.file().check_unchanged()?;
    comparison.check_unchanged()
}

/// The totals of two lists of tensors as one.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn sum(a: &Totals, b: &Totals) -> Totals {
    let weights = a.weights + b.weights;
    let stored_bytes = a.stored_bytes + b.stored_bytes;
    let a_weight = |bits: f64| if weights == 0 { 0.0 } else { bits / weights as f64 };
    let entropy = |totals: &Totals| totals.weights as f64 * totals.entropy_bits_per_weight;
    Totals {
        weights,
        original_bytes: a.original_bytes + b.original_bytes,
        stored_bytes,
        bits_per_weight: a_weight(8.0 * stored_bytes as f64),
        entropy_bits_per_weight: a_weight(entropy(a) + entropy(b)),
        exceptions: a.exceptions + b.exceptions,
    }
}
