//! Groups: weights of a row that share a scale and a zero point.

use crate::{FRAGMENT, SLAB_STRIPS, TILE};

/// Columns of a group; the last group of a row may have fewer.
pub const GROUP: usize = 128;

/// Groups across a tile.
pub const GROUPS: usize = TILE / GROUP;

/// Rows g, g + 8, g + 16 and g + 24 of a slab, which a lane's registers hold.
const ROWS: usize = SLAB_STRIPS * 2;

/// How scales and zero points of a slab are stored: scales as binary16, row g's, g + 8's, g + 16's and
/// g + 24's of the first group, then of the second, for g = 0 to 7; then, if there are zero
/// points, those in the same order, a nibble each, the first lowest. Always for 32 rows and two
/// groups: what lies outside the matrix is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlane {
    /// Whether there are zero points.
    pub zeros: bool,
}

impl GroupPlane {
    /// Bytes of the scales of a slab.
    pub const SCALE_BYTES: usize = 2 * GROUPS * SLAB_STRIPS * FRAGMENT;
    /// Bytes of the zero points of a slab.
    pub const ZERO_BYTES: usize = GROUPS * SLAB_STRIPS * FRAGMENT / 2;

    /// Bytes of a slab's scales and zero points, a multiple of 16.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> usize {
        Self::SCALE_BYTES + if self.zeros { Self::ZERO_BYTES } else { 0 }
    }

    /// Number of the scale, and of the zero point, of row `row` of the slab and group `group` of the tile.
    #[inline(always)]
    #[must_use]
    pub const fn index(row: usize, group: usize) -> usize {
        row % 8 * GROUPS * ROWS + group * ROWS + row / 8
    }
}

const _: () = assert!(GroupPlane { zeros: true }.bytes() == 160);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_has_a_place_of_its_own() {
        let mut seen = [false; GROUPS * SLAB_STRIPS * FRAGMENT];
        for (row, group) in (0..32).flat_map(|row| (0..GROUPS).map(move |group| (row, group))) {
            let at = GroupPlane::index(row, group);
            assert!(!core::mem::replace(&mut seen[at], true));
        }
    }
}
