//! Exceptions of a slab.

use crate::device::ptx::{load_generic_2, load_generic_u16};
use fused_rans_layout::{ExceptionEnds, ROW_CLASSES, SlabException};

/// A slab's exceptions, in shared or in device memory.
#[derive(Clone, Copy)]
pub struct Exceptions {
    ends: *const u16,
}

/// An exception.
#[derive(Clone, Copy)]
pub struct Exception {
    /// The weight less the decoded one, as the bits of an F32.
    pub difference: u32,
    /// Place of the activations of its column among those of the tile.
    pub place: u32,
    /// Row in the slab.
    pub row: u32,
    /// The weight's bits.
    pub weight: u32,
}

impl Exceptions {
    /// Returns the exceptions that start with their [`ExceptionEnds`] at `from`.
    #[inline(always)]
    pub fn new(from: *const u8) -> Self {
        Self { ends: from.cast() }
    }

    /// Returns the number of the exceptions of the first classes of rows, up to class `class`.
    #[inline(always)]
    pub fn end(self, class: u32) -> u32 {
        // SAFETY: there is a number for each class.
        unsafe { load_generic_u16(self.ends.wrapping_add(class as usize)) }
    }

    /// Returns the number of all.
    #[inline(always)]
    pub fn count(self) -> u32 {
        self.end(ROW_CLASSES as u32 - 1)
    }

    /// Returns exception `number`, which there is.
    #[inline(always)]
    pub fn get(self, number: u32) -> Exception {
        let first = self.ends.cast::<u8>().wrapping_add(size_of::<ExceptionEnds>());
        let at = first.cast::<SlabException>().wrapping_add(number as usize);
        // SAFETY: there are so many.
        let [difference, place] = unsafe { load_generic_2(at.cast()) };
        let (row, weight) = (place >> 8 & 0xFF, place >> 16);
        Exception { difference, place: place & 0xFF, row, weight }
    }
}
