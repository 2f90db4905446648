//! Compressed files.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;

use crate::codec::parallel_crc;
use crate::file::error::{FileError, HeaderFault, TensorFault};
use crate::file::format::container::{self, Metadata};
use crate::file::format::header::{Header, LENGTH_BYTES, Tensor};
use crate::file::format::mapped::Mapped;
use crate::file::format::plain::PlainFile;
use crate::file::write::behind::Piece;
use crate::layout::LINE;
use crate::{Blob, BlobError};

/// A compressed file, open for reading. Use it to reach single blobs; [`decompress`](crate::file::decompress) restores
/// whole files.
///
/// The header's checksum, the layout, the agreement with the original header and the header of each blob have been
/// checked. The weights have not: see [`Blob::verify`].
///
/// The file is memory-mapped: do not change it while this value lives.
#[derive(Debug)]
pub struct CompressedFile {
    mapped: Mapped,
    /// The original file's header, verbatim.
    text: String,
    original: Header,
    /// Stored form of each tensor of `original`, in the same order.
    parts: Vec<Part>,
    by_name: HashMap<String, usize>,
    /// Whether each tensor of `original` is quantized.
    quantized: Vec<bool>,
}

/// Size in bytes of the parts in which tensors are decoded: so large that all threads have work for long.
const PART_BYTES: usize = 1 << 25;

/// Why decoding part by part failed.
enum PartFault<E> {
    Blob(BlobError),
    Take(E),
}

impl<E> From<BlobError> for PartFault<E> {
    fn from(fault: BlobError) -> Self {
        Self::Blob(fault)
    }
}

/// The stored form of a tensor.
#[derive(Debug)]
struct Part {
    stored: Tensor,
    crc: u32,
    is_blob: bool,
}

impl CompressedFile {
    /// Opens the file `path`, and checks all of it but the weights.
    ///
    /// # Errors
    /// [`FileError::NotCompressed`] for a valid safetensors file that is not compressed; [`FileError::Version`];
    /// [`FileError::Header`], [`FileError::HeaderChecksum`], [`FileError::Tensor`] and [`FileError::Truncated`] for a
    /// damaged file; [`FileError::NotAFile`], [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let mapped = Mapped::open(path.as_ref())?;
        if container::is_marked(mapped.header_text()) {
            return Self::from_marked(mapped);
        }
        let plain = PlainFile::from_unmarked(mapped)?;
        let not_compressed = || FileError::NotCompressed { path: plain.path().to_owned() };
        Err(plain.rewritten().unwrap_or_else(not_compressed))
    }

    /// Opens a file whose header starts like a compressed one's.
    pub(in crate::file) fn from_marked(mapped: Mapped) -> Result<Self, FileError> {
        let path = mapped.path();
        container::check_head(path, mapped.head())?;
        let mut header = mapped.parse_header()?;
        let Metadata { text, checksums } =
            Metadata::take(&mut header).map_err(FileError::header(path))?;
        if !mapped.data_start().is_multiple_of(LINE) {
            let fault = HeaderFault::Metadata("the data section is not aligned");
            return Err(FileError::header(path)(fault));
        }
        let original = Header::parse(text.as_bytes())
            .map_err(|fault| FileError::header(path)(HeaderFault::Original(Box::new(fault))))?;
        let parts = pair(path, &original, header, &checksums)?;
        let names = original.tensors.iter().map(|tensor| tensor.name.clone());
        let by_name = names.zip(0..).collect();
        let file = Self { mapped, text, original, parts, by_name, quantized: Vec::new() };
        let tensors = file.original.tensors.iter().zip(&file.parts);
        let quantized = tensors.map(|(tensor, part)| {
            file.check(tensor, part).map_err(|fault| file.fault(tensor, fault))
        });
        let quantized: Vec<bool> = quantized.collect::<Result<_, _>>()?;
        Ok(Self { quantized, ..file })
    }

    /// Checks a stored tensor without reading its weights. Returns whether it is quantized.
    fn check(&self, original: &Tensor, part: &Part) -> Result<bool, TensorFault> {
        if !part.is_blob {
            let same = (original.dtype, &original.shape) == (part.stored.dtype, &part.stored.shape);
            return same.then_some(false).ok_or(TensorFault::Original("another dtype or shape"));
        }
        let start = self.mapped.data_start() + part.stored.range.start;
        if !start.is_multiple_of(LINE) || !part.stored.range.len().is_multiple_of(LINE) {
            return Err(TensorFault::Original("a blob is not aligned"));
        }
        if part.stored.shape.len() != 1 {
            return Err(TensorFault::Original("a blob has more than one dimension"));
        }
        let blob = Blob::parse(self.bytes(part))?;
        let shape = (blob.rows(), blob.cols());
        // Only quantizers make weights with scales.
        let quantized = blob.row_scales().is_some() || blob.groups().is_some();
        let same = match quantized {
            true => original.numbers().is_some_and(|(_, rows, cols)| (rows, cols) == shape),
            false => original.matrix() == Some((blob.dtype(), shape.0, shape.1)),
        };
        if !same {
            return Err(TensorFault::Original("the blob has another dtype or shape"));
        }
        if blob.crc() != part.crc {
            return Err(TensorFault::Checksum);
        }
        Ok(quantized)
    }

    /// Returns the path that the file was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mapped.path()
    }

    /// Checks that the file has not changed since it was opened.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.mapped.check_unchanged()
    }

    /// Returns the size of the file in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.mapped.len()
    }

    /// Returns the size in bytes of the file that was compressed.
    #[must_use]
    pub fn original_bytes(&self) -> u64 {
        (LENGTH_BYTES + self.text.len()) as u64 + self.original.data_len as u64
    }

    /// Returns the number of tensors, compressed or not.
    #[must_use]
    pub fn tensor_count(&self) -> usize {
        self.parts.len()
    }

    /// Returns the names of the compressed tensors, in the order of the original file.
    pub fn blob_names(&self) -> impl Iterator<Item = &str> {
        let tensors = self.original.tensors.iter().zip(&self.parts);
        tensors.filter(|(_, part)| part.is_blob).map(|(tensor, _)| tensor.name.as_str())
    }

    /// Returns the blob of the compressed tensor `name`. If the tensor is quantized, [`Blob::dequantize`] returns its
    /// numbers.
    ///
    /// # Errors
    /// [`FileError::NoSuchBlob`] if no compressed tensor has this name; [`FileError::Tensor`] if the file has changed
    /// since it was opened.
    pub fn blob(&self, name: &str) -> Result<Blob<'_>, FileError> {
        let index = self.by_name.get(name).copied();
        index.and_then(|index| self.blob_at(index).transpose()).unwrap_or_else(|| {
            let path = self.path().to_owned();
            Err(FileError::NoSuchBlob { path, tensor: name.to_owned() })
        })
    }

    /// Returns whether an original tensor is compressed.
    pub(in crate::file) fn is_blob(&self, index: usize) -> bool {
        self.parts[index].is_blob
    }

    /// Returns the blob of an original tensor, or `None` if the tensor is stored as it is.
    pub(in crate::file) fn blob_at(&self, index: usize) -> Result<Option<Blob<'_>>, FileError> {
        let part = &self.parts[index];
        if !part.is_blob {
            return Ok(None);
        }
        let parsed = Blob::parse(self.bytes(part));
        parsed.map(Some).map_err(|fault| self.fault(&self.original.tensors[index], fault))
    }

    /// Returns the original header's text.
    pub(in crate::file) fn original_text(&self) -> &str {
        &self.text
    }

    /// Returns the original tensors, in the order of their data.
    pub(in crate::file) fn tensors(&self) -> &[Tensor] {
        &self.original.tensors
    }

    /// Returns which of the original tensors are quantized, in their order.
    pub(in crate::file) fn quantized(&self) -> &[bool] {
        &self.quantized
    }

    /// Returns the stored bytes of an original tensor.
    pub(in crate::file) fn stored(&self, index: usize) -> &[u8] {
        self.bytes(&self.parts[index])
    }

    /// Passes the bytes of a tensor as they were before compression to `take`, in order; of a quantized one, the bytes of its
    /// dequantized values. `memory` returns memory for a part, whose contents do not matter.
    /// **Only when this returns without an error are they verified.**
    pub(in crate::file) fn original_parts<'a, E: From<FileError>>(
        &'a self,
        index: usize,
        memory: impl FnMut() -> Vec<u8>,
        take: impl FnMut(Piece<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.decode_original(index, PART_BYTES, memory, take)
    }

    /// Does what [`Self::original_parts`] does, with parts of about `part_bytes` bytes.
    fn decode_original<'a, E: From<FileError>>(
        &'a self,
        index: usize,
        part_bytes: usize,
        memory: impl FnMut() -> Vec<u8>,
        mut take: impl FnMut(Piece<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let tensor = &self.original.tensors[index];
        let Some(blob) = self.blob_at(index)? else {
            let part = &self.parts[index];
            let bytes = self.bytes(part);
            return match parallel_crc(bytes) == part.crc {
                true => take(Piece::Mapped(bytes)),
                false => Err(self.fault(tensor, TensorFault::Checksum).into()),
            };
        };
        let dtype = tensor.numbers().filter(|_| self.quantized[index]).map(|(dtype, ..)| dtype);
        let decoded = blob.decode_parts(dtype, part_bytes, memory, |bytes| {
            take(Piece::Lent(bytes)).map_err(PartFault::Take)
        });
        decoded.map_err(|fault| match fault {
            PartFault::Blob(BlobError::Memory { bytes }) => {
                let (path, tensor) = (self.path().to_owned(), tensor.name.clone());
                FileError::Memory { path, tensor, bytes }.into()
            }
            PartFault::Blob(fault) => self.fault(tensor, fault).into(),
            PartFault::Take(error) => error,
        })
    }

    /// Returns in one piece the verified bytes that [`Self::original_parts`] passes on part by part.
    pub(in crate::file) fn original(
        &self,
        index: usize,
        memory: Vec<u8>,
    ) -> Result<Piece<'_>, FileError> {
        let (memory, mut whole) = (Cell::new(memory), Piece::Mapped(&[]));
        let set = |piece| {
            whole = piece;
            Ok::<(), FileError>(())
        };
        self.decode_original(index, usize::MAX, || memory.take(), set)?;
        Ok(whole)
    }

    fn bytes(&self, part: &Part) -> &[u8] {
        &self.mapped.data()[part.stored.range.clone()]
    }

    fn fault(&self, tensor: &Tensor, fault: impl Into<TensorFault>) -> FileError {
        FileError::tensor(self.path(), &tensor.name, fault)
    }
}

/// Finds the stored form of every tensor of `original`. Both headers must have the same names; blobs come first, and
/// both blobs and other tensors are in the original order.
fn pair(
    path: &Path,
    original: &Header,
    stored: Header,
    checksums: &[u32],
) -> Result<Vec<Part>, FileError> {
    let fault =
        |tensor: &Tensor, what| FileError::tensor(path, &tensor.name, TensorFault::Original(what));
    let by_name: HashMap<&str, usize> =
        stored.tensors.iter().map(|tensor| tensor.name.as_str()).zip(0..).collect();
    let mut places = Vec::with_capacity(original.tensors.len());
    for tensor in &original.tensors {
        let place = by_name.get(tensor.name.as_str()).copied();
        let place = place.ok_or_else(|| fault(tensor, "not in the file"))?;
        places.push((place, container::is_blob(tensor, &stored.tensors[place])));
    }
    let blobs = places.iter().filter(|(_, is_blob)| *is_blob).count();
    let (mut next_blob, mut next_raw) = (0, blobs);
    for (tensor, &(place, is_blob)) in original.tensors.iter().zip(&places) {
        let next = if is_blob { &mut next_blob } else { &mut next_raw };
        if place != *next {
            return Err(fault(tensor, "out of order"));
        }
        *next += 1;
    }
    // Each original tensor has a place of its own: any more places belong to other tensors.
    if let Some(extra) = stored.tensors.get(places.len()) {
        return Err(fault(extra, "not in the original"));
    }
    let mut slots: Vec<Option<Tensor>> = stored.tensors.into_iter().map(Some).collect();
    let parts = places.into_iter().filter_map(|(place, is_blob)| {
        let stored = slots[place].take()?;
        Some(Part { stored, crc: checksums[place], is_blob })
    });
    Ok(parts.collect())
}
