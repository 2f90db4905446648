//! Plain file in, compressed file out.

use std::borrow::Cow;
use std::path::Path;

use crc32c::crc32c;

use crate::file::error::{FileError, TensorFault};
use crate::file::format::container::{self, Stored};
use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::PlainFile;
use crate::file::policy::options::{Options, Quantization, Treatment};
use crate::file::policy::plan::{RatePlan, planned};
use crate::file::write::output::Output;
use crate::file::{Progress, Summary};
use crate::layout::LINE;
use crate::quantize::{NumberMatrix, QuantizeError, QuantizeOptions, Quantized, Quantizer};
use crate::{Blob, BlobError, Matrix, WeightsPerSymbol, encode};

/// Compresses the safetensors file `input` into `output`, which is replaced if it exists and
/// appears only when complete. Runs on rayon's current thread pool. Beyond the mapped input it
/// takes the memory of one tensor and its blob; with a calibration, of its second moments three times in F64, too.
///
/// # Errors
/// [`FileError::SameFile`], [`FileError::NotAFile`], [`FileError::AlreadyCompressed`]; what can be
/// wrong with `input`; [`FileError::Changed`], [`FileError::NoSpace`], [`FileError::Io`].
pub fn compress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    // Before a plan, which may take hours, so that it is known that there is a place for the output.
    let file = Compression::start(input.as_ref(), output.as_ref())?;
    planned([input.as_ref()], options, progress, |plan, progress| file.run(options, plan, progress))
}

/// A file that is being compressed.
pub(in crate::file) struct Compression {
    plain: PlainFile,
    /// Where the output's data section starts.
    data_start: usize,
    out: Output,
}

impl Compression {
    /// Opens `input`, and a place for `output`.
    pub(in crate::file) fn start(input: &Path, output: &Path) -> Result<Self, FileError> {
        let plain = PlainFile::open(input)?;
        let path = plain.file().path();
        let data_start = container::data_start(path, &text(&plain), plain.header())?;
        let mut out = Output::create(output, path)?;
        out.seek(data_start as u64)?;
        Ok(Self { plain, data_start, out })
    }

    /// Does the work: blobs first, then the tensors that keep their bytes, in the end the header.
    pub(in crate::file) fn run(
        self,
        options: &Options,
        plan: &RatePlan,
        progress: &mut Progress<'_>,
    ) -> Result<Summary, FileError> {
        let Self { plain, data_start, mut out } = self;
        let mut meter = Meter { done: 0, total: plain.header().data_len as u64, progress };
        let mut summary = Summary::default();
        let (mut stored, mut raw) = (Vec::with_capacity(plain.tensors().len()), Vec::new());
        for tensor in plain.tensors() {
            let path = plain.file().path();
            let Made { blob, kind } =
                Job { options, plan, path, tensor, data: plain.data(tensor) }.run()?;
            count(&mut summary, tensor, kind);
            match blob {
                None => raw.push(tensor),
                Some((bytes, crc)) => {
                    let shape = vec![bytes.len()];
                    stored.push(put(&mut out, tensor, TensorDtype::U8, shape.into(), &bytes, crc)?);
                    meter.add(tensor);
                }
            }
        }
        summary.blobs = stored.len();
        for tensor in raw {
            let (data, shape) = (plain.data(tensor), tensor.shape.as_slice());
            stored.push(put(&mut out, tensor, tensor.dtype, shape.into(), data, crc32c(data))?);
            meter.add(tensor);
        }
        out.seek(0)?;
        out.write(&container::head(&text(&plain), &stored, data_start))?;
        summary.tensors = stored.len();
        summary.original_bytes = plain.file().len();
        plain.file().check_unchanged()?;
        options.check_unchanged()?;
        summary.stored_bytes = out.commit()?;
        Ok(summary)
    }
}

/// The header's text, which the parser has found to be UTF-8.
fn text(plain: &PlainFile) -> Cow<'_, str> {
    String::from_utf8_lossy(plain.file().header_text())
}

/// Writes what `tensor` is stored as.
fn put<'a>(
    out: &mut Output,
    tensor: &'a Tensor,
    dtype: TensorDtype,
    shape: Cow<'a, [usize]>,
    data: &[u8],
    crc: u32,
) -> Result<Stored<'a>, FileError> {
    out.write(data)?;
    Ok(Stored { name: &tensor.name, dtype, shape, bytes: data.len(), crc })
}

/// Counts a tensor that became of this kind.
fn count(summary: &mut Summary, tensor: &Tensor, kind: Kind) {
    match kind {
        Kind::Lossless => {}
        Kind::TooSmall => summary.too_small.push(tensor.name.clone()),
        Kind::Quantized => summary.quantized += 1,
        Kind::Calibrated => {
            summary.quantized += 1;
            summary.calibrated += 1;
        }
    }
}

/// A tensor to be compressed.
struct Job<'a> {
    options: &'a Options,
    plan: &'a RatePlan,
    path: &'a Path,
    tensor: &'a Tensor,
    data: &'a [u8],
}

/// What became of it.
struct Made {
    /// With its checksum; `None` if the tensor is to keep its bytes.
    blob: Option<(Vec<u8>, u32)>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Or as it was.
    Lossless,
    /// The same, where a quantizer was asked for: too small for a blob with scales, or for the rate.
    TooSmall,
    Quantized,
    /// With second moments of the inputs.
    Calibrated,
}

impl Job<'_> {
    fn run(&self) -> Result<Made, FileError> {
        let (bytes, kind) = match self.options.treatment(self.tensor) {
            Treatment::Raw => (None, Kind::Lossless),
            Treatment::Lossless { weights_per_symbol, raw_bits } => {
                (self.lossless(weights_per_symbol, raw_bits)?, Kind::Lossless)
            }
            Treatment::Quantize(quantization) => match self.quantized(quantization)? {
                Some((bytes, kind)) => (Some(bytes), kind),
                None => (self.lossless(quantization.weights_per_symbol, None)?, Kind::TooSmall),
            },
        };
        let Some(bytes) = bytes else { return Ok(Made { blob: None, kind }) };
        debug_assert!(bytes.len().is_multiple_of(LINE), "the next blob must be aligned, too");
        let crc = Blob::parse(&bytes).map_err(|fault| self.fault(fault))?.crc();
        Ok(Made { blob: Some((bytes, crc)), kind })
    }

    /// The tensor's blob, or `None` if that would not be smaller.
    fn lossless(
        &self,
        weights_per_symbol: WeightsPerSymbol,
        raw_bits: Option<u8>,
    ) -> Result<Option<Vec<u8>>, FileError> {
        let Some((dtype, rows, cols)) = self.tensor.matrix() else { return Ok(None) };
        let matrix = match Matrix::new(dtype, rows, cols, self.data) {
            Ok(matrix) => matrix.packed(weights_per_symbol),
            // The format cannot hold it; the file can.
            Err(BlobError::TooLarge { .. }) => return Ok(None),
            Err(fault) => return Err(self.fault(fault)),
        };
        Ok(encode(raw_bits.map_or(matrix, |raw_bits| matrix.split_at(raw_bits))))
    }

    /// The tensor's blob, quantized, or `None` if it is too small for that.
    fn quantized(&self, quantization: Quantization) -> Result<Option<(Vec<u8>, Kind)>, FileError> {
        let (dtype, rows, cols) = self.tensor.numbers().expect("only numbers are quantized");
        let name = &self.tensor.name;
        let quantizer = self.plan.quantizer(name, quantization);
        // Only rates are met in more than one way.
        let moments = match quantizer {
            Quantizer::Rate(_) => self.options.moments(name)?,
            _ => None,
        };
        let Quantization { weights_per_symbol, raw_bits, .. } = quantization;
        let coding = QuantizeOptions::new()
            .weights_per_symbol(weights_per_symbol)
            .raw_bits(raw_bits)
            .moments(moments.as_ref());
        let source = NumberMatrix::from_bytes(dtype, self.data, rows, cols);
        let quantize =
            |coding| source.clone().and_then(|source| quantizer.quantize(source, coding));
        let is_small = |made: &Result<Quantized, QuantizeError>| match made {
            Err(QuantizeError::TooSmall { .. }) => true,
            // Unless it is the user's raw bits that are too many.
            Err(QuantizeError::Unreachable { .. }) => {
                let free = coding.raw_bits(None);
                raw_bits.is_none() || quantize(free).is_err()
            }
            _ => false,
        };
        let quantized = quantize(coding);
        if is_small(&quantized) {
            return Ok(None);
        }
        let quantized = quantized.map_err(|fault| self.fault(fault))?;
        let kind = if moments.is_some() { Kind::Calibrated } else { Kind::Quantized };
        Ok(encode(quantized.matrix()).map(|bytes| (bytes, kind)))
    }

    fn fault(&self, fault: impl Into<TensorFault>) -> FileError {
        FileError::tensor(self.path, &self.tensor.name, fault)
    }
}

/// Tells the caller how far a job is.
pub(in crate::file) struct Meter<'a, 'b> {
    pub(in crate::file) done: u64,
    pub(in crate::file) total: u64,
    pub(in crate::file) progress: &'a mut Progress<'b>,
}

impl Meter<'_, '_> {
    pub(in crate::file) fn add(&mut self, tensor: &Tensor) {
        self.done += tensor.bytes() as u64;
        (self.progress)(self.done, self.total);
    }
}
