//! How the lean kernels divide a layer among the warps of a grid.

use crate::{SLAB_ROWS, TILE, TileGrid};

/// A layer as a sequence of slabs, divided into equal runs, one for each block.
///
/// A row block is `warps` rows of slabs, the last one perhaps fewer. Slabs are numbered along row blocks: column of
/// tiles by column of tiles, and in each from top to bottom. A warp of a block takes the slabs of one row of the row
/// block, so its sums stay in registers, and all warps need the same activations at about the same time. A run may
/// start and end anywhere in a column, so that no block has more than one slab more than any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeanPartition {
    /// Columns of tiles.
    pub across: u32,
    /// Rows of slabs.
    pub slab_rows: u32,
    /// Rows of slabs of a row block: the warps of a block.
    pub warps: u32,
    /// Slabs of a run; the first `longer` runs have one more.
    each: u32,
    longer: u32,
}

/// A run of slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabRun {
    /// The first slab.
    pub start: u32,
    /// The slab after the last.
    pub end: u32,
}

impl LeanPartition {
    /// Returns the partition of `grid` among `blocks` blocks of `warps` warps. Returns `None` if slabs cannot be counted in
    /// 32 bits, or if there are no warps.
    #[must_use]
    pub fn new(grid: TileGrid, blocks: u32, warps: u32) -> Option<Self> {
        let rows = u32::try_from(grid.rows).ok()?;
        let cols = u32::try_from(grid.cols).ok()?;
        let slabs = rows.div_ceil(SLAB_ROWS as u32).checked_mul(cols.div_ceil(TILE as u32))?;
        // Products of a row block's slabs and a block's number must not wrap either.
        let possible = slabs < u32::MAX / 2 && blocks.checked_mul(warps)? > 0;
        possible.then(|| Self::divide(rows, cols, blocks, warps))
    }

    /// Returns the same partition as [`LeanPartition::new`], without its checks: for the kernels.
    #[inline(always)]
    #[must_use]
    pub const fn divide(rows: u32, cols: u32, blocks: u32, warps: u32) -> Self {
        let (slab_rows, across) = (rows.div_ceil(SLAB_ROWS as u32), cols.div_ceil(TILE as u32));
        let slabs = slab_rows * across;
        let each = slabs / blocks;
        Self { across, slab_rows, warps, each, longer: slabs - each * blocks }
    }

    /// Returns the slabs of a block.
    #[inline(always)]
    #[must_use]
    pub const fn run(self, block: u32) -> SlabRun {
        let before = if block < self.longer { block } else { self.longer };
        let start = block * self.each + before;
        SlabRun { start, end: start + self.each + (block < self.longer) as u32 }
    }

    /// Returns the block that has slab `slab`.
    #[inline(always)]
    #[must_use]
    pub const fn owner(self, slab: u32) -> u32 {
        let in_longer = self.longer * (self.each + 1);
        if slab < in_longer {
            slab / (self.each + 1)
        } else {
            self.longer + (slab - in_longer) / self.each
        }
    }

    /// Returns the number of the first slab of row block `row_block`.
    #[inline(always)]
    #[must_use]
    pub const fn first(self, row_block: u32) -> u32 {
        row_block * self.warps * self.across
    }

    /// Returns the rows of slabs of row block `row_block`.
    #[inline(always)]
    #[must_use]
    pub const fn height(self, row_block: u32) -> u32 {
        let rest = self.slab_rows - row_block * self.warps;
        if rest < self.warps { rest } else { self.warps }
    }

    /// Returns (row block, column of tiles) of a slab.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, slab: u32) -> (u32, u32) {
        let row_block = slab / (self.warps * self.across);
        let rest = slab - self.first(row_block);
        (row_block, rest / self.height(row_block))
    }

    /// Returns the number of the slab in row `row` of a row block and column of tiles `col`.
    #[inline(always)]
    #[must_use]
    pub const fn slab(self, row_block: u32, row: u32, col: u32) -> u32 {
        self.first(row_block) + col * self.height(row_block) + row
    }

    /// Returns the columns of tiles, from the first to before the last, in which `run` has slabs of row `row` of a row block.
    #[inline(always)]
    #[must_use]
    pub const fn columns(self, run: SlabRun, row_block: u32, row: u32) -> (u32, u32) {
        let (height, first) = (self.height(row_block), self.slab(row_block, row, 0));
        // The first column whose slab is not before `limit`.
        const fn column(limit: u32, first: u32, height: u32, across: u32) -> u32 {
            let col = limit.saturating_sub(first).div_ceil(height);
            if col < across { col } else { across }
        }
        let start = column(run.start, first, height, self.across);
        (start, column(run.end, first, height, self.across))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec;

    #[test]
    fn every_slab_has_one_warp_and_runs_are_even() {
        for (rows, cols) in
            [(1, 1), (33, 257), (512, 512), (1000, 3000), (4096, 4096), (96, 20_000)]
        {
            for (blocks, warps) in [(1, 1), (3, 16), (132, 16), (7, 5), (132, 1)] {
                let partition =
                    LeanPartition::new(TileGrid { rows, cols }, blocks, warps).expect("small");
                let slabs = partition.slab_rows * partition.across;
                let mut owners = vec![0u32; slabs as usize];
                let row_blocks = partition.slab_rows.div_ceil(warps);
                for block in 0..blocks {
                    let run = partition.run(block);
                    assert!(run.end - run.start <= slabs.div_ceil(blocks));
                    for row_block in 0..row_blocks {
                        for row in 0..partition.height(row_block) {
                            let (from, to) = partition.columns(run, row_block, row);
                            for col in from..to {
                                let slab = partition.slab(row_block, row, col);
                                assert_eq!(partition.place(slab), (row_block, col));
                                assert_eq!(partition.owner(slab), block);
                                owners[slab as usize] += 1;
                            }
                        }
                    }
                }
                assert!(owners.iter().all(|&count| count == 1));
            }
        }
    }
}
