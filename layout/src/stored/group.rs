//! Groups: weights of a row that share a scale and a zero point.

use crate::{SLAB_ROWS, TILE};

/// Columns of a group; the last group of a row may have fewer.
pub const GROUP: usize = 128;

/// Groups across a tile.
pub const GROUPS: usize = TILE / GROUP;

/// Rows of a slab in the registers of a lane: g, g + 8, g + 16 and g + 24.
const LANE_ROWS: usize = SLAB_ROWS / 8;

/// How the scales and zero points of a slab are stored.
///
/// Scales are binary16. For every g from 0 to 7 there are those of rows g, g + 8, g + 16 and g + 24 in the first group, then
/// in the second. Zero points, if there are any, follow in the same order, a nibble each, the first in the low nibble.
/// There is always room for 32 rows and two groups; scales outside the matrix are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlane {
    /// Whether there are zero points.
    pub zeros: bool,
}

impl GroupPlane {
    /// Bytes of the scales of a slab.
    pub const SCALE_BYTES: usize = 2 * GROUPS * SLAB_ROWS;
    /// Bytes of the zero points of a slab.
    pub const ZERO_BYTES: usize = GROUPS * SLAB_ROWS / 2;

    /// Returns the number of bytes of a slab's scales and zero points, a multiple of 16.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> usize {
        Self::SCALE_BYTES + if self.zeros { Self::ZERO_BYTES } else { 0 }
    }

    /// Returns the number of the scale, and of the zero point, of row `row` of the slab and group `group` of the tile.
    #[inline(always)]
    #[must_use]
    pub const fn index(row: usize, group: usize) -> usize {
        row % 8 * GROUPS * LANE_ROWS + group * LANE_ROWS + row / 8
    }
}

const _: () = assert!(GroupPlane { zeros: true }.bytes() == 160);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_has_a_place_of_its_own() {
        let mut seen = [false; GROUPS * SLAB_ROWS];
        for (row, group) in (0..32).flat_map(|row| (0..GROUPS).map(move |group| (row, group))) {
            let at = GroupPlane::index(row, group);
            assert!(!core::mem::replace(&mut seen[at], true));
        }
    }
}
