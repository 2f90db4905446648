//! Blobs: one compressed matrix each, parsed and checked.

mod decode;
pub mod error;
pub mod frequencies;
pub mod groups;
pub mod header;
pub mod tile;
pub mod tile_format;
pub mod values;

use crate::blob::groups::{OwnedGroups, group_count, read_scale, read_zero, tile_groups};
use crate::blob::header::Front;
use crate::blob::tile::Tile;
use crate::blob::values::{DequantizedValues, LargeInteger};
use crate::{BlobError, Dtype, Frequencies, TileFault};
use fused_rans_layout::{
    GroupPlane, LINE, SLAB_ROWS, Split, TileEntry, TileGrid, WeightsPerSymbol,
};
use half::{bf16, f16};
use rayon::prelude::*;
use std::borrow::Cow;

/// One compressed matrix, whose structure and header checksum have been checked.
///
/// [`encode`](crate::encode) creates blobs that own their bytes. [`Blob::parse`] borrows existing bytes, for example
/// those of a memory-mapped file. [`Blob::decode_to_vec`] returns the weights, [`Blob::matmul`] multiplies with them.
#[derive(Clone, Debug)]
pub struct Blob<'a> {
    bytes: Cow<'a, [u8]>,
    front: Front,
}

impl<'a> Blob<'a> {
    /// Checks the structure of `bytes`, which must be exactly one blob, and borrows them. Does not read the tiles: call
    /// [`Blob::verify`] to check these.
    ///
    /// # Errors
    /// [`BlobError`] names the first fault found.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        Ok(Self { front: Front::parse(bytes)?, bytes: Cow::Borrowed(bytes) })
    }

    /// Returns a blob that owns its bytes. Copies them if they were borrowed. Use it to store a blob, or to return it
    /// from the function that read the bytes.
    #[must_use]
    pub fn into_owned(self) -> Blob<'static> {
        Blob { bytes: Cow::Owned(self.bytes.into_owned()), front: self.front }
    }

    /// Returns the stored bytes. Copies them only if they were borrowed.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    /// Returns the stored bytes. Their length is the compressed size.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the element type of the matrix.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.split().dtype()
    }

    /// Returns the number of rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.front.grid.rows
    }

    /// Returns the number of columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.front.grid.cols
    }

    /// Returns the size of the decoded matrix in bytes: the length of the buffer for [`Blob::decode`].
    #[must_use]
    pub fn decoded_byte_len(&self) -> usize {
        self.rows() * self.cols() * self.dtype().byte_len()
    }

    /// Returns the number of weights outside the coded window. Tiles list these one by one, so many of them slow down
    /// multiplication.
    #[must_use]
    pub fn exception_count(&self) -> u64 {
        self.front.header.exceptions
    }

    /// Returns the entropy of the matrix in bits per weight, as [`entropy`](crate::entropy) computed it during
    /// encoding. Compare it with the stored size.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.front.header.entropy()
    }

    /// Returns the CRC-32C of the bytes before the first tile. These include the checksums of all tiles, so this number
    /// identifies the whole blob.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.front.header.crc
    }

    /// Returns the CRC-32C of the weights, row by row. Use it to compare two matrices without decoding them.
    #[must_use]
    pub fn weights_crc(&self) -> u32 {
        self.front.header.weights_crc
    }

    /// Returns the number of weights that share a symbol.
    #[must_use]
    pub fn weights_per_symbol(&self) -> WeightsPerSymbol {
        self.split().weights_per_symbol()
    }

    /// Returns the number of raw bits: the bits of each weight that are stored uncoded.
    #[must_use]
    pub fn raw_bits(&self) -> u8 {
        self.split().raw_bits()
    }

    /// Returns the row scales, one per row, if the blob has them.
    #[must_use]
    pub fn row_scales(&self) -> Option<&[bf16]> {
        self.front.row_scales.as_deref()
    }

    /// Returns whether groups of weights have scales. [`Blob::group_scales`] reads them.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups().is_some()
    }

    /// Reads the group scales: rows x `ceil(cols / 128)`, row by row. Returns `None` if the blob has no groups.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn group_scales(&self) -> Result<Option<Vec<f16>>, BlobError> {
        self.groups().map(|plane| self.read_groups(plane, read_scale)).transpose()
    }

    /// Reads the zero points of the groups, from -8 to 7, in the order of [`Blob::group_scales`]. Returns `None` if the
    /// blob has no zero points.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn group_zeros(&self) -> Result<Option<Vec<i8>>, BlobError> {
        let plane = self.groups().filter(|plane| plane.zeros);
        plane.map(|plane| self.read_groups(plane, read_zero)).transpose()
    }

    /// Returns whether the matrix may have large integers, which do not fit in a byte. [`Blob::decode`] returns their
    /// low bytes only. [`Blob::large_integers`] lists them; [`Blob::dequantize`] and [`Blob::matmul`] use their full
    /// values. Only matrices with row scales have large integers.
    #[must_use]
    pub fn has_large_integers(&self) -> bool {
        self.front.format.large_integers
    }

    /// Lists the integers that do not fit in a byte, sorted by row, then by column.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn large_integers(&self) -> Result<Vec<LargeInteger>, BlobError> {
        let tiles = if self.has_large_integers() { self.index().len() } else { 0 };
        let tiles = (0..tiles).into_par_iter().map(|tile| self.large_integers_in(tile));
        let mut integers = tiles.collect::<Result<Vec<_>, _>>()?.concat();
        integers.sort_unstable();
        Ok(integers)
    }

    /// Checks the checksum and the structure of every tile without decoding. Use it once after copying a file.
    /// [`Blob::decode`] does the same checks itself.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile. Only decoding finds [`TileFault::Stream`].
    pub fn verify(&self) -> Result<(), BlobError> {
        (0..self.front.index.len()).into_par_iter().try_for_each(|tile| self.tile(tile).map(drop))
    }
}

impl Blob<'static> {
    /// Checks the structure of `bytes`, which must be exactly one blob, and takes ownership of them. Does not read the
    /// tiles: call [`Blob::verify`] to check these.
    ///
    /// # Errors
    /// [`BlobError`] names the first fault found.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, BlobError> {
        Ok(Self { front: Front::parse(&bytes)?, bytes: Cow::Owned(bytes) })
    }

    /// Concatenates `front`, padded to `start` bytes, and the payloads of the tiles.
    pub(crate) fn from_parts(
        mut front: Front,
        start: usize,
        tiles: Vec<(TileEntry, Vec<u8>)>,
        memory: Vec<u8>,
    ) -> Self {
        let mut bytes = memory;
        bytes.clear();
        bytes.reserve_exact(front.header.bytes as usize);
        front.write(start, &mut bytes);
        for (_, payload) in tiles {
            bytes.extend_from_slice(&payload);
        }
        Self { bytes: Cow::Owned(bytes), front }
    }
}

/// Access to the stored layout, for the other crates of this workspace.
impl Blob<'_> {
    /// Returns the split of the weights into coded and raw bits.
    #[doc(hidden)]
    #[must_use]
    pub fn split(&self) -> Split {
        self.front.format.split
    }

    /// Returns the layout of the group scales and zero points, if the blob has groups.
    #[doc(hidden)]
    #[must_use]
    pub fn groups(&self) -> Option<GroupPlane> {
        self.front.format.groups
    }

    /// Returns the grid of tiles.
    #[doc(hidden)]
    #[must_use]
    pub fn grid(&self) -> TileGrid {
        self.front.grid
    }

    /// Returns the index: one record per tile, row by row.
    #[doc(hidden)]
    #[must_use]
    pub fn index(&self) -> &[TileEntry] {
        &self.front.index
    }

    /// Returns the frequency table.
    #[doc(hidden)]
    #[must_use]
    pub fn frequencies(&self) -> &Frequencies {
        &self.front.frequencies
    }

    /// Splits tile number `tile` into its parts and checks them.
    ///
    /// # Panics
    /// If the number is out of range.
    ///
    /// # Errors
    /// [`BlobError::Tile`] if the payload does not match its checksum, or if its parts are inconsistent.
    #[doc(hidden)]
    pub fn tile(&self, tile: usize) -> Result<Tile<'_>, BlobError> {
        let fault = |fault| BlobError::Tile { tile, fault };
        let entry = &self.front.index[tile];
        let payload = self.payload(entry);
        if crc32c::crc32c(payload) != entry.crc {
            return Err(fault(TileFault::Checksum));
        }
        Tile::new(entry, self.front.grid.shape(tile), self.front.format, payload).map_err(fault)
    }

    /// Returns the payload of a tile. [`Front::parse`] has checked that it lies in the blob.
    pub(crate) fn payload(&self, entry: &TileEntry) -> &[u8] {
        &self.bytes[entry.offset as usize * LINE..][..usize::from(entry.lines) * LINE]
    }

    /// Returns the scale of row `row`, if the blob has row scales.
    pub(crate) fn row_scale(&self, row: usize) -> Option<f32> {
        self.row_scales().map(|scales| scales[row].to_f32())
    }

    /// Reads everything that dequantization needs, except the weights and the row scales.
    pub(crate) fn values(&self) -> Result<DequantizedValues, BlobError> {
        let groups = match self.group_scales()? {
            Some(scales) => Some(OwnedGroups { scales, zeros: self.group_zeros()? }),
            None => None,
        };
        let large_integers = self.large_integers()?;
        Ok(DequantizedValues { dtype: self.dtype(), groups, large_integers })
    }

    /// Reads one value per group, with `read`, from the blocks of the slabs. The memory is bounded by the size of the
    /// blob, since every tile stores the values of its groups.
    fn read_groups<T: Copy + Default>(
        &self,
        plane: GroupPlane,
        read: fn(&[u8], usize) -> T,
    ) -> Result<Vec<T>, BlobError> {
        let mut values = vec![T::default(); group_count(self.grid())];
        for tile in 0..self.index().len() {
            let blocks = self.tile(tile)?.groups();
            for (group, slab, index) in tile_groups(self.grid(), tile) {
                values[group] = read(&blocks[plane.bytes() * slab..], index);
            }
        }
        Ok(values)
    }

    /// Lists the large integers of tile number `tile`, slab by slab.
    fn large_integers_in(&self, tile: usize) -> Result<Vec<LargeInteger>, BlobError> {
        let Tile::Coded(coded) = self.tile(tile)? else { return Ok(Vec::new()) };
        let (top, left) = self.grid().origin(tile);
        let slabs = (top..).step_by(SLAB_ROWS).zip(coded.slabs());
        let integers = slabs.flat_map(|(first_row, slab)| {
            slab.exceptions().filter_map(move |(row, col, weight)| {
                LargeInteger::from_weight(first_row + row, left + col, weight)
            })
        });
        Ok(integers.collect())
    }
}

impl AsRef<[u8]> for Blob<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Blob<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Blob<'_> {}

impl<'a> TryFrom<&'a [u8]> for Blob<'a> {
    type Error = BlobError;

    /// Checks and borrows `bytes` with [`Blob::parse`].
    fn try_from(bytes: &'a [u8]) -> Result<Self, BlobError> {
        Self::parse(bytes)
    }
}

impl TryFrom<Vec<u8>> for Blob<'static> {
    type Error = BlobError;

    /// Checks and owns `bytes` with [`Blob::from_vec`].
    fn try_from(bytes: Vec<u8>) -> Result<Self, BlobError> {
        Self::from_vec(bytes)
    }
}

impl From<Blob<'_>> for Vec<u8> {
    fn from(blob: Blob<'_>) -> Self {
        blob.into_bytes()
    }
}
