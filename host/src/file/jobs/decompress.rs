//! Compressed file in, original bytes out; and the same without the output.

use std::path::Path;

use crate::file::error::FileError;
use crate::file::format::compressed::CompressedFile;
use crate::file::format::header::Tensor;
use crate::file::jobs::compare::Comparison;
use crate::file::jobs::compress::Meter;
use crate::file::write::output::Output;
use crate::file::{Progress, Summary};

/// Restores the file that was compressed into `input`, byte for byte but for the numbers of quantized tensors, as
/// `output`, which is replaced if it exists and appears only when complete and verified. Runs on rayon's current
/// thread pool. Beyond the mapped input it takes the memory of one tensor, and of its weights if it is
/// quantized.
///
/// # Errors
/// [`FileError::SameFile`], [`FileError::NotAFile`], [`FileError::NotCompressed`]; what can be wrong
/// with `input`; [`FileError::Changed`], [`FileError::NoSpace`], [`FileError::Io`].
pub fn decompress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let file = CompressedFile::open(input)?;
    let mut out = Output::create(output.as_ref(), file.path())?;
    let text = file.original_text();
    out.write(&(text.len() as u64).to_le_bytes())?;
    out.write(text.as_bytes())?;
    each_tensor(&file, progress, |_, _, data| out.write(data))?;
    out.commit()?;
    Ok(summary(&file))
}

/// Checks every checksum of the compressed file `path` and decodes every tensor.
///
/// # Errors
/// [`FileError::NotCompressed`], [`FileError::Changed`], and what is wrong with the file.
pub fn verify(path: impl AsRef<Path>, progress: &mut Progress<'_>) -> Result<Summary, FileError> {
    let file = CompressedFile::open(path)?;
    each_tensor(&file, progress, |_, _, _| Ok(()))?;
    Ok(summary(&file))
}

/// Like [`verify`], and compares names, dtypes, shapes and bytes of all tensors with those of the
/// plain file `against`; of quantized ones, instead of the bytes, it returns how far they are from those. The order of the
/// tensors and the metadata may differ.
///
/// # Errors
/// As [`verify`]; [`FileError::Differs`] for the first difference, which a NaN or an infinity in a quantized tensor is,
/// too; what can be wrong with `against`.
pub fn verify_against(
    path: impl AsRef<Path>,
    against: impl AsRef<Path>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let file = CompressedFile::open(path)?;
    let comparison = Comparison::new(file.path(), file.tensors(), against.as_ref())?;
    let mut errors = Vec::new();
    each_tensor(&file, progress, |number, tensor, data| {
        match tensor.numbers().filter(|_| file.quantized()[number]) {
            None => comparison.same(tensor, data),
            Some((dtype, ..)) => {
                errors.push(comparison.error(tensor, dtype, data)?);
                Ok(())
            }
        }
    })?;
    comparison.check_unchanged()?;
    Ok(Summary { errors, ..summary(&file) })
}

/// Calls `take` with every original tensor, its number and its verified bytes, in order.
fn each_tensor(
    file: &CompressedFile,
    progress: &mut Progress<'_>,
    mut take: impl FnMut(usize, &Tensor, &[u8]) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let total = file.tensors().iter().map(|tensor| tensor.bytes() as u64).sum();
    let mut meter = Meter { done: 0, total, progress };
    let mut scratch = Vec::new();
    for (index, tensor) in file.tensors().iter().enumerate() {
        take(index, tensor, file.original(index, &mut scratch)?)?;
        meter.add(tensor);
    }
    file.check_unchanged()
}

fn summary(file: &CompressedFile) -> Summary {
    Summary {
        tensors: file.tensor_count(),
        blobs: file.blob_names().count(),
        quantized: file.quantized().iter().filter(|&&quantized| quantized).count(),
        original_bytes: file.original_bytes(),
        stored_bytes: file.stored_bytes(),
        ..Summary::default()
    }
}
