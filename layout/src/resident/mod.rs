//! The resident layout: a layer as it lies in device memory. An upload makes it from a blob.
//!
//! A blob is made to be small; this layout is made to be read. A slab lies in one piece, starts at a whole line, and
//! has as many rows of words as its longest lane, so that one bulk copy fetches them, and nothing has to be located but
//! by its [`SlabEntry`]. Words and raw bits themselves are those of the blob.

mod partition;

use crate::{LANES, LINE, Plane};
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

pub use partition::{LeanPartition, SlabPlace, SlabRun};

/// Steps of a panel: what the kernels decode between two waits. Raw planes of a panel are whole words.
pub const PANEL_STEPS: usize = 4;
/// Columns of a panel.
pub const PANEL_COLUMNS: usize = PANEL_STEPS * crate::FRAGMENT;
/// Panels of a whole slab.
pub const PANELS: usize = crate::TILE / PANEL_COLUMNS;
/// Fragments of a panel of two strips.
pub const PANEL_FRAGMENTS: usize = PANEL_STEPS * crate::SLAB_STRIPS;

/// Where a slab lies. The entries of a row of slabs follow each other, the first row's first.
///
/// A coded slab consists of its rows of words and of the raw planes of its panels. A plain slab, with no rows, has its
/// weights as they are, in the order of the fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlabEntry {
    /// First line, from the start of the layer's slabs.
    pub line: u32,
    /// Rows of words; 0 for a plain slab.
    pub rows: u32,
}

/// A weight that replaces the decoded one in its place. Exceptions are sorted by span, row and column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ResidentException {
    /// The weight less the decoded one, as the bits of an F32.
    pub difference: u32,
    /// Column, from the start of its span.
    pub col: u16,
    /// The weight's bits; of an integer, both bytes.
    pub weight: u16,
}

/// Columns of a span: what the columns of exceptions are counted in.
pub const SPAN: usize = 1 << 16;

const _: () = assert!(size_of::<SlabEntry>() == 8 && offset_of!(SlabEntry, rows) == 4);
const _: () = assert!(
    size_of::<ResidentException>() == 8
        && offset_of!(ResidentException, col) == 4
        && offset_of!(ResidentException, weight) == 6
);

// SAFETY: all fields are integers, for which zeros are a value.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for SlabEntry {}
// SAFETY: `repr(C)`, all fields are integers, and the assertion above shows that there is no padding.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for SlabEntry {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for ResidentException {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for ResidentException {}

/// Returns the panels of a slab of `steps` steps.
#[inline(always)]
#[must_use]
pub const fn panels(steps: usize) -> usize {
    steps.div_ceil(PANEL_STEPS)
}

/// Returns the bytes of a panel's raw planes.
#[inline(always)]
#[must_use]
pub const fn panel_raw_bytes(raw_bits: u32) -> usize {
    PANEL_FRAGMENTS * LANES * raw_bits as usize
}

/// Returns the bytes of a panel of a plain slab, with weights of `byte_len` bytes.
#[inline(always)]
#[must_use]
pub const fn panel_plain_bytes(byte_len: usize) -> usize {
    PANEL_FRAGMENTS * LANES * 8 * byte_len
}

/// Returns the words of a plane of `width` bits that a lane has of a panel.
#[inline(always)]
#[must_use]
pub const fn panel_plane_words(width: u32) -> usize {
    2 * width as usize
}

/// Returns where a lane's word `word` of a plane of `width` bits lies in the plane of a panel: words in fours, as in the
/// blob, or in twos if there are no more.
#[inline(always)]
#[must_use]
pub const fn panel_word_offset(width: u32, lane: usize, word: usize) -> usize {
    Plane::word_offset(panel_plane_words(width), lane, word)
}

/// Returns where the plane of `width` bits starts in a panel's raw planes, in bytes: wider planes come first.
#[inline(always)]
#[must_use]
pub const fn panel_plane_start(raw_bits: u32, width: u32) -> usize {
    panel_raw_bytes(raw_bits & !(2 * width - 1))
}

/// Returns the bytes of a coded slab with `rows` rows of words.
#[must_use]
pub const fn coded_slab_bytes(rows: usize, steps: usize, raw_bits: u32) -> usize {
    rows * LINE + panels(steps) * panel_raw_bytes(raw_bits)
}

/// Returns the bytes of a plain slab.
#[must_use]
pub const fn plain_slab_bytes(steps: usize, byte_len: usize) -> usize {
    panels(steps) * panel_plain_bytes(byte_len)
}

const _: () =
    assert!(panel_raw_bytes(1).is_multiple_of(LINE) && panel_plain_bytes(1).is_multiple_of(LINE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SlabShape, planes};
    extern crate std;
    use std::collections::BTreeSet;

    #[test]
    fn planes_of_a_panel_fill_it() {
        for raw_bits in 0..16u8 {
            let bits = u32::from(raw_bits);
            let mut seen = BTreeSet::new();
            for plane in planes(raw_bits) {
                let start = panel_plane_start(bits, plane.width) / 4;
                for lane in 0..LANES {
                    for word in 0..panel_plane_words(plane.width) {
                        assert!(seen.insert(start + panel_word_offset(plane.width, lane, word)));
                    }
                }
            }
            assert_eq!(seen.len() * 4, panel_raw_bytes(bits));
            assert_eq!(seen.last().map_or(0, |last| last + 1), seen.len());
            let whole = PANELS * panel_raw_bytes(bits);
            assert_eq!(whole, SlabShape::WHOLE.raw_bytes(raw_bits));
        }
    }
}
