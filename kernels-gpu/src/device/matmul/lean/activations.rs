//! Stages of activations, which the warps of a block share.

use super::Arguments;
use crate::device::ptx::{
    arrive, arrive_after_copies, arrive_once, async_copy_16, load_global_u16, store_shared_4,
    thread, threads, wait_barrier, warp_barrier,
};
use fused_rans_layout::{FRAGMENT, MatmulFlags, PANEL_COLUMNS, x_row_bytes, x_stage_columns, x_stages};

/// Columns that a thread copies at once: 16 bytes.
const CHUNK: u32 = 8;

/// The ring of stages. All warps of the block pass through all stages of the block's run, in order: each fills its part of
/// the stage that is `AHEAD` further, waits for the one to read, and says when it has read it.
pub struct XRing<'a, const B: usize> {
    arguments: &'a Arguments,
    /// Address of the first stage.
    stages: u32,
    /// Address of the barriers: for each stage, one that is complete when the stage is full, then for each stage, one
    /// that is complete when all warps have read it.
    barriers: u32,
    /// Stages that were begun.
    begun: u32,
    /// Stages of the run.
    count: u32,
    /// First column of the stage to fill next, and stages that were filled.
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
    pub const PANELS: u32 = Self::COLUMNS / PANEL_COLUMNS as u32;

    /// Returns the ring for a run of `count` stages from column `col` on. Nothing is filled yet.
    #[inline(always)]
    pub fn new(arguments: &'a Arguments, stages: u32, barriers: u32, col: u32, count: u32) -> Self {
        Self { arguments, stages, barriers, begun: 0, count, col, filled: 0 }
    }

    /// Returns the arrivals that its barriers wait for, in order: (address, arrivals).
    #[inline(always)]
    pub fn barriers(barriers: u32, warps: u32) -> [(u32, u32); 2] {
        [(barriers, 32 * warps), (barriers + 8 * Self::STAGES, warps)]
    }

    /// Number of barriers of each kind.
    pub const BARRIERS: u32 = Self::STAGES;

    /// Fills the first stages.
    #[inline(always)]
    pub fn start(&mut self) {
        while self.filled < Self::AHEAD && self.filled < self.count {
            self.fill();
        }
    }

    /// Waits for the next stage to read, and returns its address; fills one ahead before.
    #[inline(always)]
    pub fn begin(&mut self) -> u32 {
        if self.filled < self.count {
            self.fill();
        }
        let (stage, turn) = (self.begun % Self::STAGES, self.begun / Self::STAGES);
        // SAFETY: a barrier.
        unsafe { wait_barrier(self.barriers + 8 * stage, turn % 2) };
        self.stages + stage * Self::STAGE_BYTES
    }

    /// Says that the warp has read the stage that it began last.
    #[inline(always)]
    pub fn end(&mut self) {
        let stage = self.begun % Self::STAGES;
        self.begun += 1;
        // No lane reads it any more.
        warp_barrier();
        // SAFETY: a barrier.
        unsafe { arrive_once(self.barriers + 8 * (Self::STAGES + stage)) };
    }

    /// Fills the thread's part of the next stage.
    #[inline(always)]
    fn fill(&mut self) {
        let (stage, turn) = (self.filled % Self::STAGES, self.filled / Self::STAGES);
        let full = self.barriers + 8 * stage;
        if turn > 0 {
            // SAFETY: a barrier; its phase `turn - 1` is complete when all warps have read what was there.
            unsafe { wait_barrier(full + 8 * Self::STAGES, (turn - 1) % 2) };
        }
        let stage = self.stages + stage * Self::STAGE_BYTES;
        let cols = self.arguments.cols;
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
        self.filled += 1;
        self.col += Self::COLUMNS;
        if self.col >= cols {
            self.col = 0;
        }
    }

    /// Starts the copies of the thread's chunks.
    #[inline(always)]
    fn copy(&self, stage: u32, cols: u32) {
        self.for_each_chunk(
            #[inline(always)]
            |row, chunk| {
                let col = self.col + CHUNK * chunk;
                if row < self.arguments.x_rows && col < cols {
                    let to = stage + row * Self::ROW_BYTES + 2 * CHUNK * chunk;
                    let at = row as usize * self.arguments.x_row_stride as usize + col as usize;
                    // SAFETY: row and columns of x exist; its rows start at multiples of 16 bytes.
                    unsafe { async_copy_16(to, self.arguments.x.wrapping_add(at).cast()) };
                }
            },
        );
    }

    /// Copies the thread's chunks, for rows at any address, with zeros beyond the last column. In a last step without a
    /// partner, a lane has four columns in place of eight: its chunk has these, and four zeros.
    #[inline(always)]
    fn copy_slowly(&self, stage: u32, cols: u32) {
        let single = cols / FRAGMENT as u32 * FRAGMENT as u32;
        let steps = cols.div_ceil(FRAGMENT as u32) % (fused_rans_layout::TILE / FRAGMENT) as u32;
        // First column of the step without a partner, if there is one.
        let single = if steps % 2 == 1 {
            if cols % FRAGMENT as u32 == 0 { single - FRAGMENT as u32 } else { single }
        } else {
            u32::MAX
        };
        self.for_each_chunk(
            #[inline(always)]
            |row, chunk| {
            if row >= self.arguments.x_rows {
                return;
            }
            let col = self.col + CHUNK * chunk;
            let alone = col >= single;
            let first = if alone { single + (col - single) / 2 } else { col };
            let mut words = [0; 4];
            let mut i = 0;
            while i < CHUNK {
                let col = first + i;
                if col < cols && !(alone && i >= CHUNK / 2) {
                    let at = row as usize * self.arguments.x_row_stride as usize + col as usize;
                    // SAFETY: row and column of x exist.
                    let bits = unsafe { load_global_u16(self.arguments.x.wrapping_add(at)) };
                    words[i as usize / 2] |= bits << (16 * (i % 2));
                }
                i += 1;
            }
            // SAFETY: the chunk's place in the stage, which nobody reads.
            unsafe { store_shared_4(stage + row * Self::ROW_BYTES + 2 * CHUNK * chunk, words) };
        });
    }

    /// Calls `f` with (row of x, chunk of the stage's columns) of each of the thread's chunks.
    #[inline(always)]
    fn for_each_chunk(&self, f: impl Fn(u32, u32)) {
        let chunks = Self::COLUMNS / CHUNK;
        let mut item = thread() as u32;
        while item < 8 * B as u32 * chunks {
            f(item / chunks, item % chunks);
            item += threads();
        }
    }
}
