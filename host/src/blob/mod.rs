//! A compressed matrix, checked.

pub mod error;
pub mod frequencies;
pub mod groups;
pub mod header;
pub mod tile;
pub mod tile_format;
pub mod values;

use crate::blob::groups::{OwnedGroups, group_count, groups, scale, zero};
use crate::blob::header::{Front, check_size};
use crate::blob::tile::Tile;
use crate::blob::values::{LargeInteger, Numbers};
use crate::codec::fast;
use crate::codec::parallel_crc;
use crate::{BlobError, Dtype, Float, Frequencies, TileFault};
use fused_rans_layout::{
    Entry, GroupPlane, LINE, SLAB_ROWS, Split, TABLE, TILE, TileEntry, TileGrid,
};
use half::bf16;
use rayon::prelude::*;

/// A blob whose structure and header checksum have been checked.
#[derive(Clone, Debug)]
pub struct Blob<'a> {
    bytes: &'a [u8],
    front: Front,
}

impl<'a> Blob<'a> {
    /// Checks the structure of `bytes`, which must be exactly one blob. Tile payloads are not read.
    ///
    /// # Errors
    /// [`BlobError`] says what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        Ok(Self { bytes, front: Front::parse(bytes)? })
    }

    /// Element type of the matrix.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.split().dtype()
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.front.grid.rows
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.front.grid.cols
    }

    /// Bytes of the decoded matrix.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.rows() * self.cols() * self.dtype().bytes()
    }

    /// The blob's bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Weights outside the coded window.
    #[must_use]
    pub fn exceptions(&self) -> u64 {
        self.front.header.exceptions
    }

    /// Entropy of the matrix, as [`entropy`](crate::entropy) found it when the blob was made.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.front.header.entropy()
    }

    /// CRC-32C of header, frequency table and index, which in turn hold those of the tiles: it
    /// stands for the whole blob.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.front.header.crc
    }

    /// CRC-32C of the weights, row by row.
    #[must_use]
    pub fn weights_crc(&self) -> u32 {
        self.front.header.weights_crc
    }

    /// How the weights split.
    #[must_use]
    pub fn split(&self) -> Split {
        self.front.coding.split
    }

    /// How the scales of groups of weights are stored, if the blob has any.
    #[must_use]
    pub fn groups(&self) -> Option<GroupPlane> {
        self.front.coding.groups
    }

    /// The scales of the rows, bits of BF16 numbers, if the blob has any.
    #[must_use]
    pub fn row_scales(&self) -> Option<&[u16]> {
        self.front.row_scales.as_deref()
    }

    /// Whether some of its integers take more than the byte that [`Blob::decode`] gives: [`Blob::large_integers`]. What
    /// dequantizes and multiplies takes all of them. Only matrices with scales of rows have such.
    #[must_use]
    pub fn has_large_integers(&self) -> bool {
        self.front.coding.wide
    }

    /// The scale of row `row`, as a number.
    pub(crate) fn row_scale(&self, row: usize) -> Option<f32> {
        self.row_scales().map(|scales| bf16::from_bits(scales[row]).to_f32())
    }

    /// The tiles' places in the matrix.
    #[must_use]
    pub fn grid(&self) -> TileGrid {
        self.front.grid
    }

    /// The index, one record a tile.
    #[must_use]
    pub fn index(&self) -> &[TileEntry] {
        &self.front.index
    }

    /// The frequency table.
    #[must_use]
    pub fn frequencies(&self) -> &Frequencies {
        &self.front.frequencies
    }

    /// Tile number `tile`, taken apart and checked.
    ///
    /// # Panics
    /// If there is no such tile.
    ///
    /// # Errors
    /// [`BlobError::Tile`] if the payload does not match its checksum or its parts do not fit.
    pub fn tile(&self, tile: usize) -> Result<Tile<'_>, BlobError> {
        let fault = |fault| BlobError::Tile { tile, fault };
        let entry = &self.front.index[tile];
        let payload = self.payload(entry);
        if crc32c::crc32c(payload) != entry.crc {
            return Err(fault(TileFault::Checksum));
        }
        Tile::new(entry, self.front.grid.shape(tile), self.front.coding, payload).map_err(fault)
    }

    /// The scales of the groups: bits of binary16 numbers, rows x `ceil(cols / 128)`, row by row.
    /// `None` if the blob has no groups.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn scales(&self) -> Result<Option<Vec<u16>>, BlobError> {
        self.groups().map(|plane| self.of_each_group(plane, scale)).transpose()
    }

    /// The zero points of the groups, from -8 to 7, in the places of the scales. `None` if the blob
    /// has none.
    ///
    /// # Errors
    /// As [`Blob::scales`].
    pub fn zeros(&self) -> Result<Option<Vec<i8>>, BlobError> {
        let plane = self.groups().filter(|plane| plane.zeros);
        plane.map(|plane| self.of_each_group(plane, zero)).transpose()
    }

    /// What `read` finds of each group in its slab's block. The tiles are as long as their groups
    /// take, so that the blob bears out the memory.
    fn of_each_group<T: Copy + Default>(
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

    /// What the weights stand for, but for the scales of rows.
    pub(crate) fn numbers(&self) -> Result<Numbers, BlobError> {
        let groups = self.scales()?.map(|scales| Ok(OwnedGroups { scales, zeros: self.zeros()? }));
        Ok(Numbers {
            dtype: self.dtype(),
            groups: groups.transpose()?,
            wide: self.large_integers()?,
        })
    }

    /// The integers that take more than a byte, by row and then by column.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile.
    pub fn large_integers(&self) -> Result<Vec<LargeInteger>, BlobError> {
        let tiles = if self.has_large_integers() { self.index().len() } else { 0 };
        let tiles = (0..tiles).into_par_iter().map(|tile| self.large_in(tile));
        let mut integers = tiles.collect::<Result<Vec<_>, _>>()?.concat();
        integers.sort_unstable();
        Ok(integers)
    }

    fn large_in(&self, tile: usize) -> Result<Vec<LargeInteger>, BlobError> {
        let Tile::Coded(coded) = self.tile(tile)? else { return Ok(Vec::new()) };
        let (top, left) = self.grid().origin(tile);
        let slabs = (top..).step_by(SLAB_ROWS).zip(coded.slabs());
        let integers = slabs.flat_map(|(first_row, slab)| {
            slab.exceptions().filter_map(move |(row, col, weight)| {
                LargeInteger::of_weight(first_row + row, left + col, weight)
            })
        });
        Ok(integers.collect())
    }

    /// A tile's payload. That it lies in the blob was checked by [`Blob::parse`].
    pub(crate) fn payload(&self, entry: &TileEntry) -> &'a [u8] {
        &self.bytes[entry.offset as usize * LINE..][..usize::from(entry.lines) * LINE]
    }

    /// Checks every tile's checksum and structure without decoding.
    ///
    /// # Errors
    /// [`BlobError::Tile`] names a damaged tile. ([`TileFault::Stream`] shows only when it is decoded.)
    pub fn verify(&self) -> Result<(), BlobError> {
        (0..self.front.index.len()).into_par_iter().try_for_each(|tile| self.tile(tile).map(drop))
    }

    /// Decodes into `out`, row-major, little endian; of [large integers](Blob::large_integers) the low bytes. Verifies every
    /// checksum. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] for an `out` of another length than the matrix; [`BlobError::Tile`]
    /// or [`BlobError::WeightsChecksum`] for damage, after which `out` holds unspecified weights.
    pub fn decode(&self, out: &mut [u8]) -> Result<(), BlobError> {
        check_size(self.dtype().bytes(), self.rows(), self.cols(), out.len())?;
        let table = self.front.frequencies.decode_table();
        let row_bytes = self.cols() * self.dtype().bytes();
        let bands = out.par_chunks_mut(TILE.min(self.rows()) * row_bytes).enumerate();
        bands.try_for_each(|(band, out)| self.decode_tile_row(band, out, &table))?;
        if parallel_crc(out) == self.weights_crc() {
            Ok(())
        } else {
            Err(BlobError::WeightsChecksum)
        }
    }

    /// Decodes the numbers that the weights stand for, scales of groups and rows included, to numbers of `dtype` in
    /// `out`, row-major, little endian: each rounded to the nearest, to the largest finite one where it is finite and beyond.
    /// Verifies every checksum. Takes the memory of the decoded weights and of the scales of groups beside `out`,
    /// and 24 bytes for each integer of more than a byte.
    ///
    /// # Errors
    /// As [`Blob::decode`]; `out` has `dtype.bytes()` bytes a weight. [`BlobError::Memory`].
    pub fn dequantize(&self, dtype: Float, out: &mut [u8]) -> Result<(), BlobError> {
        let (rows, cols) = (self.rows(), self.cols());
        check_size(dtype.bytes(), rows, cols, out.len())?;
        let (mut weights, bytes) = (Vec::new(), self.weight_bytes());
        let reserved = weights.try_reserve_exact(bytes);
        reserved.map_err(|_| BlobError::Memory { bytes: bytes as u64 })?;
        weights.resize(bytes, 0);
        self.decode(&mut weights)?;
        let numbers = self.numbers()?;
        let stored = weights.par_chunks(cols * self.dtype().bytes());
        let outs = out.par_chunks_mut(cols * dtype.bytes());
        outs.zip(stored).enumerate().for_each_init(
            || vec![0.0; cols],
            |row_numbers, (row, (out, stored))| {
                numbers.dequantize_row(self.row_scale(row), row, stored, row_numbers);
                dtype.store_all(row_numbers, out);
            },
        );
        Ok(())
    }

    /// Decodes a row of tiles, side by side: each gets its part of every row of `out`.
    pub(crate) fn decode_tile_row(
        &self,
        band: usize,
        out: &mut [u8],
        table: &[Entry; TABLE],
    ) -> Result<(), BlobError> {
        let bytes = self.dtype().bytes();
        let across = self.front.grid.across();
        let rows = out.len() / (self.cols() * bytes);
        let mut parts: Vec<Vec<&mut [u8]>> =
            (0..across).map(|_| Vec::with_capacity(rows)).collect();
        for row in out.chunks_mut(self.cols() * bytes) {
            for (part, cols) in parts.iter_mut().zip(row.chunks_mut(TILE * bytes)) {
                part.push(cols);
            }
        }
        parts.par_iter_mut().enumerate().try_for_each(|(i, out)| {
            let tile = band * across + i;
            match self.tile(tile)? {
                Tile::Raw { weights, .. } => {
                    let mut rest = weights;
                    for row in out {
                        let (stored, after) = rest.split_at(row.len());
                        row.copy_from_slice(stored);
                        rest = after;
                    }
                }
                Tile::Coded(coded) => {
                    let decoded = fast::decode_tile(&coded, self.split(), table, out);
                    decoded.map_err(|fault| BlobError::Tile { tile, fault })?;
                }
            }
            Ok(())
        })
    }
}
