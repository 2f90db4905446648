//! Scales and zero points of groups of weights.

use crate::BlobError;
use fused_rans_layout::{Dtype, GROUP, GroupPlane, SLAB_ROWS, TileGrid};
use half::f16;

/// Scales, and optionally zero points, of an I8 matrix of 4-bit integers (-8 to 7): one for every [`GROUP`] columns of
/// a row. A weight dequantizes to `scale * (weight - zero)`.
///
/// Pass them to [`Matrix::with_groups`](crate::Matrix::with_groups).
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// Scales: rows x `ceil(cols / 128)`, row by row.
    pub scales: &'a [f16],
    /// Zero points from -8 to 7, in the order of the scales.
    pub zeros: Option<&'a [i8]>,
}

/// Owned scales and zero points of groups.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedGroups {
    /// Scales, in the order of [`Groups::scales`].
    pub scales: Vec<f16>,
    /// Zero points, in the order of the scales.
    pub zeros: Option<Vec<i8>>,
}

impl OwnedGroups {
    /// Borrows the scales and zero points.
    pub fn borrow(&self) -> Groups<'_> {
        Groups { scales: &self.scales, zeros: self.zeros.as_deref() }
    }
}

impl Groups<'_> {
    /// Checks that a matrix of this type and shape can have these groups, and that `weights` and zero points have four
    /// bits.
    pub(crate) fn check(
        &self,
        dtype: Dtype,
        grid: TileGrid,
        weights: &[u8],
    ) -> Result<(), BlobError> {
        if dtype != Dtype::I8 {
            return Err(BlobError::GroupType { dtype });
        }
        let expected = group_count(grid);
        for found in [Some(self.scales.len()), self.zeros.map(<[i8]>::len)].into_iter().flatten() {
            if found != expected {
                let (rows, cols) = (grid.rows, grid.cols);
                return Err(BlobError::GroupCount { rows, cols, expected, found });
            }
        }
        if let Some(found) = find_wider_than_nibble(self.zeros.unwrap_or_default()) {
            return Err(BlobError::ZeroPoint { found });
        }
        find_wider_than_nibble(bytemuck::cast_slice(weights))
            .map_or(Ok(()), |found| Err(BlobError::GroupedWeight { found }))
    }

    /// Returns the uncompressed size of scales and zero points in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        size_of_val(self.scales) + self.zeros.map_or(0, size_of_val)
    }

    /// Returns the layout in which they are stored.
    pub(crate) fn plane(&self) -> GroupPlane {
        GroupPlane { zeros: self.zeros.is_some() }
    }

    /// Returns the stored blocks of the slabs of tile number `tile`: scales, then zero points as nibbles.
    pub(crate) fn blocks(&self, grid: TileGrid, tile: usize) -> Vec<u8> {
        let bytes = self.plane().bytes();
        let mut blocks = vec![0; bytes * grid.shape(tile).slabs()];
        for (group, slab, index) in tile_groups(grid, tile) {
            let (scales, zeros) =
                blocks[bytes * slab..][..bytes].split_at_mut(GroupPlane::SCALE_BYTES);
            scales[2 * index..][..2].copy_from_slice(&self.scales[group].to_le_bytes());
            if let Some(stored) = self.zeros {
                zeros[index / 2] |= ((stored[group] + 8) as u8) << (index % 2 * 4);
            }
        }
        blocks
    }
}

/// Returns the first of `values` that does not fit in a signed nibble.
fn find_wider_than_nibble(values: &[i8]) -> Option<i8> {
    values.iter().copied().find(|value| !(-8..8).contains(value))
}

/// Returns the number of groups of a matrix. The last group of a row may have fewer than [`GROUP`] columns.
pub fn group_count(grid: TileGrid) -> usize {
    grid.rows * grid.cols.div_ceil(GROUP)
}

/// Lists the groups of a tile: (number in the matrix, number of the slab, index in the block of the slab).
pub fn tile_groups(grid: TileGrid, tile: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (shape, (top, left)) = (grid.shape(tile), grid.origin(tile));
    let (groups_per_row, groups_per_tile_row) =
        (grid.cols.div_ceil(GROUP), shape.cols.div_ceil(GROUP));
    let places = (0..shape.rows)
        .flat_map(move |row| (0..groups_per_tile_row).map(move |group| (row, group)));
    places.map(move |(row, group)| {
        let number = (top + row) * groups_per_row + left / GROUP + group;
        (number, row / SLAB_ROWS, GroupPlane::index(row % SLAB_ROWS, group))
    })
}

/// Reads scale number `index` from the block of a slab.
pub fn read_scale(block: &[u8], index: usize) -> f16 {
    f16::from_le_bytes([block[2 * index], block[2 * index + 1]])
}

/// Reads zero point number `index` from the block of a slab. The block must have zero points.
pub fn read_zero(block: &[u8], index: usize) -> i8 {
    (block[GroupPlane::SCALE_BYTES + index / 2] >> (index % 2 * 4) & 15) as i8 - 8
}
