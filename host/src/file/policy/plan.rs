//! What is decided for all files of a job together: an average rate, spread over the layers of a model.

use std::collections::HashMap;
use std::path::Path;

use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::PlainFile;
use crate::file::jobs::compress::Meter;
use crate::file::policy::options::{Options, Quantization, Treatment};
use crate::file::{Progress, Summary};
use crate::quantize::{
    NumberMatrix, QuantizeError, QuantizeOptions, Quantizer, Rate, RateCurve, share_rate,
};

/// The files of a job, and the rates of the tensors whose own was not the user's.
#[derive(Debug)]
pub(in crate::file) struct RatePlan {
    files: Vec<PlainFile>,
    rates: HashMap<String, Rate>,
}

/// Makes a plan for `files` and has `job` compress them by it; `progress` counts over both. What `options` ask for in vain is
/// part of the summary.
pub(in crate::file) fn planned<'a>(
    files: impl IntoIterator<Item = &'a Path>,
    options: &Options,
    progress: &mut Progress<'_>,
    job: impl FnOnce(&RatePlan, &mut Progress<'_>) -> Result<Summary, FileError>,
) -> Result<Summary, FileError> {
    let files: Vec<PlainFile> = files.into_iter().map(PlainFile::open).collect::<Result<_, _>>()?;
    let planner = Planner { files: &files, options };
    let bytes: u64 = files.iter().map(|file| file.header().data_len as u64).sum();
    let planned: u64 = planner.shares().map(|share| share.tensor.bytes() as u64).sum();
    let rates = planner.rates(&mut |done, _| progress(done, planned + bytes))?;
    let plan = RatePlan { files, rates };
    let summary = job(&plan, &mut |done, _| progress(planned + done, planned + bytes))?;
    let tensors: Vec<&Tensor> = plan.files.iter().flat_map(PlainFile::tensors).collect();
    Ok(Summary { warnings: options.warnings(&tensors), ..summary })
}

struct Planner<'a> {
    files: &'a [PlainFile],
    options: &'a Options,
}

/// A tensor that takes its share of a rate.
struct Share<'a> {
    file: &'a PlainFile,
    tensor: &'a Tensor,
    quantization: Quantization,
    /// The average.
    rate: Rate,
}

impl Planner<'_> {
    /// The tensors that are to be quantized to [`Quantizer::Rate`], unless a rule says to which; none without
    /// [`Options::spread`].
    fn shares(&self) -> impl Iterator<Item = Share<'_>> {
        let files = self.files.iter().filter(|_| self.options.shares_rate());
        let tensors =
            files.flat_map(|file| file.tensors().iter().map(move |tensor| (file, tensor)));
        tensors.filter_map(|(file, tensor)| match self.options.treatment(tensor) {
            Treatment::Quantize(quantization) => {
                let rate = quantization.shared_rate()?;
                Some(Share { file, tensor, quantization, rate })
            }
            _ => None,
        })
    }

    /// The rates of all of them; if there are none, nothing is read.
    fn rates(&self, progress: &mut Progress<'_>) -> Result<HashMap<String, Rate>, FileError> {
        let total = self.shares().map(|share| share.tensor.bytes() as u64).sum();
        let mut meter = Meter { done: 0, total, progress };
        let (mut names, mut curves, mut average) = (Vec::new(), Vec::new(), None);
        for share in self.shares() {
            if let Some(curve) = self.curve(&share)? {
                names.push(share.tensor.name.clone());
                curves.push(curve);
                average = Some(share.rate);
            }
            meter.add(share.tensor);
        }
        let rates = average.map(|average| share_rate(&curves, average));
        Ok(names.into_iter().zip(rates.into_iter().flatten()).collect())
    }

    /// `None` for a tensor that is too narrow for a rate, and stays lossless.
    fn curve(&self, share: &Share<'_>) -> Result<Option<RateCurve>, FileError> {
        let Share { file, tensor, quantization, .. } = share;
        let Quantization { weights_per_symbol, raw_bits, weight, .. } = *quantization;
        let moments = self.options.moments(&tensor.name)?;
        let coding = QuantizeOptions::new()
            .weights_per_symbol(weights_per_symbol)
            .raw_bits(raw_bits)
            .moments(moments.as_ref());
        let (dtype, rows, cols) = tensor.numbers().expect("only numbers are quantized");
        let source = NumberMatrix::from_bytes(dtype, file.data(tensor), rows, cols);
        let curve = source.and_then(|source| RateCurve::new(source, coding));
        let fault =
            |fault: QuantizeError| FileError::tensor(file.file().path(), &tensor.name, fault);
        match curve {
            Err(QuantizeError::TooSmall { .. }) => Ok(None),
            curve => Ok(Some(curve.map_err(fault)?.weighted(weight))),
        }
    }
}

impl RatePlan {
    /// Checks that nobody has changed a file since the plan was made. Of many, one may have been between its part in the
    /// plan and its turn.
    ///
    /// # Errors
    /// [`FileError::Changed`].
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.files.iter().try_for_each(|file| file.file().check_unchanged())
    }

    /// The quantizer of the tensor `name`.
    pub(in crate::file) fn quantizer(&self, name: &str, quantization: Quantization) -> Quantizer {
        let rate = self.rates.get(name).copied().filter(|_| !quantization.pinned);
        rate.map_or(quantization.quantizer, Quantizer::Rate)
    }
}
