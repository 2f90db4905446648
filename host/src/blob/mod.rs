//! A compressed matrix, checked.

mod decode;
pub mod error;
pub mod frequencies;
pub mod groups;
pub mod header;
pub mod tile;
pub mod tile_format;
pub mod values;

use crate::blob::groups::{OwnedGroups, group_count, groups, scale, zero};
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
/// [`encode`](crate::encode) makes blobs that own their bytes; [`Blob::parse`] borrows bytes that are there already, as
/// of a memory-mapped file. [`Blob::decode_to_vec`] returns the weights, [`Blob::matmul`] multiplies with them.
#[derive(Clone, Debug)]
pub struct Blob<'a> {
    bytes: Cow<'a, [u8]>,
    front: Front,
}

impl<'a> Blob<'a> {
    /// Checks the structure of `bytes`, which must be exactly one blob, and borrows them. Reads no tile: call
    /// [`Blob::verify`] for these.
    ///
    /// # Errors
    /// [`BlobError`] says what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        Ok(Self { front: Front::parse(bytes)?, bytes: Cow::Borrowed(bytes) })
    }

    /// Returns a blob that owns its bytes: a copy of them where they were borrowed. Use it to store a blob, or to return
    /// it from where the bytes were read.
    #[must_use]
    pub fn into_owned(self) -> Blob<'static> {
        Blob { bytes: Cow::Owned(self.bytes.into_owned()), front: self.front }
    }

    /// Returns the stored bytes, without copying them where the blob owns them.
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

    /// Returns the size of the decoded matrix in bytes, which [`Blob::decode`] takes.
    #[must_use]
    pub fn decoded_byte_len(&self) -> usize {
        self.rows() * self.cols() * self.dtype().byte_len()
    }

    /// Returns the number of weights outside the coded window, which tiles list one by one. Many of them make products
    /// slow.
    #[must_use]
    pub fn exception_count(&self) -> u64 {
        self.front.header.exceptions
    }

    /// Returns the entropy of the matrix in bits per weight, which [`entropy`](crate::entropy) computed when the blob was
    /// made. Compare it with the stored size.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.front.header.entropy()
    }

    /// Returns the CRC-32C of header, frequency table and index. The index holds the tiles' own: this one identifies the
    /// whole blob.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.front.header.crc
    }

    /// Returns the CRC-32C of the weights, row by row. Compare it to tell without decoding whether two matrices are
    /// equal.
    #[must_use]
    pub fn weights_crc(&self) -> u32 {
        self.front.header.weights_crc
    }

    /// Returns how many weights share a symbol.
    #[must_use]
    pub fn weights_per_symbol(&self) -> WeightsPerSymbol {
        self.split().weights_per_symbol()
    }

    /// Returns how many bits of each weight are stored as they are.
    #[must_use]
    pub fn raw_bits(&self) -> u8 {
        self.split().raw_bits()
    }

    /// Returns the scales of the rows, if the blob has any.
    #[must_use]
    pub fn row_scales(&self) -> Option<&[bf16]> {
        self.front.row_scales.as_deref()
    }

    /// Tells whether groups of weights have scales, which [`Blob::group_scales`] reads.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups().is_some()
    }

    /// Reads the scales of the groups: rows x `ceil(cols / 128)`, row by row. Returns `None` if the blob has no groups.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn group_scales(&self) -> Result<Option<Vec<f16>>, BlobError> {
        self.groups().map(|plane| self.read_groups(plane, scale)).transpose()
    }

    /// Reads the zero points of the groups, from -8 to 7, in the order of [`Blob::group_scales`]. Returns `None` if the
    /// blob has none.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn group_zeros(&self) -> Result<Option<Vec<i8>>, BlobError> {
        let plane = self.groups().filter(|plane| plane.zeros);
        plane.map(|plane| self.read_groups(plane, zero)).transpose()
    }

    /// Tells whether some integers exceed a byte. [`Blob::decode`] gives the low bytes of these;
    /// [`Blob::large_integers`] lists them; [`Blob::dequantize`] and [`Blob::matmul`] use them in full. Only matrices with
    /// row scales have such integers.
    #[must_use]
    pub fn has_large_integers(&self) -> bool {
        self.front.coding.large_integers
    }

    /// Lists the integers that exceed a byte, by row and then by column.
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

    /// Checks every tile's checksum and structure without decoding. Use it once after a file was copied;
    /// [`Blob::decode`] checks by itself.
    ///
    /// # Errors
    /// [`BlobError::Tile`] names a damaged tile. Only decoding finds [`TileFault::Stream`].
    pub fn verify(&self) -> Result<(), BlobError> {
        (0..self.front.index.len()).into_par_iter().try_for_each(|tile| self.tile(tile).map(drop))
    }
}

impl Blob<'static> {
    /// Checks the structure of `bytes`, which must be exactly one blob, and owns them. Reads no tile: call
    /// [`Blob::verify`] for these.
    ///
    /// # Errors
    /// [`BlobError`] says what is wrong.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, BlobError> {
        Ok(Self { front: Front::parse(&bytes)?, bytes: Cow::Owned(bytes) })
    }

    /// Puts together what an encoder made: `front`, which takes `start` bytes, and the tiles' payloads.
    pub(crate) fn from_parts(
        mut front: Front,
        start: usize,
        tiles: Vec<(TileEntry, Vec<u8>)>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(front.header.bytes as usize);
        front.write(start, &mut bytes);
        for (_, payload) in tiles {
            bytes.extend_from_slice(&payload);
        }
        Self { bytes: Cow::Owned(bytes), front }
    }
}

/// The stored layout, for other crates of this workspace.
impl Blob<'_> {
    /// Returns how the weights split into coded and raw bits.
    #[doc(hidden)]
    #[must_use]
    pub fn split(&self) -> Split {
        self.front.coding.split
    }

    /// Returns how the scales of groups are stored, if the blob has any.
    #[doc(hidden)]
    #[must_use]
    pub fn groups(&self) -> Option<GroupPlane> {
        self.front.coding.groups
    }

    /// Returns the tiles' places in the matrix.
    #[doc(hidden)]
    #[must_use]
    pub fn grid(&self) -> TileGrid {
        self.front.grid
    }

    /// Returns the index: one record per tile.
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

    /// Takes tile number `tile` apart, and checks it.
    ///
    /// # Panics
    /// If there is no such tile.
    ///
    /// # Errors
    /// [`BlobError::Tile`] if the payload does not match its checksum or its parts do not fit.
    #[doc(hidden)]
    pub fn tile(&self, tile: usize) -> Result<Tile<'_>, BlobError> {
        let fault = |fault| BlobError::Tile { tile, fault };
        let entry = &self.front.index[tile];
        let payload = self.payload(entry);
        if crc32c::crc32c(payload) != entry.crc {
            return Err(fault(TileFault::Checksum));
        }
        Tile::new(entry, self.front.grid.shape(tile), self.front.coding, payload).map_err(fault)
    }

    /// Returns a tile's payload. [`Front::parse`] has checked that it lies in the blob.
    pub(crate) fn payload(&self, entry: &TileEntry) -> &[u8] {
        &self.bytes[entry.offset as usize * LINE..][..usize::from(entry.lines) * LINE]
    }

    /// Returns the scale of row `row`, if rows have scales.
    pub(crate) fn row_scale(&self, row: usize) -> Option<f32> {
        self.row_scales().map(|scales| scales[row].to_f32())
    }

    /// Collects what turns weights into values, except the scales of rows.
    pub(crate) fn values(&self) -> Result<DequantizedValues, BlobError> {
        let groups = match self.group_scales()? {
            Some(scales) => Some(OwnedGroups { scales, zeros: self.group_zeros()? }),
            None => None,
        };
        let large_integers = self.large_integers()?;
        Ok(DequantizedValues { dtype: self.dtype(), groups, large_integers })
    }

    /// Reads a value of each group from its slab's block with `read`. The memory is bounded: a tile is at least as long as
    /// its groups take.
    fn read_groups<T: Copy + Default>(
        &self,
        plane: GroupPlane,
        read: fn(&[u8], usize) -> T,
    ) -> Result<Vec<T>, BlobError> {
        let mut values = vec![T::default(); group_count(self.grid())];
        for tile in 0..self.index().len() {
            let blocks = self.tile(tile)?.groups();
            for (group, slab, index) in groups(self.grid(), tile) {
                values[group] = read(&blocks[plane.bytes() * slab..], index);
            }
        }
        Ok(values)
    }

    /// Lists the large integers of a tile, slab by slab.
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

    /// Checks and borrows `bytes` like [`Blob::parse`].
    fn try_from(bytes: &'a [u8]) -> Result<Self, BlobError> {
        Self::parse(bytes)
    }
}

impl TryFrom<Vec<u8>> for Blob<'static> {
    type Error = BlobError;

    /// Checks and owns `bytes` like [`Blob::from_vec`].
    fn try_from(bytes: Vec<u8>) -> Result<Self, BlobError> {
        Self::from_vec(bytes)
    }
}

impl From<Blob<'_>> for Vec<u8> {
    fn from(blob: Blob<'_>) -> Self {
        blob.into_bytes()
    }
}
