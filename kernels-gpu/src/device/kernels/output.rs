//! Stores decoded weights to device memory.

use crate::device::ptx::{
    lane, load_global_u8, store_global, store_global_2, store_global_4, store_global_u8,
    store_global_u16, thread,
};
use crate::portable::twins::byte_permute;
use fused_rans_layout::{
    Dtype, FRAGMENT, SLAB_ROWS, SLAB_STRIPS, TILE, TILE_THREADS, TileGrid, TileShape, matrix_column,
};

/// A tile of the row-major matrix.
pub struct Output {
    /// Address of the tile's first weight.
    out: *mut u8,
    dtype: Dtype,
    cols: usize,
    shape: TileShape,
}

impl Output {
    /// Returns tile number `tile` of the matrix at `out`.
    #[inline(always)]
    pub fn new(dtype: Dtype, out: *mut u8, grid: TileGrid, tile: usize) -> Self {
        let (row, col) = grid.origin(tile);
        let out = out.wrapping_add((row * grid.cols + col) * dtype.byte_len());
        Self { out, dtype, cols: grid.cols, shape: grid.shape(tile) }
    }

    /// Returns slab number `slab`, for this lane to store to.
    #[inline(always)]
    pub fn slab(&self, slab: usize) -> SlabOutput<'_> {
        let first_row = slab * SLAB_ROWS;
        let whole = self.cols.is_multiple_of(8)
            && self.shape.cols == TILE
            && self.shape.rows >= first_row + SLAB_ROWS;
        SlabOutput { out: self, row: first_row + lane() / 4, whole, held: [[0; 4]; SLAB_STRIPS] }
    }

    /// Returns the steps of the tile.
    #[cfg(feature = "lean")]
    #[inline(always)]
    pub fn steps(&self) -> usize {
        self.shape.steps()
    }

    /// Stores one weight, if it lies in the tile.
    #[inline(always)]
    pub fn store_weight(&self, row: usize, col: usize, weight: u32) {
        if row < self.shape.rows && col < self.shape.cols {
            // SAFETY: inside the matrix, whose buffer is aligned.
            unsafe { store_weight(self.dtype, self.address(row, col), weight) };
        }
    }

    /// Copies the tile from `weights`, row by row.
    ///
    /// # Safety
    /// `weights` has as many as the tile. All threads of the block are here.
    #[inline(always)]
    pub unsafe fn copy(&self, weights: *const u8) {
        let row_bytes = self.shape.cols * self.dtype.byte_len();
        let mut at = thread();
        while at < self.shape.rows * row_bytes {
            let (row, byte) = (at as u32 / row_bytes as u32, at as u32 % row_bytes as u32);
            // SAFETY: `at` is below the tile's size, so row and byte lie in it.
            unsafe {
                let weight = load_global_u8(weights.wrapping_add(at));
                store_global_u8(self.address(row as usize, 0).wrapping_add(byte as usize), weight);
            }
            at += TILE_THREADS;
        }
    }

    #[inline(always)]
    fn address(&self, row: usize, col: usize) -> *mut u8 {
        self.out.wrapping_add((row * self.cols + col) * self.dtype.byte_len())
    }
}

/// A slab of the row-major matrix, for one lane, which holds two rows of a fragment: four neighboring columns of each, or
/// eight in two steps.
pub struct SlabOutput<'a> {
    out: &'a Output,
    /// The lane's first row in the tile.
    row: usize,
    /// Whether all weights of a whole slab lie inside the matrix and can be stored eight at a time.
    pub whole: bool,
    /// The registers of the even step, until those of the odd step are decoded.
    held: [[u32; 4]; SLAB_STRIPS],
}

impl SlabOutput<'_> {
    /// Stores the lane's registers of the fragment of `strip` and `step` of a whole slab. Steps must come in order.
    #[inline(always)]
    pub fn store_whole(&mut self, strip: usize, step: usize, registers: [u32; 4]) {
        if step % 2 == 0 {
            self.held[strip] = registers;
            return;
        }
        let col = FRAGMENT * (step - 1) + 8 * (lane() % 4);
        let even = self.held[strip];
        for row in 0..2 {
            let [a, b, c, d] = [even[row], even[row + 2], registers[row], registers[row + 2]];
            let to = self.out.address(self.row + FRAGMENT * strip + 8 * row, col);
            // SAFETY: inside the matrix, and aligned: the host has checked the buffer, and row length and column are
            // multiples of eight weights.
            unsafe {
                match self.out.dtype.byte_len() {
                    2 => store_global_4(to, [a, b, c, d]),
                    _ => store_global_2(to, [bytes(a, b), bytes(c, d)]),
                }
            }
        }
    }

    /// Stores the lane's registers of the fragment of `strip` and `step`, as far as they lie in the tile.
    #[inline(always)]
    pub fn store(&self, strip: usize, step: usize, registers: [u32; 4]) {
        let shape = self.out.shape;
        let col = matrix_column(shape.steps(), step, 2 * (lane() % 4));
        for row in 0..2 {
            let (a, b) = (registers[row], registers[row + 2]);
            let row = self.row + FRAGMENT * strip + 8 * row;
            if row >= shape.rows {
                continue;
            }
            let to = self.out.address(row, col);
            // If the row length is a multiple of four, four weights lie inside the matrix or outside, and are aligned.
            if self.out.cols.is_multiple_of(4) {
                if col < shape.cols {
                    // SAFETY: inside the matrix, and aligned, since its buffer is.
                    unsafe {
                        match self.out.dtype.byte_len() {
                            2 => store_global_2(to, [a, b]),
                            _ => store_global(to.cast(), bytes(a, b)),
                        }
                    }
                }
                continue;
            }
            for (i, weight) in [a, a >> 16, b, b >> 16].into_iter().enumerate() {
                self.out.store_weight(row, col + i, weight);
            }
        }
    }
}

/// Packs the low bytes of the halves of two registers.
#[inline(always)]
fn bytes(a: u32, b: u32) -> u32 {
    byte_permute(a, b, 0x6420)
}

/// Stores one weight.
///
/// # Safety
/// `to` has room for a weight, and is aligned to it.
#[inline(always)]
unsafe fn store_weight(dtype: Dtype, to: *mut u8, weight: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        match dtype.byte_len() {
            2 => store_global_u16(to.cast(), weight),
            _ => store_global_u8(to, weight),
        }
    }
}
