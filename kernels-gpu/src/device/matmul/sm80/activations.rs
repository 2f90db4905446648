//! Activations on their way into B fragments.

use crate::device::matmul::Arguments;
use crate::device::ptx::{lane, opaque_pointer};

/// Where a lane finds its activations. As lane (g, t) it holds columns of x's rows g, g + 8 and so on, of
/// `B` times 8 rows.
pub struct Activations<const B: usize> {
    /// Of x; in a register where there is one left, since loading a parameter takes time.
    start: *const u16,
    /// Elements from x to the lane's first column of its rows. Rows that x lacks are replaced by its last: what
    /// they give is not stored.
    rows: [u32; B],
}

impl<const B: usize> Activations<B> {
    #[inline(always)]
    pub fn new(arguments: &Arguments) -> Self {
        let g = lane() as u32 / 4;
        let row = |tile: usize| (g + 8 * tile as u32).min(arguments.m - 1);
        Self {
            start: if B > 2 { arguments.x } else { opaque_pointer(arguments.x) },
            rows: core::array::from_fn(|tile| row(tile) * arguments.leading_x + Self::first()),
        }
    }

    /// The lane's first column of two steps.
    #[inline(always)]
    fn first() -> u32 {
        lane() as u32 % 4 * 8
    }

    /// Where the lane's 8 columns are of two steps from column `col` on, a multiple of 32.
    #[inline(always)]
    pub fn at(&self, tile: usize, col: u32) -> *const u32 {
        self.start.wrapping_add((self.rows[tile] + col) as usize).cast()
    }

    /// The registers b0 and b1 of a step in which the lane's four columns start at `col`; columns that
    /// x lacks are 0.
    #[inline(always)]
    pub fn step(&self, arguments: &Arguments, tile: usize, col: u32) -> [u32; 2] {
        let from = arguments.x.wrapping_add((self.rows[tile] - Self::first()) as usize);
        let element = |col: u32| {
            if col < arguments.cols {
                // SAFETY: the column exists.
                u32::from(unsafe { *from.add(col as usize) })
            } else {
                0
            }
        };
        let pair = |col| element(col) | element(col + 1) << 16;
        [pair(col), pair(col + 2)]
    }
}
