//! Stages of activations. Does the same as `XRing` in `kernels-gpu/src/device/matmul/lean/activations.rs`, without the
//! waiting: all stages of a block's run are filled before its warps read them.

use crate::lanes::OfLanes;
use fused_rans::layout::{
    FRAGMENT, PANEL_COLUMNS, PIECE_COLUMNS, TILE, activation_piece_bytes, packed_bytes,
    piece_offset, x_row_bytes, x_stage_columns,
};

/// Columns that a lane copies at once.
const CHUNK: usize = 8;

/// Activations of a launch.
#[derive(Clone, Copy)]
pub struct Activations<'a> {
    /// Bits of the numbers, in BF16 or FP16. Those between the rows are NaNs.
    pub bits: &'a [u16],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    /// Whether the launch says that rows start at multiples of 16 bytes. The CPU does not care; it is another path.
    pub is_aligned: bool,
}

/// Activations of some columns, as they lie in shared memory.
#[derive(Clone)]
pub struct Stage {
    bits: Vec<u16>,
    /// Elements from a row to the next.
    row_stride: usize,
    /// The last row that lanes load. Kernels of one octet do not load rows that x does not have.
    last_row: usize,
}

impl Activations<'_> {
    /// Returns the stages of a run of `count` stages from column `first` on, for kernels that take `octets` octets.
    pub fn stages(&self, octets: usize, first: usize, count: usize) -> Vec<Stage> {
        let columns = x_stage_columns(octets);
        let mut col = first;
        let stages = (0..count).map(|_| {
            let stage = self.stage(octets, col);
            col += columns;
            if col >= self.cols {
                col = 0;
            }
            stage
        });
        stages.collect()
    }

    /// Fills a stage. Leaves NaNs where the device leaves what was there.
    fn stage(&self, octets: usize, first: usize) -> Stage {
        let (columns, row_stride) = (x_stage_columns(octets), x_row_bytes(octets) / 2);
        let mut bits = vec![0xFFFF; 8 * octets * row_stride];
        let in_panels = first + columns <= self.cols || self.cols.is_multiple_of(PANEL_COLUMNS);
        for row in 0..self.rows {
            for chunk in 0..columns / CHUNK {
                let (to, col) = (row * row_stride + CHUNK * chunk, first + CHUNK * chunk);
                let to = &mut bits[to..to + CHUNK];
                if !(self.is_aligned && in_panels) {
                    to.copy_from_slice(&self.careful_chunk(row, col));
                } else if col < self.cols {
                    to.copy_from_slice(&self.bits[row * self.row_stride + col..][..CHUNK]);
                }
            }
        }
        let last_row = if octets == 1 { self.rows - 1 } else { 8 * octets - 1 };
        Stage { bits, row_stride, last_row }
    }

    /// Returns the activations as the wide kernels' packing kernel leaves them: in pieces of 32 columns, whole tiles, with zeros
    /// beyond the last row and column. Does the same as `kernels-gpu/src/device/matmul/wide/pack.rs`.
    pub fn packed(&self, octets: usize) -> Vec<u16> {
        let piece = activation_piece_bytes(octets) as usize / 2;
        let mut packed = vec![0xFFFF; packed_bytes(octets, self.cols.div_ceil(TILE)) / 2];
        for (number, bits) in packed.chunks_exact_mut(piece).enumerate() {
            for (row, chunk) in
                (0..8 * octets).flat_map(|row| (0..4).map(move |chunk| (row, chunk)))
            {
                let to = piece_offset(row as u32, chunk as u32) as usize / 2;
                let col = number * PIECE_COLUMNS + CHUNK * chunk;
                let words = if row < self.rows { self.careful_chunk(row, col) } else { [0; CHUNK] };
                bits[to..to + CHUNK].copy_from_slice(&words);
            }
        }
        packed
    }

    /// Returns the chunk at column `col`, with zeros beyond the last column. In a last step without a partner, a lane of
    /// the decoder has four columns in place of eight: its chunk has these, and four zeros.
    fn careful_chunk(&self, row: usize, col: usize) -> [u16; CHUNK] {
        let (first, end) = match single_step(self.cols) {
            Some(single) if col >= single => {
                let first = single + (col - single) / 2;
                (first, self.cols.min(first + CHUNK / 2))
            }
            _ => (col, self.cols),
        };
        core::array::from_fn(|i| match first + i < end {
            true => self.bits[row * self.row_stride + first + i],
            false => 0,
        })
    }
}

/// Returns the first column of the step that has no partner, if there is one.
fn single_step(cols: usize) -> Option<usize> {
    let last_tile = (cols - 1) / TILE * TILE;
    let steps = (cols - last_tile).div_ceil(FRAGMENT);
    (steps % 2 == 1).then(|| last_tile + (steps - 1) * FRAGMENT)
}

impl Stage {
    /// Returns the activation of row `row` of x at `place` of the stage.
    pub fn get(&self, row: usize, place: usize) -> u16 {
        self.bits[row * self.row_stride + place]
    }

    /// Returns the B fragment of an octet for step `step` of the panel that starts at column `col` of the stage. A lane's
    /// activations of two steps are 16 bytes, which the kernels load at once.
    pub fn fragment(&self, octet: usize, col: usize, step: usize) -> OfLanes<[u32; 2]> {
        core::array::from_fn(|lane| {
            let (g, t) = (lane / 4, lane % 4);
            let row = (8 * octet + g).min(self.last_row);
            let at = row * self.row_stride + col + 8 * t + step / 2 * 32 + step % 2 * 4;
            let word = |at| u32::from(self.bits[at]) | u32::from(self.bits[at + 1]) << 16;
            [word(at), word(at + 2)]
        })
    }
}
