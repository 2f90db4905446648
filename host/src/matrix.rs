//! The input of the encoder: a matrix of weights with its scales.

use crate::blob::groups::Groups;
use crate::blob::header::{check_size, may_have_row_scales};
use crate::blob::values::{LargeInteger, in_row};
use crate::element::{Element, as_bytes};
use crate::{BlobError, Dtype};
use fused_rans_layout::{TILE, TileGrid};
use half::bf16;

/// A borrowed, row-major matrix of weights, with their scales if they are quantized.
///
/// Create it with [`Matrix::from_slice`] or [`Matrix::from_bytes`], then pass it to [`encode`](crate::encode) or to an
/// [`Encoder`](crate::Encoder).
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: Dtype,
    grid: TileGrid,
    bytes: &'a [u8],
    groups: Option<Groups<'a>>,
    row_scales: Option<&'a [bf16]>,
    large_integers: &'a [LargeInteger],
}

impl<'a> Matrix<'a> {
    /// Borrows `weights`, stored row by row, as a matrix of `rows` rows and `cols` columns.
    ///
    /// ```
    /// use fused_rans_host::{Dtype, Matrix};
    /// use half::bf16;
    ///
    /// let weights = vec![bf16::ONE; 64 * 96];
    /// let matrix = Matrix::from_slice(&weights, 64, 96)?;
    /// assert_eq!(matrix.dtype(), Dtype::Bf16);
    /// # Ok::<(), fused_rans_host::BlobError>(())
    /// ```
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if the slice does not have `rows * cols` weights; [`BlobError::TooLarge`] if so many
    /// exceed the address space.
    pub fn from_slice<T: Element>(
        weights: &'a [T],
        rows: usize,
        cols: usize,
    ) -> Result<Self, BlobError> {
        Self::from_bytes(T::DTYPE, as_bytes(weights), rows, cols)
    }

    /// Borrows `bytes` as a matrix of little-endian weights, at any alignment. Use it when the element type is known
    /// only at run time.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if there are not `rows * cols * dtype.byte_len()` bytes; [`BlobError::TooLarge`] if so
    /// many exceed the address space.
    pub fn from_bytes(
        dtype: Dtype,
        bytes: &'a [u8],
        rows: usize,
        cols: usize,
    ) -> Result<Self, BlobError> {
        check_size(dtype.byte_len(), rows, cols, bytes.len())?;
        let grid = TileGrid { rows, cols };
        Ok(Self { dtype, grid, bytes, groups: None, row_scales: None, large_integers: &[] })
    }

    /// Adds a scale for each row of an I8 or FP8 matrix: a weight dequantizes to `scale * weight`.
    ///
    /// # Errors
    /// [`BlobError::RowScales`] for another element type, or if the number of scales is not the number of rows.
    pub fn with_row_scales(self, scales: &'a [bf16]) -> Result<Self, BlobError> {
        if !may_have_row_scales(self.dtype) || scales.len() != self.grid.rows {
            let (dtype, rows) = (self.dtype, self.grid.rows);
            return Err(BlobError::RowScales { dtype, rows, found: scales.len() });
        }
        Ok(Self { row_scales: Some(scales), ..self })
    }

    /// Adds a scale, and optionally a zero point, for each group of 128 columns of a row. The matrix must be I8, with
    /// weights from -8 to 7. A weight dequantizes to `scale * (weight - zero point)`.
    ///
    /// # Errors
    /// [`BlobError::GroupType`] for another element type; [`BlobError::GroupCount`] if there are not
    /// `rows * ceil(cols / 128)` scales and as many zero points (or none); [`BlobError::ZeroPoint`] and
    /// [`BlobError::GroupedWeight`] for a value outside -8 to 7; [`BlobError::LargeIntegers`] for a matrix with large
    /// integers.
    pub fn with_groups(self, groups: Groups<'a>) -> Result<Self, BlobError> {
        if !self.large_integers.is_empty() {
            return Err(BlobError::LargeIntegers(
                "this matrix would have large integers and groups",
            ));
        }
        groups.check(self.dtype, self.grid, self.bytes)?;
        Ok(Self { groups: Some(groups), ..self })
    }

    /// Adds the integers of an I8 matrix with row scales that do not fit in a byte. The matrix holds their low bytes.
    /// Sort the integers by row, then by column.
    ///
    /// # Errors
    /// [`BlobError::LargeIntegers`] if the matrix has another element type, no row scales, or groups, or if an integer
    /// is out of order, outside the matrix, not large, not exact in BF16, or not the one whose low byte the matrix
    /// holds. An empty slice is never an error.
    pub fn with_large_integers(self, integers: &'a [LargeInteger]) -> Result<Self, BlobError> {
        if integers.is_empty() {
            return Ok(self);
        }
        if self.dtype != Dtype::I8 || self.row_scales.is_none() || self.groups.is_some() {
            return Err(BlobError::LargeIntegers(
                "this matrix has another type, no row scales, or groups",
            ));
        }
        LargeInteger::check(integers, (self.grid.rows, self.grid.cols), self.bytes)?;
        Ok(Self { large_integers: integers, ..self })
    }

    /// Returns the element type.
    #[must_use]
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.grid.rows
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn cols(self) -> usize {
        self.grid.cols
    }

    /// Returns the weights, row by row, little endian.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the grid of tiles.
    #[doc(hidden)]
    #[must_use]
    pub fn grid(self) -> TileGrid {
        self.grid
    }

    /// Returns the scales and zero points of groups, if the matrix has groups.
    pub(crate) fn groups(self) -> Option<Groups<'a>> {
        self.groups
    }

    /// Returns the row scales, if the matrix has them.
    pub(crate) fn row_scales(self) -> Option<&'a [bf16]> {
        self.row_scales
    }

    /// Returns whether some integers do not fit in a byte.
    pub(crate) fn has_large_integers(self) -> bool {
        !self.large_integers.is_empty()
    }

    /// Returns the uncompressed size of weights, scales and zero points in bytes.
    pub(crate) fn uncompressed_byte_len(self) -> usize {
        let row_scales = self.row_scales.map_or(0, size_of_val);
        self.bytes.len() + row_scales + self.groups.map_or(0, |groups| groups.byte_len())
    }

    /// Returns the bytes of row `row` of a tile. Empty below the last row of the matrix.
    pub(crate) fn tile_row(self, tile: usize, row: usize) -> &'a [u8] {
        let shape = self.grid.shape(tile);
        if row >= shape.rows {
            return &[];
        }
        let (first_row, first_col) = self.grid.origin(tile);
        let start = (first_row + row) * self.grid.cols + first_col;
        let bytes = self.dtype.byte_len();
        &self.bytes[start * bytes..][..shape.cols * bytes]
    }

    /// Lists the large integers in row `row` of a tile: (column in the tile, weight of the exception).
    pub(crate) fn large_integers_in_row(
        self,
        tile: usize,
        row: usize,
    ) -> impl Iterator<Item = (usize, u16)> {
        let (first_row, first_col) = self.grid.origin(tile);
        let row = first_row + row;
        let large = in_row(self.large_integers, row, first_col..first_col + TILE).iter();
        large.filter_map(move |large| Some((large.col - first_col, large.weight()?)))
    }

    /// Reads weight number `index` of the bytes of a row.
    pub(crate) fn weight(self, row: &[u8], index: usize) -> u16 {
        match self.dtype.byte_len() {
            1 => row[index].into(),
            _ => u16::from_le_bytes([row[2 * index], row[2 * index + 1]]),
        }
    }

    /// Copies the weights of a tile, row by row.
    pub(crate) fn tile_bytes(self, tile: usize) -> Vec<u8> {
        (0..self.grid.shape(tile).rows).flat_map(|row| self.tile_row(tile, row)).copied().collect()
    }
}
