//! Plain file in, compressed file out.

use std::path::Path;

use crc32c::crc32c;
use safetensors::Dtype;

use super::container::{self, Stored};
use super::error::{FileError, TensorFault};
use super::header::Tensor;
use super::mapped::PlainFile;
use super::options::{Options, Quantization, Treatment};
use super::output::Output;
use super::plan::{LazyPlan, Plan};
use super::{Progress, Summary};
use crate::layout::LINE;
use crate::quantize::{self, QuantizeError, Quantizer, Source};
use crate::{Blob, BlobError, Matrix, Packing, encode};

/// A blob, and the tensor that it stands for.
struct Coded<'a> {
    tensor: &'a Tensor,
    shape: [usize; 1],
    crc: u32,
}

/// Compresses the safetensors file `input` into `output`, which is replaced if it exists and
/// appears only when complete. Runs on rayon's current thread pool. Beyond the mapped input it
/// takes the memory of one tensor and its blob; with a calibration, of its second moments three times in F64, too.
///
/// # Errors
/// [`FileError::SameFile`], [`FileError::NotAFile`], [`FileError::AlreadyCompressed`]; what can be
/// wrong with `input`; [`FileError::Io`].
pub fn compress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let plan = LazyPlan::new([input.as_ref()], options);
    compress_planned(input.as_ref(), output.as_ref(), options, &plan, progress)
}

/// As [`compress`], with the rates of `plan`.
pub(super) fn compress_planned(
    input: &Path,
    output: &Path,
    options: &Options,
    plan: &LazyPlan<'_>,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let plain = PlainFile::open(input)?;
    let path = plain.file().path();
    // The parser has checked that the header is UTF-8.
    let text = String::from_utf8_lossy(plain.file().header_text());
    let data_start = container::data_start(path, &text, plain.header())?;
    let mut out = Output::create(output, path)?;
    out.seek(data_start as u64)?;
    let plan = plan.get()?;

    let mut meter = Meter { done: 0, total: plain.header().data_len as u64, progress };
    let (mut coded, mut raw) = (Vec::new(), Vec::new());
    let (mut quantized, mut calibrated) = (0, 0);
    for tensor in plain.tensors() {
        let job = Job { options, plan, path, tensor, data: plain.data(tensor) };
        let Some(Blobbed { bytes, crc, kind }) = job.run()? else {
            raw.push(tensor);
            continue;
        };
        quantized += usize::from(kind != Kind::Lossless);
        calibrated += usize::from(kind == Kind::Calibrated);
        out.write(&bytes)?;
        coded.push(Coded { tensor, shape: [bytes.len()], crc });
        meter.add(tensor);
    }
    let blobs = coded.iter().map(|coded| Stored {
        name: &coded.tensor.name,
        dtype: Dtype::U8,
        shape: &coded.shape,
        bytes: coded.shape[0],
        crc: coded.crc,
    });
    let mut stored: Vec<Stored<'_>> = blobs.collect();
    for tensor in raw {
        let Tensor { name, dtype, shape, .. } = tensor;
        let data = plain.data(tensor);
        out.write(data)?;
        let (dtype, crc) = (*dtype, crc32c(data));
        stored.push(Stored { name, dtype, shape, bytes: data.len(), crc });
        meter.add(tensor);
    }
    out.seek(0)?;
    out.write(&container::head(&text, &stored, data_start))?;
    Ok(Summary {
        tensors: stored.len(),
        blobs: coded.len(),
        quantized,
        calibrated,
        original_bytes: plain.file().len(),
        stored_bytes: out.commit()?,
        errors: Vec::new(),
    })
}

/// A tensor to be compressed.
struct Job<'a> {
    options: &'a Options,
    plan: &'a Plan,
    path: &'a Path,
    tensor: &'a Tensor,
    data: &'a [u8],
}

/// What became of it.
struct Blobbed {
    bytes: Vec<u8>,
    crc: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lossless,
    Quantized,
    /// With second moments of the inputs.
    Calibrated,
}

impl Job<'_> {
    /// The tensor's blob, or `None` if it is to keep its bytes.
    fn run(&self) -> Result<Option<Blobbed>, FileError> {
        let made = match self.options.treatment(self.tensor) {
            Treatment::Raw => None,
            Treatment::Lossless { packing, raw_bits } => {
                self.lossless(packing, raw_bits).map_err(|fault| self.fault(fault))?
            }
            Treatment::Quantize(quantization) => match self.quantized(quantization)? {
                // Too small for a blob with scales, or for the rate.
                None => {
                    self.lossless(quantization.packing, None).map_err(|fault| self.fault(fault))?
                }
                made => made,
            },
        };
        let Some((bytes, kind)) = made else { return Ok(None) };
        debug_assert!(bytes.len().is_multiple_of(LINE), "the next blob must be aligned, too");
        let crc = Blob::parse(&bytes).map_err(|fault| self.fault(fault))?.crc();
        Ok(Some(Blobbed { bytes, crc, kind }))
    }

    fn lossless(
        &self,
        packing: Packing,
        raw_bits: Option<u8>,
    ) -> Result<Option<(Vec<u8>, Kind)>, BlobError> {
        let Some((dtype, rows, cols)) = self.tensor.matrix() else { return Ok(None) };
        let matrix = match Matrix::new(dtype, rows, cols, self.data) {
            Ok(matrix) => matrix.packed(packing),
            // The format cannot hold it; the file can.
            Err(BlobError::TooLarge { .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let matrix = raw_bits.map_or(matrix, |raw_bits| matrix.split_at(raw_bits));
        Ok(encode(matrix).map(|bytes| (bytes, Kind::Lossless)))
    }

    fn quantized(&self, quantization: Quantization) -> Result<Option<(Vec<u8>, Kind)>, FileError> {
        let (dtype, rows, cols) = self.tensor.numbers().expect("only numbers are quantized");
        let name = &self.tensor.name;
        let quantizer = self.plan.quantizer(name, quantization);
        // Only rates are met in more than one way.
        let moments = match quantizer {
            Quantizer::Rate(_) => self.options.moments(name)?,
            _ => None,
        };
        let Quantization { packing, raw_bits, .. } = quantization;
        let coding = quantize::Options { packing, raw_bits, moments: moments.as_ref() };
        let source = Source::new(dtype, rows, cols, self.data);
        let quantized = match source.and_then(|source| quantizer.quantize(source, coding)) {
            // The user's raw bits are at fault; otherwise the matrix, of few rows or columns.
            Err(QuantizeError::Unreachable { .. }) if raw_bits.is_none() => return Ok(None),
            Err(QuantizeError::Narrow { .. }) => return Ok(None),
            quantized => quantized.map_err(|fault| self.fault(fault))?,
        };
        let kind = if moments.is_some() { Kind::Calibrated } else { Kind::Quantized };
        Ok(encode(quantized.matrix()).map(|bytes| (bytes, kind)))
    }

    fn fault(&self, fault: impl Into<TensorFault>) -> FileError {
        FileError::tensor(self.path, &self.tensor.name, fault)
    }
}

/// Tells the caller how far a job is.
pub(super) struct Meter<'a, 'b> {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) progress: &'a mut Progress<'b>,
}

impl Meter<'_, '_> {
    pub(super) fn add(&mut self, tensor: &Tensor) {
        self.done += tensor.bytes() as u64;
        (self.progress)(self.done, self.total);
    }
}
