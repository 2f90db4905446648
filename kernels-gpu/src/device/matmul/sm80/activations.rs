//! Addresses of a lane's activations.

use crate::device::matmul::Arguments;
use crate::device::ptx::{lane, load_global_u16, opaque_pointer};

/// Where a lane finds its activations. Lane (g, t) holds columns of rows g, g + 8 and so on of x, a row of each of `B`
/// octets.
pub struct Activations<const B: usize> {
    /// Start of x. In a register where one is free, because loading a parameter takes time.
    start: *const u16,
    /// Elements from the start of x to the lane's first column in its rows. Rows that x lacks are replaced by its last
    /// one: their outputs are not stored.
    rows: [u32; B],
}

impl<const B: usize> Activations<B> {
    #[inline(always)]
    pub fn new(arguments: &Arguments) -> Self {
        let g = lane() as u32 / 4;
        let row = |octet: usize| (g + 8 * octet as u32).min(arguments.x_rows - 1);
        Self {
            start: if B > 2 { arguments.x } else { opaque_pointer(arguments.x) },
            rows: core::array::from_fn(|octet| {
                row(octet) * arguments.x_row_stride + Self::first_column()
            }),
        }
    }

    /// Returns the lane's first column of two steps.
    #[inline(always)]
    fn first_column() -> u32 {
        lane() as u32 % 4 * 8
    }

    /// Returns the address of the lane's 8 columns of two steps that start at column `col`, a multiple of 32.
    #[inline(always)]
    pub fn at(&self, octet: usize, col: u32) -> *const u32 {
        self.start.wrapping_add((self.rows[octet] + col) as usize).cast()
    }

    /// Loads the registers b0 and b1 of a step in which the lane's four columns start at `col`. Columns that x lacks
    /// are 0.
    #[inline(always)]
    pub fn step(&self, arguments: &Arguments, octet: usize, col: u32) -> [u32; 2] {
        let from = arguments.x.wrapping_add((self.rows[octet] - Self::first_column()) as usize);
        let element = |col: u32| {
            if col < arguments.cols {
                // SAFETY: the column exists.
                unsafe { load_global_u16(from.wrapping_add(col as usize)) }
            } else {
                0
            }
        };
        let pair = |col| element(col) | element(col + 1) << 16;
        [pair(col), pair(col + 2)]
    }
}
