//! How the lean kernels divide a layer among the warps of a grid.

use crate::{SLAB_ROWS, TILE, TileGrid, WIDE_ROWS};

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
    pub each: u32,
    /// Number of runs that have one slab more.
    pub longer: u32,
}

/// A place in the sequence of slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabPlace {
    /// Row block.
    pub row_block: u32,
    /// Column of tiles.
    pub col: u32,
    /// Row of the row block.
    pub row: u32,
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
    /// 32 bits, or if a run would have less than a column of a row block: then a row of slabs would have gaps among the
    /// blocks that share it.
    #[must_use]
    pub fn new(grid: TileGrid, blocks: u32, warps: u32) -> Option<Self> {
        let rows = u32::try_from(grid.rows).ok()?;
        let cols = u32::try_from(grid.cols).ok()?;
        Self::divide(rows.div_ceil(SLAB_ROWS as u32), cols.div_ceil(TILE as u32), blocks, warps)
    }

    /// Returns the partition for the wide kernels, whose blocks take units: [`WIDE_ROWS`] rows times a column of tiles. A unit
    /// counts as a slab here, in row blocks of one row. Returns `None` if units cannot be counted in 32 bits, or if a block
    /// would have none.
    #[must_use]
    pub fn of_units(grid: TileGrid, blocks: u32) -> Option<Self> {
        let rows = u32::try_from(grid.rows).ok()?;
        let cols = u32::try_from(grid.cols).ok()?;
        Self::divide(rows.div_ceil(WIDE_ROWS as u32), cols.div_ceil(TILE as u32), blocks, 1)
    }

    fn divide(slab_rows: u32, across: u32, blocks: u32, warps: u32) -> Option<Self> {
        // So many that the number of a slab that a row block would have beyond the last one does not wrap either.
        let slabs = slab_rows.checked_mul(across).filter(|&slabs| slabs < u32::MAX / 2)?;
        let each = slabs.checked_div(blocks)?;
        let partition = Self { across, slab_rows, warps, each, longer: slabs - each * blocks };
        (1..=slab_rows).contains(&warps).then_some(partition).filter(|_| each >= warps)
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

    /// Returns the place of a slab, or the one after the last.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, slab: u32) -> SlabPlace {
        let row_block = slab / (self.warps * self.across);
        let height =
            if row_block * self.warps < self.slab_rows { self.height(row_block) } else { 1 };
        let rest = slab - self.first(row_block);
        let col = rest / height;
        SlabPlace { row_block, col, row: rest - col * height }
    }

    /// Returns the number of the slab in row `row` of a row block and column of tiles `col`.
    #[inline(always)]
    #[must_use]
    pub const fn slab(self, row_block: u32, row: u32, col: u32) -> u32 {
        self.first(row_block) + col * self.height(row_block) + row
    }

    /// Returns the columns of tiles, from the first to before the last, in which a run has slabs of row `row` of a row block
    /// that it reaches. `start` and `end` are the places of the run's ends.
    #[inline(always)]
    #[must_use]
    pub const fn columns(
        self,
        start: SlabPlace,
        end: SlabPlace,
        row_block: u32,
        row: u32,
    ) -> (u32, u32) {
        let first =
            if row_block == start.row_block { start.col + (row < start.row) as u32 } else { 0 };
        let last =
            if row_block == end.row_block { end.col + (row < end.row) as u32 } else { self.across };
        (first, last)
    }

    /// Returns the first and the last block that share a row of a row block; all blocks between them do, too.
    #[inline(always)]
    #[must_use]
    pub const fn owners(self, row_block: u32, row: u32) -> (u32, u32) {
        let first = self.slab(row_block, row, 0);
        let last = first + (self.across - 1) * self.height(row_block);
        (self.owner(first), self.owner(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn every_slab_has_one_warp_and_runs_are_even() {
        let mut tried = 0;
        for (rows, cols) in
            [(1, 1), (33, 257), (512, 512), (1000, 3000), (4096, 4096), (96, 20_000)]
        {
            for (blocks, warps) in [(1, 1), (3, 16), (132, 16), (7, 5), (132, 1), (128, 16), (2, 2)]
            {
                let Some(partition) = LeanPartition::new(TileGrid { rows, cols }, blocks, warps)
                else {
                    continue;
                };
                tried += 1;
                check(partition, blocks);
            }
        }
        assert!(tried > 15, "{tried}");
    }

    fn check(partition: LeanPartition, blocks: u32) {
        let LeanPartition { slab_rows, across, warps, .. } = partition;
        let slabs = slab_rows * across;
        let mut owners = vec![0u32; slabs as usize];
        let mut of_row = vec![Vec::new(); slab_rows as usize];
        for block in 0..blocks {
            let run = partition.run(block);
            assert!(run.end - run.start <= slabs.div_ceil(blocks));
            let (start, end) = (partition.place(run.start), partition.place(run.end));
            for row_block in start.row_block..slab_rows.div_ceil(warps) {
                if partition.first(row_block) >= run.end {
                    break;
                }
                for row in 0..partition.height(row_block) {
                    let (from, to) = partition.columns(start, end, row_block, row);
                    for col in from..to {
                        let slab = partition.slab(row_block, row, col);
                        assert_eq!(partition.place(slab), SlabPlace { row_block, col, row });
                        assert_eq!(partition.owner(slab), block);
                        owners[slab as usize] += 1;
                    }
                    if from < to {
                        of_row[(row_block * warps + row) as usize].push(block);
                    }
                }
            }
        }
        assert!(owners.iter().all(|&count| count == 1));
        for (row, of_row) in of_row.iter().enumerate() {
            let (first, last) = partition.owners(row as u32 / warps, row as u32 % warps);
            assert!(of_row.iter().copied().eq(first..=last), "{partition:?}, row {row}");
        }
    }
}
