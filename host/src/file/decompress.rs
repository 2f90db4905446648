//! Compressed file in, original bytes out; and the same without the output.

use std::path::Path;

use rayon::prelude::*;

use super::compress::Meter;
use super::compressed::CompressedFile;
use super::error::FileError;
use super::header::Tensor;
use super::mapped::PlainFile;
use super::output::Output;
use super::{Progress, RelativeError, Summary};
use crate::Float;

/// Restores the file that was compressed into `input`, byte for byte but for the numbers of quantized tensors, as
/// `output`, which is replaced if it exists and appears only when complete and verified. Runs on rayon's current
/// thread pool. Beyond the mapped input it takes the memory of one tensor, and of its weights if it is
/// quantized.
///
/// # Errors
/// [`FileError::SameFile`], [`FileError::NotAFile`], [`FileError::NotCompressed`]; what can be wrong
/// with `input`; [`FileError::Io`].
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
/// [`FileError::NotCompressed`], and what is wrong with the file.
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
/// As [`verify`]; [`FileError::Differs`] for the first difference; what can be wrong with `against`.
pub fn verify_against(
    path: impl AsRef<Path>,
    against: impl AsRef<Path>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let file = CompressedFile::open(path)?;
    let plain = PlainFile::open(against.as_ref())?;
    let differs = |tensor: &Tensor, what| FileError::Differs {
        path: file.path().to_owned(),
        against: plain.file().path().to_owned(),
        tensor: tensor.name.clone(),
        what,
    };
    let mut counterparts = vec![None; file.tensors().len()];
    for tensor in plain.tensors() {
        match file.index_of(&tensor.name) {
            Some(index) => counterparts[index] = Some(tensor),
            None => return Err(differs(tensor, "missing in the compressed file")),
        }
    }
    let mut errors = Vec::new();
    each_tensor(&file, progress, |index, tensor, data| {
        let Some(other) = counterparts[index] else {
            return Err(differs(tensor, "only in the compressed file"));
        };
        if tensor.dtype != other.dtype {
            Err(differs(tensor, "dtype"))
        } else if tensor.shape != other.shape {
            Err(differs(tensor, "shape"))
        } else if let Some((dtype, ..)) = tensor.numbers().filter(|_| file.quantized()[index]) {
            let relative_error = relative_error(dtype, data, plain.data(other));
            errors.push(RelativeError { tensor: tensor.name.clone(), relative_error });
            Ok(())
        } else if data != plain.data(other) {
            Err(differs(tensor, "bytes"))
        } else {
            Ok(())
        }
    })?;
    Ok(Summary { errors, ..summary(&file) })
}

/// Root mean square of the differences of `data` from `original`, both of type `dtype`, over that of `original`; NaN if
/// there is a number that has none.
fn relative_error(dtype: Float, data: &[u8], original: &[u8]) -> f64 {
    const CHUNK: usize = 1 << 16;
    let chunks = data.par_chunks(CHUNK).zip(original.par_chunks(CHUNK)).map(|(data, original)| {
        let mut numbers = [const { Vec::new() }; 2];
        for (numbers, data) in numbers.iter_mut().zip([data, original]) {
            numbers.resize(data.len() / dtype.bytes(), 0.0);
            dtype.load(data, numbers);
        }
        let pairs = numbers[0].iter().zip(&numbers[1]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        pairs.fold((0.0, 0.0), |(error, square), (a, b)| (error + (a - b).powi(2), square + b * b))
    });
    let (error, square) = chunks.reduce(|| (0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    if error == 0.0 { 0.0 } else { (error / square).sqrt() }
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
    Ok(())
}

fn summary(file: &CompressedFile) -> Summary {
    Summary {
        tensors: file.tensor_count(),
        blobs: file.blob_names().count(),
        quantized: file.quantized().iter().filter(|&&quantized| quantized).count(),
        calibrated: 0,
        original_bytes: file.original_bytes(),
        stored_bytes: file.stored_bytes(),
        errors: Vec::new(),
    }
}
