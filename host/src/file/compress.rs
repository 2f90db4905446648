//! Plain file in, compressed file out.

use std::path::Path;

use crc32c::crc32c;
use safetensors::Dtype;

use super::container::{self, Stored};
use super::error::{FileError, TensorFault};
use super::header::Tensor;
use super::mapped::PlainFile;
use super::output::Output;
use super::{Progress, Summary};
use crate::layout::LINE;
use crate::{Blob, BlobError, Matrix, Packing, encode};

/// Decides by its name whether a tensor is compressed.
type Select = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What [`compress`] compresses. By default, every matrix of a type that the codec takes.
#[derive(Default)]
pub struct Options {
    select: Option<Select>,
    packing: Packing,
}

impl Options {
    /// Compresses only tensors whose name `select` is true for; the rest keep their bytes.
    #[must_use]
    pub fn select(mut self, select: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Codes integers with so many weights a symbol where that is possible; see [`Matrix::packed`].
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    fn selects(&self, name: &str) -> bool {
        self.select.as_ref().is_none_or(|select| select(name))
    }
}

/// A blob, and the tensor that it stands for.
struct Coded<'a> {
    tensor: &'a Tensor,
    shape: [usize; 1],
    crc: u32,
}

/// Compresses the safetensors file `input` into `output`, which is replaced if it exists and
/// appears only when complete. Runs on rayon's current thread pool. Beyond the mapped input it
/// takes the memory of one tensor and its blob.
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
    let plain = PlainFile::open(input.as_ref())?;
    let path = plain.file().path();
    // The parser has checked that the header is UTF-8.
    let text = String::from_utf8_lossy(plain.file().header_text());
    let data_start = container::data_start(path, &text, plain.header())?;
    let mut out = Output::create(output.as_ref(), path)?;
    out.seek(data_start as u64)?;

    let mut meter = Meter { done: 0, total: plain.header().data_len as u64, progress };
    let (mut coded, mut raw) = (Vec::new(), Vec::new());
    for tensor in plain.tensors() {
        let blob = if options.selects(&tensor.name) {
            blob_of(tensor, plain.data(tensor), options.packing)
                .map_err(|fault| FileError::tensor(path, &tensor.name, fault))?
        } else {
            None
        };
        let Some((bytes, crc)) = blob else {
            raw.push(tensor);
            continue;
        };
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
        original_bytes: plain.file().len(),
        stored_bytes: out.commit()?,
    })
}

/// The blob of a tensor and its checksum, or `None` if the tensor is to keep its bytes.
fn blob_of(
    tensor: &Tensor,
    data: &[u8],
    packing: Packing,
) -> Result<Option<(Vec<u8>, u32)>, TensorFault> {
    let Some((dtype, rows, cols)) = tensor.matrix() else { return Ok(None) };
    let matrix = match Matrix::new(dtype, rows, cols, data) {
        Ok(matrix) => matrix,
        // The format cannot hold it; the file can.
        Err(BlobError::TooLarge { .. }) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let Some(bytes) = encode(matrix.packed(packing)) else { return Ok(None) };
    debug_assert!(bytes.len().is_multiple_of(LINE), "the next blob must be aligned, too");
    let crc = Blob::parse(&bytes)?.crc();
    Ok(Some((bytes, crc)))
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
