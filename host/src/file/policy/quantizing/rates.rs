//! The rates of tensors that share an average rate.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::file::policy::options::CompressOptions;
use crate::file::policy::quantizing::side_data::FolderPlaces;
use crate::file::policy::quantizing::treatment::{Quantization, Treatment};
use crate::file::progress::Progress;
use crate::quantize::{NumberMatrix, QuantizeError, QuantizeOptions, Rate, RateCurve, share_rate};

/// Rates of tensors, by their files and names: files of variants have tensors of the same names.
pub(super) type SharedRates = HashMap<(PathBuf, String), Rate>;

/// A tensor that shares the average rate with others.
struct Share<'a> {
    file: &'a PlainFile,
    tensor: &'a Tensor,
    quantization: Quantization,
    /// The average.
    rate: Rate,
}

/// Returns the rates of all tensors of `files` that share an average rate. Reads these tensors only, and adds
/// them to `progress`.
pub(super) fn shared_rates(
    files: &[PlainFile],
    options: &CompressOptions,
    codes: &FolderPlaces<'_>,
    progress: &mut Progress<'_>,
) -> Result<SharedRates, FileError> {
    let shares = shares(files, options, codes);
    progress.add_to_total(shares.iter().map(|share| share.tensor.byte_len()).sum());
    let (mut names, mut curves) = (Vec::new(), Vec::new());
    let mut average = None;
    for share in &shares {
        if let Some(curve) = curve(share, options)? {
            names.push((share.file.path().to_owned(), share.tensor.name.clone()));
            curves.push(curve);
            average = Some(share.rate);
        }
        progress.add(share.tensor.byte_len());
    }
    let rates = average.map(|average| share_rate(&curves, average));
    Ok(names.into_iter().zip(rates.into_iter().flatten()).collect())
}

/// Lists the tensors that share a rate: none, unless the options say so.
fn shares<'a>(
    files: &'a [PlainFile],
    options: &CompressOptions,
    codes: &FolderPlaces<'_>,
) -> Vec<Share<'a>> {
    let mut shares = Vec::new();
    for file in files.iter().filter(|_| options.quantize.share_rate) {
        for tensor in file.tensors() {
            if let Treatment::Quantize(quantization) =
                Treatment::new(options, codes.of(file.path()), tensor)
                && let Some(rate) = quantization.shared_rate()
            {
                shares.push(Share { file, tensor, quantization, rate });
            }
        }
    }
    shares
}

/// Measures how the error of a tensor depends on its rate. Returns `None` for a tensor that is too small for a rate, and
/// is stored without loss.
fn curve(share: &Share<'_>, options: &CompressOptions) -> Result<Option<RateCurve>, FileError> {
    let Share { file, tensor, quantization, .. } = share;
    let Quantization { weights_per_symbol, raw_bits, weight, .. } = *quantization;
    let moments = options.quantize.moments(&tensor.name)?;
    let coding = QuantizeOptions::new()
        .weights_per_symbol(weights_per_symbol)
        .raw_bits(raw_bits)
        .moments(moments.as_ref());
    let (dtype, rows, cols) = tensor.numbers().expect("only numbers are quantized");
    let source = NumberMatrix::from_bytes(dtype, file.data(tensor), rows, cols);
    let curve = source.and_then(|source| RateCurve::new(source, coding));
    match curve.and_then(|curve| curve.weighted(weight)) {
        Ok(curve) => Ok(Some(curve)),
        Err(QuantizeError::TooSmall { .. }) => Ok(None),
        Err(fault) => Err(FileError::tensor(file.path(), &tensor.name, fault)),
    }
}
