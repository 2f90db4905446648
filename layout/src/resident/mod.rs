//! The resident layout: a layer as it lies in device memory. An upload makes it from a blob.
//!
//! A blob is made to be small; this layout is made to be read. A slab lies in one piece, and
//! has as many rows of words as its longest lane, so that one bulk copy fetches them, and nothing has to be located but
//! by its [`SlabEntry`]. Words and raw bits themselves are those of the blob.

mod panel_order;
mod partition;

use crate::{LANES, LINE, Plane};
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

pub use panel_order::{PanelOrder, PanelStep};
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
/// A coded slab consists of its rows of words, its exceptions, and the raw planes of its panels. A plain slab, with no rows,
/// has its weights as they are, in the order of the fragments, behind its exceptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlabEntry {
    /// Where it starts, in [`UNIT`]s from the start of the layer's slabs.
    pub start: u32,
    /// Rows of words; 0 for a plain slab.
    pub rows: u16,
    /// Units of its exceptions; 0 if it has none.
    pub exceptions: u16,
}

/// Bytes of a unit, in which the places and sizes of slabs are counted: what bulk copies are made of.
pub const UNIT: usize = 16;

impl SlabEntry {
    /// Returns the units of its rows of words.
    #[inline(always)]
    #[must_use]
    pub const fn word_units(self) -> u32 {
        self.rows as u32 * (LINE / UNIT) as u32
    }

    /// Returns the units from the start of the slab to its raw planes, or to its weights if it is plain.
    #[inline(always)]
    #[must_use]
    pub const fn front_units(self) -> u32 {
        self.word_units() + self.exceptions as u32
    }

    /// Returns whether kernels copy its exceptions to shared memory together with its words. They read more than
    /// [`MAX_COPIED_UNITS`] from device memory.
    #[inline(always)]
    #[must_use]
    pub const fn exceptions_are_copied(self) -> bool {
        self.exceptions as usize <= MAX_COPIED_UNITS
    }

    /// Returns the units from its start that are copied to shared memory at once: its words, with its exceptions if
    /// [these are copied](Self::exceptions_are_copied).
    #[inline(always)]
    #[must_use]
    pub const fn copied_units(self) -> u32 {
        if self.exceptions_are_copied() { self.front_units() } else { self.word_units() }
    }
}

/// A weight that replaces the decoded one in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlabException {
    /// The weight less the decoded one, as the bits of an F32.
    pub difference: u32,
    /// Index of its column's activations in the tile's, as kernels copy these: see [`activation_place`].
    pub place: u8,
    /// Row in the slab.
    pub row: u8,
    /// The weight's bits; of an integer, both bytes.
    pub weight: u16,
}

/// Rows of a slab that the same lanes have the sums of are as many apart.
pub const ROW_CLASSES: usize = 8;

/// The start of a slab's exceptions: how many there are in the first classes of rows. Row `r` is in class
/// `r % ROW_CLASSES`. The exceptions follow, class by class, and in each from the first place to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ExceptionEnds(pub [u16; ROW_CLASSES]);

/// Returns the units that `count` exceptions of a slab take.
#[inline(always)]
#[must_use]
pub const fn exception_units(count: usize) -> usize {
    if count == 0 {
        return 0;
    }
    (size_of::<ExceptionEnds>() + count * size_of::<SlabException>()).div_ceil(UNIT)
}

/// Most units of exceptions that are copied to shared memory together with a slab's words, so that a slab with many does not
/// make all buffers large.
pub const MAX_COPIED_UNITS: usize = 64;

/// Returns the index of column `col` in a kernel's copy of the activations of a tile with `steps` steps. It is `col` itself,
/// except in a last step without a partner. There a lane has four columns in place of eight, and its eight copied activations
/// are these four, then four zeros.
#[inline(always)]
#[must_use]
pub const fn activation_place(steps: usize, col: usize) -> usize {
    let single = first_single(steps);
    if col < single { col } else { single + (col - single) / 4 * 8 + (col - single) % 4 }
}

/// Returns the column that [`activation_place`] gives the index `place`.
#[inline(always)]
#[must_use]
pub const fn activation_column(steps: usize, place: usize) -> usize {
    let single = first_single(steps);
    if place < single { place } else { single + (place - single) / 8 * 4 + (place - single) % 4 }
}

/// Returns the first column of the step without a partner, or the column after the last if all have one.
#[inline(always)]
const fn first_single(steps: usize) -> usize {
    (steps - steps % 2) * crate::FRAGMENT
}

const _: () = assert!(
    size_of::<SlabEntry>() == 8
        && offset_of!(SlabEntry, rows) == 4
        && offset_of!(SlabEntry, exceptions) == 6
);
const _: () = assert!(
    size_of::<SlabException>() == 8
        && offset_of!(SlabException, place) == 4
        && offset_of!(SlabException, row) == 5
        && offset_of!(SlabException, weight) == 6
);
const _: () = assert!(size_of::<ExceptionEnds>() == UNIT && LINE.is_multiple_of(UNIT));
// So the units of all exceptions that a slab can have, and its rows of words, fit into 16 bits.
const _: () = assert!(
    exception_units(crate::SLAB_ROWS * crate::TILE) <= u16::MAX as usize
        && crate::MAX_WORD_ROWS <= u16::MAX as usize
);

// SAFETY: all fields are integers, for which zeros are a value.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for SlabEntry {}
// SAFETY: `repr(C)`, all fields are integers, and the assertion above shows that there is no padding.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for SlabEntry {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for SlabException {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for SlabException {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for ExceptionEnds {}
// SAFETY: as for `SlabEntry`.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for ExceptionEnds {}

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

/// Returns the bytes of a slab of `steps` steps, for weights of `raw_bits` raw bits and `byte_len` bytes.
#[must_use]
pub const fn slab_bytes(entry: SlabEntry, steps: usize, raw_bits: u32, byte_len: usize) -> usize {
    let panel = match entry.rows {
        0 => panel_plain_bytes(byte_len),
        _ => panel_raw_bytes(raw_bits),
    };
    entry.front_units() as usize * UNIT + panels(steps) * panel
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
    fn each_column_has_a_place_of_its_own_among_the_activations() {
        for steps in 1..=crate::TILE / crate::FRAGMENT {
            let cols = 0..steps * crate::FRAGMENT;
            let places: BTreeSet<_> =
                cols.clone().map(|col| activation_place(steps, col)).collect();
            assert_eq!(places.len(), cols.len());
            assert!(places.last().is_some_and(|&last| last < PANEL_COLUMNS * panels(steps)));
            for col in cols {
                assert_eq!(activation_column(steps, activation_place(steps, col)), col);
            }
        }
        assert_eq!(
            [0, 47, 48, 51, 52, 63].map(|col| activation_place(16, col)),
            [0, 47, 48, 51, 52, 63]
        );
        assert_eq!(
            [31, 32, 35, 36, 40, 47].map(|col| activation_place(3, col)),
            [31, 32, 35, 40, 48, 59]
        );
    }

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
