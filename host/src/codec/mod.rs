//! Matrices in, blobs out.

pub mod coding_model;
pub mod estimate;
pub mod fast;
pub mod reference;

use crate::BlobError;
use crate::blob::groups::Groups;
use crate::blob::header::{
    HEADER_BYTES, Header, check_size, front_crc, may_have_row_scales, payload_start,
};
use crate::blob::tile_format::TileFormat;
use crate::blob::values::{LargeInteger, between};
use crate::codec::coding_model::{CodingModel, CodingRequest};
use fused_rans_layout::{Dtype, LINE, TILE, TileEntry, TileGrid, WeightsPerSymbol};
use rayon::prelude::*;

/// A row-major matrix of weights, little endian, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: Dtype,
    grid: TileGrid,
    data: &'a [u8],
    groups: Option<Groups<'a>>,
    row_scales: Option<&'a [u16]>,
    wide: &'a [LargeInteger],
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: Option<u8>,
    limit: Option<usize>,
}

impl<'a> Matrix<'a> {
    /// A view of `data` as `rows` x `cols` weights of `dtype`.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `data` is not `rows * cols * dtype.bytes()` long,
    /// [`BlobError::TooLarge`] if that cannot be addressed.
    pub fn new(dtype: Dtype, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self, BlobError> {
        check_size(dtype.bytes(), rows, cols, data.len())?;
        let (grid, weights_per_symbol) = (TileGrid { rows, cols }, WeightsPerSymbol::Two);
        Ok(Self {
            dtype,
            grid,
            data,
            groups: None,
            row_scales: None,
            wide: &[],
            weights_per_symbol,
            raw_bits: None,
            limit: None,
        })
    }

    /// This matrix, to be coded with so many weights a symbol if it can be: four of integers only, and neither if one in
    /// 4096 weights and more is outside -64 to 63, nor if a symbol of four were more frequent than one in four.
    ///
    /// Two weights a symbol, the default, are smaller: of 4-bit integers by 0.1 bits a weight and more. Four are
    /// multiplied faster.
    #[must_use]
    pub fn packed(self, weights_per_symbol: WeightsPerSymbol) -> Self {
        Self { weights_per_symbol, ..self }
    }

    /// This matrix of integers, to be coded with so many raw bits (0 to 4; with four weights a symbol 2 to 5; not
    /// with groups). Any other number leaves the choice to the encoder, as does the default.
    #[must_use]
    pub fn split_at(self, raw_bits: u8) -> Self {
        Self { raw_bits: Some(raw_bits), ..self }
    }

    /// This matrix of [`Dtype::I8`] or [`Dtype::F8E4M3`] weights with a scale for each row, bits of BF16
    /// numbers: a weight stands for `scale * weight`.
    ///
    /// # Errors
    /// [`BlobError::RowScales`] for another type or another number of scales than rows.
    pub fn scaled(self, scales: &'a [u16]) -> Result<Self, BlobError> {
        if !may_have_row_scales(self.dtype) || scales.len() != self.grid.rows {
            let (dtype, rows) = (self.dtype, self.grid.rows);
            return Err(BlobError::RowScales { dtype, rows, found: scales.len() });
        }
        Ok(Self { row_scales: Some(scales), ..self })
    }

    /// This matrix in the place of one of `bytes` bytes: [`encode`] makes a blob if that is smaller.
    #[must_use]
    pub fn instead_of(self, bytes: usize) -> Self {
        Self { limit: Some(bytes), ..self }
    }

    /// This matrix of [`Dtype::I8`] weights with scales of rows, some of which are but the low bytes of the integers in
    /// `wide`: by row, and then by column.
    ///
    /// # Errors
    /// [`BlobError::LargeIntegers`] if there are some, and it is another matrix, or they are not in order, outside, not
    /// wide, or not those of these low bytes.
    pub fn with_large_integers(self, wide: &'a [LargeInteger]) -> Result<Self, BlobError> {
        if wide.is_empty() {
            return Ok(self);
        }
        if self.dtype != Dtype::I8 || self.row_scales.is_none() || self.groups.is_some() {
            return Err(BlobError::LargeIntegers("this is another one"));
        }
        LargeInteger::check(wide, (self.grid.rows, self.grid.cols), self.data)?;
        Ok(Self { wide, ..self })
    }

    /// This matrix with scales of groups.
    pub(crate) fn grouped(self, groups: Groups<'a>) -> Result<Self, BlobError> {
        if !self.wide.is_empty() {
            return Err(BlobError::LargeIntegers("there are groups"));
        }
        groups.check(self.dtype, self.grid, self.data)?;
        Ok(Self { groups: Some(groups), ..self })
    }

    /// Element type.
    #[must_use]
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// The matrix's tiles.
    #[must_use]
    pub fn grid(self) -> TileGrid {
        self.grid
    }

    /// The weights, row by row.
    #[must_use]
    pub fn data(self) -> &'a [u8] {
        self.data
    }

    /// How it is to be coded. Integers with groups have no exceptions, whatever was asked for.
    pub(crate) fn wanted(self) -> CodingRequest {
        let raw_bits = self.raw_bits.filter(|_| self.groups.is_none());
        CodingRequest { dtype: self.dtype, weights_per_symbol: self.weights_per_symbol, raw_bits }
    }

    /// The scales and zero points of groups, if there are any.
    pub(crate) fn groups(self) -> Option<Groups<'a>> {
        self.groups
    }

    /// Bytes that a blob must stay below: those of the matrix, scales and zero points included, if nothing else was said.
    fn limit(self) -> usize {
        let scales = self.row_scales.map_or(0, size_of_val);
        let bytes = self.data.len() + scales + self.groups.map_or(0, |groups| groups.bytes());
        self.limit.unwrap_or(bytes)
    }

    /// How `model` codes it.
    pub(crate) fn coding(self, model: &CodingModel) -> TileFormat {
        let groups = self.groups.map(|groups| groups.plane());
        TileFormat { split: model.split, groups, wide: !self.wide.is_empty() }
    }

    /// The part of row `row` of a tile that lies in the matrix: empty below its last row.
    pub(crate) fn tile_row(self, tile: usize, row: usize) -> &'a [u8] {
        let shape = self.grid.shape(tile);
        if row >= shape.rows {
            return &[];
        }
        let (first_row, first_col) = self.grid.origin(tile);
        let start = (first_row + row) * self.grid.cols + first_col;
        let bytes = self.dtype.bytes();
        &self.data[start * bytes..][..shape.cols * bytes]
    }

    /// The large integers in row `row` of a tile: column in the tile, and the weight as an exception has it.
    pub(crate) fn large_row(self, tile: usize, row: usize) -> impl Iterator<Item = (usize, u16)> {
        let (first_row, first_col) = self.grid.origin(tile);
        let row = first_row + row;
        let wide = between(self.wide, row, first_col..first_col + TILE).iter();
        wide.filter_map(move |wide| Some((wide.col - first_col, wide.weight()?)))
    }

    /// Weight number `at` of `row`.
    pub(crate) fn weight(self, row: &[u8], at: usize) -> u16 {
        match self.dtype.bytes() {
            1 => row[at].into(),
            _ => u16::from_le_bytes([row[2 * at], row[2 * at + 1]]),
        }
    }

    /// The weights of a tile, row by row.
    pub(crate) fn tile_bytes(self, tile: usize) -> Vec<u8> {
        (0..self.grid.shape(tile).rows).flat_map(|row| self.tile_row(tile, row)).copied().collect()
    }
}

/// Compresses `matrix`; `None` if that would not make it smaller, or if all integers of a tile take more than a byte. Runs
/// on rayon's current pool.
#[must_use]
pub fn encode(matrix: Matrix<'_>) -> Option<Vec<u8>> {
    if matrix.data.is_empty() {
        return None;
    }
    let tiles = matrix.grid.tiles()?;
    // A tile takes a line at least. There may be many thousands of matrices that are too small for that.
    let front = payload_start(tiles, matrix.row_scales.unwrap_or_default().len())?;
    if tiles.checked_mul(LINE)?.checked_add(front)? >= matrix.limit() {
        return None;
    }
    let model = CodingModel::of(matrix);
    let table = model.frequencies.encode_table();
    let tiles = (0..tiles).into_par_iter();
    let tiles = tiles.map(|tile| fast::encode_tile(matrix, &model, &table, tile));
    assemble(matrix, &model, tiles.collect::<Option<_>>()?)
}

/// Compresses an I8 `matrix` of weights from -8 to 7 together with the scales of its groups; `None`
/// if that would not make the three smaller: a byte a weight, two a scale, one a zero point.
/// Otherwise as [`encode`].
///
/// # Errors
/// [`BlobError::GroupType`] for any other type; [`BlobError::GroupCount`] if there are not
/// `rows * ceil(cols / 128)` scales and as many zero points (or none); [`BlobError::ZeroPoint`] and
/// [`BlobError::GroupedWeight`] for one outside -8 to 7.
pub fn encode_grouped(
    matrix: Matrix<'_>,
    groups: Groups<'_>,
) -> Result<Option<Vec<u8>>, BlobError> {
    matrix.grouped(groups).map(encode)
}

/// Puts a blob together; `None` if it is not smaller than the matrix.
pub(crate) fn assemble(
    matrix: Matrix<'_>,
    model: &CodingModel,
    tiles: Vec<(TileEntry, Vec<u8>)>,
) -> Option<Vec<u8>> {
    let row_scales = matrix.row_scales.unwrap_or_default();
    let start = payload_start(tiles.len(), row_scales.len())?;
    let bytes = start + tiles.iter().map(|(_, payload)| payload.len()).sum::<usize>();
    if bytes >= matrix.limit() {
        return None;
    }
    let scaled = matrix.row_scales.is_some();
    let mut header = Header::new(matrix.coding(model), scaled, matrix.grid, model.entropy);
    header.bytes = bytes as u64;
    header.weights_crc = parallel_crc(matrix.data);
    let mut blob = Vec::with_capacity(bytes);
    blob.extend_from_slice(&[0; HEADER_BYTES]);
    blob.extend_from_slice(bytemuck::cast_slice(model.frequencies.as_array()));
    let mut offset = start;
    for (entry, payload) in &tiles {
        let entry = TileEntry { offset: u32::try_from(offset / LINE).ok()?, ..*entry };
        header.exceptions += u64::from(entry.exceptions);
        blob.extend_from_slice(bytemuck::bytes_of(&entry));
        offset += payload.len();
    }
    blob.extend_from_slice(bytemuck::cast_slice(row_scales));
    blob.resize(start, 0);
    blob[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    header.crc = front_crc(&blob);
    blob[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    for (_, payload) in tiles {
        blob.extend_from_slice(&payload);
    }
    Some(blob)
}

/// CRC-32C of `data`, its parts computed side by side.
pub(crate) fn parallel_crc(data: &[u8]) -> u32 {
    const CHUNK: usize = 1 << 22;
    let crcs = data.par_chunks(CHUNK).map(|chunk| (crc32c::crc32c(chunk), chunk.len()));
    crcs.reduce(|| (0, 0), |(a, n), (b, m)| (crc32c::crc32c_combine(a, b, m), n + m)).0
}
