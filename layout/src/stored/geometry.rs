//! How a matrix divides into tiles, and a tile into slabs and fragments.

use super::fragment::{Place, fragment_column, matrix_column, register_position};
use crate::{FRAGMENT, LANES, SLAB_STRIPS, TILE, WeightsPerSymbol, planes};

/// The tiles of a matrix, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileGrid {
    /// Rows of the matrix (N, output features).
    pub rows: usize,
    /// Columns of the matrix (K, input features).
    pub cols: usize,
}

impl TileGrid {
    /// Returns the number of tiles in a row of tiles.
    #[must_use]
    pub const fn across(self) -> usize {
        self.cols.div_ceil(TILE)
    }

    /// Returns the number of tiles; `None` if it overflows.
    #[must_use]
    pub const fn tiles(self) -> Option<usize> {
        self.rows.div_ceil(TILE).checked_mul(self.across())
    }

    /// Returns (first row, first column) of tile number `tile`.
    #[must_use]
    pub const fn origin(self, tile: usize) -> (usize, usize) {
        (tile / self.across() * TILE, tile % self.across() * TILE)
    }

    /// Returns the shape of tile number `tile`, which is whole except at the right and lower edge.
    ///
    /// # Panics
    /// May panic if there is no such tile.
    #[must_use]
    pub const fn shape(self, tile: usize) -> TileShape {
        let (row, col) = self.origin(tile);
        let (rows, cols) = (self.rows - row, self.cols - col);
        TileShape {
            rows: if rows < TILE { rows } else { TILE },
            cols: if cols < TILE { cols } else { TILE },
        }
    }
}

/// A tile's extent in weights, each side in `[1, TILE]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Rows of the tile.
    pub rows: usize,
    /// Columns of the tile.
    pub cols: usize,
}

impl TileShape {
    /// Returns the number of strips of 16 rows, a padded one included.
    #[must_use]
    pub const fn strips(self) -> usize {
        self.rows.div_ceil(FRAGMENT)
    }

    /// Returns the number of steps of 16 columns, a padded one included.
    #[must_use]
    pub const fn steps(self) -> usize {
        self.cols.div_ceil(FRAGMENT)
    }

    /// Returns the number of slabs: pairs of strips, and a last single strip if their number is odd.
    #[must_use]
    pub const fn slabs(self) -> usize {
        self.strips().div_ceil(SLAB_STRIPS)
    }

    /// Returns the shape of slab number `slab`.
    #[must_use]
    pub const fn slab(self, slab: usize) -> SlabShape {
        let rest = self.strips() - SLAB_STRIPS * slab;
        SlabShape {
            strips: if rest < SLAB_STRIPS { rest } else { SLAB_STRIPS },
            steps: self.steps(),
        }
    }

    /// Checks whether the tile has [`TILE`] rows and columns.
    #[inline(always)]
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.rows == TILE && self.cols == TILE
    }

    /// Returns the number of weights, without padding.
    #[must_use]
    pub const fn weights(self) -> usize {
        self.rows * self.cols
    }

    /// Returns the number of bytes of the raw planes of all slabs.
    #[must_use]
    pub fn raw_bytes(self, raw_bits: u8) -> usize {
        (0..self.slabs()).map(|s| self.slab(s).raw_bytes(raw_bits)).sum()
    }
}

/// Shape of a slab: one or two strips over the whole width of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabShape {
    /// Strips of 16 rows: 1 or 2.
    pub strips: usize,
    /// Steps of 16 columns.
    pub steps: usize,
}

impl SlabShape {
    /// The shape of the slabs of a whole tile.
    pub const WHOLE: Self = Self { strips: SLAB_STRIPS, steps: TILE / FRAGMENT };

    /// Returns the number of fragments. The one at `step` and `strip` has number `step * strips + strip`.
    #[inline(always)]
    #[must_use]
    pub const fn fragments(self) -> usize {
        self.strips * self.steps
    }

    /// Returns every (strip, g) of the slab: rows g and g + 8 of a strip are in the registers of the same lanes.
    pub fn row_pairs(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.strips).flat_map(|strip| (0..FRAGMENT / 2).map(move |g| (strip, g)))
    }

    /// Returns the number of symbols of each lane's stream.
    #[inline(always)]
    #[must_use]
    pub const fn symbols(self, weights_per_symbol: WeightsPerSymbol) -> usize {
        weights_per_symbol.symbols_per_fragment() * self.fragments()
    }

    /// Returns the number of bytes of the slab's raw planes, a multiple of [`LINE`](crate::LINE).
    #[must_use]
    pub fn raw_bytes(self, raw_bits: u8) -> usize {
        planes(raw_bits).map(|plane| plane.words(self) * LANES * 4).sum()
    }

    /// Returns the place of the weight at (`row`, `col`) of the slab.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, row: usize, col: usize) -> Place {
        let (step, col) = fragment_column(self.steps, col);
        Place {
            fragment: step * self.strips + row / FRAGMENT,
            lane: row % 8 * 4 + col % 8 / 2,
            register: col / 8 * 2 + row % FRAGMENT / 8,
            half: col % 2,
        }
    }

    /// Returns the (row, column) in the slab of the weight at `place`: the inverse of [`SlabShape::place`].
    #[inline(always)]
    #[must_use]
    pub const fn position(self, place: Place) -> (usize, usize) {
        let (row, col) = register_position(place.lane, place.register, place.half);
        let (step, strip) = (place.fragment / self.strips, place.fragment % self.strips);
        (FRAGMENT * strip + row, matrix_column(self.steps, step, col))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_of_a_slab_has_a_place_of_its_own() {
        for (strips, steps) in [(1, 1), (2, 1), (1, 3), (2, 5), (2, 16)] {
            let slab = SlabShape { strips, steps };
            for (row, col) in
                (0..16 * strips).flat_map(|row| (0..16 * steps).map(move |col| (row, col)))
            {
                let place = slab.place(row, col);
                assert!(place.fragment < slab.fragments());
                assert_eq!(slab.position(place), (row, col));
            }
        }
    }
}
