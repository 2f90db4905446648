//! Exceptions of a slab.

use crate::device::ptx::{
    load_global, load_global_u16, load_shared_u16, load_shared_words, reread_lane,
};
use fused_rans_layout::{ExceptionEnds, LANES, ROW_CLASSES, SlabException};

/// Where a slab's exceptions are.
#[derive(Clone, Copy)]
pub enum Exceptions {
    /// At an address in shared memory.
    Shared(u32),
    /// In device memory.
    Global(*const u8),
}

/// An exception.
#[derive(Clone, Copy)]
pub struct Exception {
    /// The weight less the decoded one, as the bits of an F32.
    pub difference: u32,
    /// Index of its column's activations in the tile's, as copied.
    pub place: u32,
    /// Row in the slab.
    pub row: u32,
    /// The weight's bits.
    pub weight: u32,
}

impl Exceptions {
    /// Calls `f` with the exceptions of the rows of class `class`, in their order.
    #[inline(always)]
    pub fn for_each_of_class(self, class: u32, f: impl FnMut(Exception)) {
        let start = if class == 0 { 0 } else { self.end(class - 1) };
        self.for_each(start, self.end(class), 1, f);
    }

    /// Calls `f` with all exceptions, each in one lane of the warp.
    #[inline(always)]
    pub fn for_each_in_one_lane(self, f: impl FnMut(Exception)) {
        self.for_each(reread_lane() as u32, self.count(), LANES as u32, f);
    }

    /// Returns this lane's exception of the first ones, of which each lane has one.
    #[inline(always)]
    pub fn first_of_lane(self) -> Option<Exception> {
        let mut first = None;
        let lane = reread_lane() as u32;
        self.for_each(lane, self.count().min(LANES as u32), LANES as u32, |exception| {
            first = Some(exception)
        });
        first
    }

    /// Calls `f` with all exceptions but the first ones, each in one lane of the warp.
    #[inline(always)]
    pub fn for_each_but_first(self, f: impl FnMut(Exception)) {
        self.for_each((LANES + reread_lane()) as u32, self.count(), LANES as u32, f);
    }

    /// Returns the number of exceptions.
    #[inline(always)]
    pub fn count(self) -> u32 {
        self.end(ROW_CLASSES as u32 - 1)
    }

    /// Returns the number of exceptions of the classes up to class `class`.
    #[inline(always)]
    fn end(self, class: u32) -> u32 {
        // SAFETY: there is a number for each class.
        unsafe {
            match self {
                Self::Shared(ends) => load_shared_u16(ends + 2 * class),
                Self::Global(ends) => {
                    load_global_u16(ends.cast::<u16>().wrapping_add(class as usize))
                }
            }
        }
    }

    /// Calls `f` with every `step`th exception from number `number` to before `end`, which is at most how many there are.
    #[inline(always)]
    fn for_each(self, mut number: u32, end: u32, step: u32, mut f: impl FnMut(Exception)) {
        while number < end {
            let at = size_of::<ExceptionEnds>() as u32 + number * size_of::<SlabException>() as u32;
            // SAFETY: there are so many.
            let [difference, place] = unsafe {
                match self {
                    Self::Shared(ends) => load_shared_words(ends + at),
                    Self::Global(ends) => load_global(ends.wrapping_add(at as usize).cast()),
                }
            };
            let (row, weight) = (place >> 8 & 0xFF, place >> 16);
            f(Exception { difference, place: place & 0xFF, row, weight });
            number += step;
        }
    }
}
