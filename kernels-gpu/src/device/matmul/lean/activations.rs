//! Stages of activations, which the warps of a block share.

use super::Arguments;
use crate::device::ptx::{
    arrive, arrive_after_copies, arrive_once, async_copy_16, lane, load_activation, reread_warps,
    store_shared_4, wait_barrier, warp_barrier,
};
use fused_rans_layout::{
    FRAGMENT, LANES, MatmulFlags, PANEL_COLUMNS, TILE, x_row_bytes, x_stage_columns, x_stages,
};

/// Columns that a lane copies at once: 16 bytes.
const CHUNK: u32 = 8;

/// The ring of stages. All warps of the block pass through all stages of the block's run, in order. They fill them in turns:
/// each warp a whole stage, `AHEAD` stages before the one that it is to read.
pub struct XRing<'a, const B: usize> {
    arguments: &'a Arguments,
    /// Address of the first stage.
    stages: u32,
    /// Address of the barriers: for each stage, one that is complete when the stage is full, then for each stage, one
    /// that is complete when all warps have read it.
    barriers: u32,
    /// Stages that were begun.
    begun: u32,
    /// Stages of the run that are not filled yet, by any warp, and before how many of them the warp's turn comes.
    left: u32,
    turn: u32,
    /// First column of the stage to fill next, and its number.
    col: u32,
    filled: u32,
}

impl<'a, const B: usize> XRing<'a, B> {
    const STAGES: u32 = x_stages(B) as u32;
    const COLUMNS: u32 = x_stage_columns(B) as u32;
    const ROW_BYTES: u32 = x_row_bytes(B) as u32;
    const STAGE_BYTES: u32 = 8 * B as u32 * Self::ROW_BYTES;
    /// How many stages a stage is filled ahead of its use.
    const AHEAD: u32 = Self::STAGES - 2;
    /// Panels of a stage.
    pub const PANELS: usize = Self::COLUMNS as usize / PANEL_COLUMNS;
    /// Number of barriers of each kind.
    pub const BARRIERS: u32 = Self::STAGES;

    /// Returns the ring of warp number `warp` for a run of `count` stages from column `col` on. Nothing is filled yet.
    #[inline(always)]
    pub fn new(
        arguments: &'a Arguments,
        (stages, barriers): (u32, u32),
        warp: u32,
        col: u32,
        count: u32,
    ) -> Self {
        Self { arguments, stages, barriers, begun: 0, left: count, turn: warp, col, filled: 0 }
    }

    /// Returns the arrivals that its barriers wait for, in order: (address, arrivals).
    #[inline(always)]
    pub fn barriers(barriers: u32, warps: u32) -> [(u32, u32); 2] {
        [(barriers, LANES as u32), (barriers + 8 * Self::STAGES, warps)]
    }

    /// Fills the first stages.
    #[inline(always)]
    pub fn start(&mut self) {
        for _ in 0..Self::AHEAD {
            self.fill();
        }
    }

    /// Waits for the next stage to read, and returns its address; fills one ahead before if it is the warp's turn.
    #[inline(always)]
    pub fn begin(&mut self) -> u32 {
        self.fill();
        let (stage, turn) = (self.begun % Self::STAGES, self.begun / Self::STAGES);
        // SAFETY: a barrier.
        unsafe { wait_barrier(self.barriers + 8 * stage, turn % 2) };
        self.stages + stage * Self::STAGE_BYTES
    }

    /// Says that the warp has read the stage that it began last. No lane reads it any more.
    #[inline(always)]
    pub fn end(&mut self) {
        let stage = self.begun % Self::STAGES;
        self.begun += 1;
        warp_barrier();
        // SAFETY: a barrier.
        unsafe { arrive_once(self.barriers + 8 * (Self::STAGES + stage)) };
    }

    /// Goes on to the next stage to fill, and fills it if it is the warp's turn.
    #[inline(always)]
    fn fill(&mut self) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        if self.turn == 0 {
            self.turn = reread_warps();
            self.fill_stage();
        }
        self.turn -= 1;
        self.filled += 1;
        self.col += Self::COLUMNS;
        if self.col >= self.arguments.layer.cols {
            self.col = 0;
        }
    }

    #[inline(always)]
    fn fill_stage(&self) {
        let (stage, turn) = (self.filled % Self::STAGES, self.filled / Self::STAGES);
        let full = self.barriers + 8 * stage;
        if turn > 0 {
            // SAFETY: a barrier; its phase `turn - 1` is complete when all warps have read what was there.
            unsafe { wait_barrier(full + 8 * Self::STAGES, (turn - 1) % 2) };
        }
        let stage = self.stages + stage * Self::STAGE_BYTES;
        let cols = self.arguments.layer.cols;
        // Whole panels are copied as they are.
        let aligned = self.arguments.flags.contains(MatmulFlags::ALIGNED_X);
        if aligned && (self.col + Self::COLUMNS <= cols || cols % PANEL_COLUMNS as u32 == 0) {
            self.copy(stage, cols);
            // SAFETY: a barrier.
            unsafe { arrive_after_copies(full) };
        } else {
            self.copy_slowly(stage, cols);
            // SAFETY: a barrier.
            unsafe { arrive(full) };
        }
    }

    /// Starts the copies of the lane's chunks.
    #[inline(always)]
    fn copy(&self, stage: u32, cols: u32) {
        self.for_each_chunk(
            #[inline(always)]
            |row, chunk| {
                let col = self.col + CHUNK * chunk;
                if col < cols {
                    let to = stage + row * Self::ROW_BYTES + 2 * CHUNK * chunk;
                    let at = row as usize * self.arguments.x_row_stride as usize + col as usize;
                    // SAFETY: row and columns of x exist; its rows start at multiples of 16 bytes.
                    unsafe { async_copy_16(to, self.arguments.x.wrapping_add(at).cast()) };
                }
            },
        );
    }

    /// Copies the lane's chunks, for rows at any address, with zeros beyond the last column. In a last step without a
    /// partner, a lane of the decoder has four columns in place of eight: its chunk has these, and four zeros.
    #[inline(always)]
    fn copy_slowly(&self, stage: u32, cols: u32) {
        let single = single_step(cols);
        self.for_each_chunk(
            #[inline(always)]
            |row, chunk| {
                let col = self.col + CHUNK * chunk;
                let alone = col >= single;
                let first = if alone { single + (col - single) / 2 } else { col };
                let end = if alone { cols.min(first + CHUNK / 2) } else { cols };
                let mut words = [0; 4];
                for (i, word) in words.iter_mut().enumerate() {
                    let col = first + 2 * i as u32;
                    *word = self.load(row, col, end) | self.load(row, col + 1, end) << 16;
                }
                // SAFETY: the chunk's place in the stage, which nobody reads.
                unsafe {
                    store_shared_4(stage + row * Self::ROW_BYTES + 2 * CHUNK * chunk, words);
                }
            },
        );
    }

    /// Loads an activation; 0 from column `end` on.
    #[inline(always)]
    fn load(&self, row: u32, col: u32, end: u32) -> u32 {
        if col >= end {
            return 0;
        }
        let at = row as usize * self.arguments.x_row_stride as usize + col as usize;
        // SAFETY: row and column of x exist.
        unsafe { load_activation(self.arguments.x.wrapping_add(at)) }
    }

    /// Calls `f` with (row of x, chunk of the stage's columns) of each of the lane's chunks.
    #[inline(always)]
    fn for_each_chunk(&self, f: impl Fn(u32, u32)) {
        let chunks = Self::COLUMNS / CHUNK;
        let mut item = lane() as u32;
        while item < self.arguments.x_rows * chunks {
            f(item / chunks, item % chunks);
            item += LANES as u32;
        }
    }
}

/// Returns the first column of the step that has no partner; one that no layer has if there is no such step.
#[inline(always)]
fn single_step(cols: u32) -> u32 {
    let (fragment, tile) = (FRAGMENT as u32, TILE as u32);
    let last_tile = (cols - 1) / tile * tile;
    let steps = (cols - last_tile).div_ceil(fragment);
    if steps % 2 == 1 { last_tile + (steps - 1) * fragment } else { u32::MAX }
}
