//! Compressed files in, original files out.

use std::path::Path;

use crate::file::error::FileError;
use crate::file::format::compressed::CompressedFile;
use crate::file::format::header::Tensor;
use crate::file::model::{Model, PathKind, Shard};
use crate::file::progress::Progress;
use crate::file::summary::Summary;
use crate::file::write::behind::{Failure, write_behind};
use crate::file::write::file::OutputFile;
use crate::file::write::folder::OutputFolder;

/// Restores the model that was compressed into `input`: a file as the file `output`, an index or a folder as the folder
/// `output`. Restores every byte, except that quantized tensors get their dequantized values. Files of a model that are not
/// compressed, while others are, are copied.
///
/// An output file is replaced if it exists, an output folder must be empty or not exist; both appear only when complete
/// and verified. Runs on rayon's current thread pool, and on a thread that writes. Beside the mapped input it takes three
/// times 32 MiB, or of 256 rows of a tensor where these are more, and as much again for a quantized tensor.
///
/// # Errors
/// The errors of [`Model::open`]; [`FileError::NotCompressed`] if no file is compressed; [`FileError::Tensor`] for a damaged
/// tensor; [`FileError::SameFile`], [`FileError::NotAFile`], [`FileError::NoFolder`] and [`FileError::Model`] if the
/// output cannot be written there; [`FileError::Changed`], [`FileError::Memory`], [`FileError::NoSpace`],
/// [`FileError::Io`].
pub fn decompress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    mut progress: Progress<'_>,
) -> Result<Summary, FileError> {
    let (input, output) = (input.as_ref(), output.as_ref());
    if PathKind::new(input)? != PathKind::File {
        return decompress_model(input, output, &mut progress);
    }
    let file = CompressedFile::open(input)?;
    progress.add_to_total(file.tensors().iter().map(Tensor::byte_len).sum());
    decompress_file(&file, output, &mut progress)
}

fn decompress_model(
    input: &Path,
    output: &Path,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let model = Model::open_compressed(input)?;
    let folder = OutputFolder::create(output, model.root())?;
    folder.copy_all(model.root(), model.companions())?;
    progress.add_to_total(model.tensor_bytes());
    let mut summary = Summary::of_model(&model);
    for shard in model.files() {
        let restored = decompress_shard(shard, &folder, progress);
        summary.add(restored.map_err(|error| folder.renamed(error))?);
    }
    folder.commit()?;
    Ok(summary)
}

fn decompress_shard(
    shard: &Shard,
    folder: &OutputFolder,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    if shard.is_compressed {
        let file = CompressedFile::open(&shard.path)?;
        return decompress_file(&file, &folder.create_parent(&shard.name)?, progress);
    }
    folder.copy(&shard.path, &shard.name)?;
    progress.add(shard.tensor_bytes);
    Ok(Summary::from_plain(shard))
}

fn decompress_file(
    file: &CompressedFile,
    output: &Path,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let mut out = OutputFile::create(output, file.path())?;
    let text = file.original_text();
    out.write(&(text.len() as u64).to_le_bytes())?;
    out.write(text.as_bytes())?;
    write_behind(&mut out, |queue| {
        (0..file.tensor_count()).try_for_each(|index| {
            file.original_parts(
                index,
                || queue.memory(),
                |piece| {
                    progress.add(piece.bytes().len() as u64);
                    Ok::<(), Failure>(queue.push(piece)?)
                },
            )
        })
    })?;
    file.check_unchanged()?;
    out.commit()?;
    Ok(Summary::from_compressed(file))
}
