//! Decoded weights on their way to device memory.

use super::instructions::{lane, shuffle_xor, store_global_2, thread};
use crate::ptx::byte_permute;
use fused_rans_layout::{Dtype, FRAGMENT, SLAB_STRIPS, TILE, TILE_THREADS, TileGrid, TileShape};

/// A tile's place in the row-major matrix.
pub struct Output {
    /// The tile's first weight.
    out: *mut u8,
    dtype: Dtype,
    cols: usize,
    shape: TileShape,
}

impl Output {
    /// Tile number `tile` of the matrix at `out`.
    #[inline(always)]
    pub fn new(dtype: Dtype, out: *mut u8, grid: TileGrid, tile: usize) -> Self {
        let (row, col) = grid.origin(tile);
        let out = out.wrapping_add((row * grid.cols + col) * dtype.bytes());
        Self { out, dtype, cols: grid.cols, shape: grid.shape(tile) }
    }

    /// The rows of the slab that starts at `first_row`, as this lane stores them.
    #[inline(always)]
    pub fn slab(&self, first_row: usize) -> SlabOutput {
        let (row, t) = (first_row + lane() / 4, lane() % 4);
        let col = if !self.in_fours() {
            2 * t
        } else if t % 2 == 1 {
            2 * t + 6
        } else {
            2 * t
        };
        SlabOutput {
            out: self.address(row, col),
            eight_rows: 8 * self.cols * self.dtype.bytes(),
            rows: self.shape.rows as i32 - row as i32,
            cols: self.shape.cols as i32 - col as i32,
            dtype: self.dtype,
            in_fours: self.in_fours(),
            whole: self.in_fours()
                && self.shape.cols == TILE
                && self.shape.rows >= first_row + SLAB_STRIPS * FRAGMENT,
        }
    }

    /// Whether rows are a multiple of four long, so that four weights at a multiple of four lie inside
    /// the matrix or outside, and are aligned.
    #[inline(always)]
    fn in_fours(&self) -> bool {
        self.cols.is_multiple_of(4)
    }

    /// Stores one weight, which must lie in the tile.
    #[inline(always)]
    pub fn store_weight(&self, row: usize, col: usize, weight: u32) {
        // SAFETY: inside the matrix, whose buffer is aligned.
        unsafe { store_weight(self.dtype, self.address(row, col), weight) };
    }

    /// Copies the tile from `weights`, row by row.
    ///
    /// # Safety
    /// The tile's weights are there. All threads of the block are here.
    #[inline(always)]
    pub unsafe fn copy(&self, weights: *const u8) {
        let row_bytes = self.shape.cols * self.dtype.bytes();
        let mut at = thread();
        while at < self.shape.rows * row_bytes {
            let (row, byte) = (at as u32 / row_bytes as u32, at as u32 % row_bytes as u32);
            // SAFETY: `at` is below the tile's size, so row and byte lie in it.
            unsafe { *self.address(row as usize, 0).add(byte as usize) = *weights.add(at) };
            at += TILE_THREADS;
        }
    }

    #[inline(always)]
    fn address(&self, row: usize, col: usize) -> *mut u8 {
        self.out.wrapping_add((row * self.cols + col) * self.dtype.bytes())
    }
}

/// A slab's place in the matrix, for one lane.
///
/// A lane's registers hold columns 2t, 2t + 1 and 2t + 8, 2t + 9 of a fragment. Where rows allow it,
/// neighbouring lanes exchange two of them, and each stores four columns at once: the even one
/// 2t to 2t + 3, the odd one 2t + 6 to 2t + 9.
pub struct SlabOutput {
    /// Where the lane's first column of row g of fragment 0 stands.
    out: *mut u8,
    eight_rows: usize,
    /// Rows and columns of the tile from there on.
    rows: i32,
    cols: i32,
    dtype: Dtype,
    in_fours: bool,
    /// Whether all weights of a whole slab lie inside the matrix and can be stored by fours.
    pub whole: bool,
}

impl SlabOutput {
    /// As [`SlabOutput::store`], where the slab is whole.
    #[inline(always)]
    pub fn store_whole(&self, strip: usize, step: usize, registers: [u32; 4]) {
        let [a, b, c, d] = registers;
        let to = self.out.wrapping_add(2 * strip * self.eight_rows);
        let to = to.wrapping_add(FRAGMENT * step * self.dtype.bytes());
        self.store_four(to, true, a, c);
        self.store_four(to.wrapping_add(self.eight_rows), true, b, d);
    }

    /// Stores the lane's registers of the fragment of `strip` and `step`. All lanes of the warp must
    /// come here together.
    #[inline(always)]
    pub fn store(&self, strip: usize, step: usize, registers: [u32; 4]) {
        let [a, b, c, d] = registers;
        let col = (FRAGMENT * step) as i32;
        let to = self.out.wrapping_add(2 * strip * self.eight_rows);
        let to = to.wrapping_add(FRAGMENT * step * self.dtype.bytes());
        let rows = self.rows - (FRAGMENT * strip) as i32;
        let below = to.wrapping_add(self.eight_rows);
        if self.in_fours {
            let inside = col < self.cols;
            self.store_four(to, inside & (rows > 0), a, c);
            self.store_four(below, inside & (rows > 8), b, d);
        } else {
            self.store_pairs(to, self.cols - col, rows > 0, a, c);
            self.store_pairs(below, self.cols - col, rows > 8, b, d);
        }
    }

    #[inline(always)]
    fn store_four(&self, to: *mut u8, inside: bool, low: u32, high: u32) {
        // Masks instead of branches, which a compiler might draw the exchange into: all lanes must
        // come to it together.
        let odd = 0u32.wrapping_sub(lane() as u32 & 1);
        let choose = |odd_lanes: u32, even_lanes: u32| odd_lanes & odd | even_lanes & !odd;
        let received = shuffle_xor::<1>(choose(low, high));
        let (first, second) = (choose(received, low), choose(high, received));
        if inside {
            // SAFETY: inside the matrix, and aligned: the host has seen to the buffer, row and column
            // are multiples of four weights.
            unsafe {
                match self.dtype.bytes() {
                    2 => store_global_2(to, first, second),
                    _ => *to.cast::<u32>() = byte_permute(first, second, 0x6420),
                }
            }
        }
    }

    /// Stores the weights of two registers one by one; `cols` are left in the row.
    #[inline(always)]
    fn store_pairs(&self, to: *mut u8, cols: i32, inside: bool, low: u32, high: u32) {
        for (col, weight) in [(0, low), (1, low >> 16), (8, high), (9, high >> 16)] {
            if inside && col < cols {
                // SAFETY: inside the matrix, whose buffer is aligned.
                unsafe {
                    store_weight(self.dtype, to.add(col as usize * self.dtype.bytes()), weight);
                }
            }
        }
    }
}

/// # Safety
/// `to` has room for a weight, and is aligned to it.
#[inline(always)]
unsafe fn store_weight(dtype: Dtype, to: *mut u8, weight: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        match dtype.bytes() {
            2 => *to.cast::<u16>() = weight as u16,
            _ => *to = weight as u8,
        }
    }
}
