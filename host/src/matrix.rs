//! A matrix of weights, as it is handed to the encoder.

use crate::blob::groups::Groups;
use crate::blob::header::{check_size, may_have_row_scales};
use crate::blob::values::{LargeInteger, between};
use crate::element::{Element, as_bytes};
use crate::{BlobError, Dtype};
use fused_rans_layout::{TILE, TileGrid};
use half::bf16;

/// A borrowed row-major matrix of weights, with the scales that belong to them.
///
/// Make one of a typed slice with [`Matrix::from_slice`], or of raw bytes with [`Matrix::from_bytes`]; then pass it to
/// [`encode`](crate::encode) or to an [`Encoder`](crate::Encoder).
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
    /// Borrows `weights` as a matrix of `rows` rows and `cols` columns, row by row.
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
    /// [`BlobError::BufferSize`] if there are not `rows * cols` weights, [`BlobError::TooLarge`] if so many cannot be
    /// addressed.
    pub fn from_slice<T: Element>(
        weights: &'a [T],
        rows: usize,
        cols: usize,
    ) -> Result<Self, BlobError> {
        Self::from_bytes(T::DTYPE, as_bytes(weights), rows, cols)
    }

    /// Borrows `bytes` as a matrix of little-endian weights, at any alignment. Use it where the element type is known
    /// at run time only.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if there are not `rows * cols * dtype.byte_len()` bytes, [`BlobError::TooLarge`] if so
    /// many cannot be addressed.
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
    /// [`BlobError::RowScales`] for another element type or another number of scales than rows.
    pub fn with_row_scales(self, scales: &'a [bf16]) -> Result<Self, BlobError> {
        if !may_have_row_scales(self.dtype) || scales.len() != self.grid.rows {
            let (dtype, rows) = (self.dtype, self.grid.rows);
            return Err(BlobError::RowScales { dtype, rows, found: scales.len() });
        }
        Ok(Self { row_scales: Some(scales), ..self })
    }

    /// Adds a scale, and maybe a zero point, for each group of 128 columns of a row of an I8 matrix whose weights lie in
    /// -8 to 7: a weight dequantizes to `scale * (weight - zero point)`.
    ///
    /// # Errors
    /// [`BlobError::GroupType`] for another element type; [`BlobError::GroupCount`] if there are not
    /// `rows * ceil(cols / 128)` scales and as many zero points (or none); [`BlobError::ZeroPoint`] and
    /// [`BlobError::GroupedWeight`] for one outside -8 to 7; [`BlobError::LargeIntegers`] for a matrix that has some.
    pub fn with_groups(self, groups: Groups<'a>) -> Result<Self, BlobError> {
        if !self.large_integers.is_empty() {
            return Err(BlobError::LargeIntegers("the matrix has groups"));
        }
        groups.check(self.dtype, self.grid, self.bytes)?;
        Ok(Self { groups: Some(groups), ..self })
    }

    /// Adds the values of those integers of an I8 matrix with row scales that exceed a byte. The matrix holds their low
    /// bytes. Sort them by row, then by column.
    ///
    /// # Errors
    /// [`BlobError::LargeIntegers`] if there are some, and the matrix cannot have them: it has another element type, no
    /// row scales, or groups; or one is out of order, outside of the matrix, not large, or does not end in the low byte
    /// at its place.
    pub fn with_large_integers(self, integers: &'a [LargeInteger]) -> Result<Self, BlobError> {
        if integers.is_empty() {
            return Ok(self);
        }
        if self.dtype != Dtype::I8 || self.row_scales.is_none() || self.groups.is_some() {
            return Err(BlobError::LargeIntegers("this matrix is another one"));
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

    /// Returns the tiles that the matrix is cut into.
    #[doc(hidden)]
    #[must_use]
    pub fn grid(self) -> TileGrid {
        self.grid
    }

    /// Returns the scales and zero points of groups, if there are any.
    pub(crate) fn groups(self) -> Option<Groups<'a>> {
        self.groups
    }

    /// Returns the scales of rows, if there are any.
    pub(crate) fn row_scales(self) -> Option<&'a [bf16]> {
        self.row_scales
    }

    /// Tells whether some integers exceed a byte.
    pub(crate) fn has_large_integers(self) -> bool {
        !self.large_integers.is_empty()
    }

    /// Returns the size of weights, scales and zero points in bytes, uncompressed.
    pub(crate) fn stored_bytes(self) -> usize {
        let row_scales = self.row_scales.map_or(0, size_of_val);
        self.bytes.len() + row_scales + self.groups.map_or(0, |groups| groups.byte_len())
    }

    /// Returns the part of row `row` of a tile that lies in the matrix: empty below the matrix's last row.
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

    /// Lists the large integers in row `row` of a tile: the column in the tile, and the weight of its exception.
    pub(crate) fn large_row(self, tile: usize, row: usize) -> impl Iterator<Item = (usize, u16)> {
        let (first_row, first_col) = self.grid.origin(tile);
        let row = first_row + row;
        let large = between(self.large_integers, row, first_col..first_col + TILE).iter();
        large.filter_map(move |large| Some((large.col - first_col, large.weight()?)))
    }

    /// Returns weight number `at` of `row`.
    pub(crate) fn weight(self, row: &[u8], at: usize) -> u16 {
        match self.dtype.byte_len() {
            1 => row[at].into(),
            _ => u16::from_le_bytes([row[2 * at], row[2 * at + 1]]),
        }
    }

    /// Copies the weights of a tile, row by row.
    pub(crate) fn tile_bytes(self, tile: usize) -> Vec<u8> {
        (0..self.grid.shape(tile).rows).flat_map(|row| self.tile_row(tile, row)).copied().collect()
    }
}
