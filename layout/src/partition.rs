//! How a multiplication divides a layer among the warps of a grid.

use crate::{SLABS, TileGrid};

/// A layer's slabs, counted tile by tile, are dealt to the blocks in equal runs; where they do not come out
/// even, the first blocks have one more. In a block, warp w takes slab w % 8 of a tile, and the warps
/// that share a slab number divide the block's tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Tiles beside each other.
    pub across: u32,
    /// Tiles in all.
    pub tiles: u32,
    /// Blocks of the grid.
    pub blocks: u32,
    /// log2 of the warps of a block that share a slab number.
    pub groups_log2: u32,
    /// Slabs that every block has.
    each: u32,
    /// Blocks that have one more.
    longer: u32,
}

/// A run of tiles, of one slab number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first tile.
    pub start: u32,
    /// The tile after the last; not above `start` if there is none.
    pub end: u32,
}

impl Run {
    /// Whether there are no tiles in it.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The tiles that are in both.
    #[inline(always)]
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self {
            start: if self.start > other.start { self.start } else { other.start },
            end: if self.end < other.end { self.end } else { other.end },
        }
    }
}

impl Partition {
    /// The partition of `grid` among `blocks` blocks of 8 << `groups_log2` warps; `None` if it cannot be
    /// counted in 32 bits.
    #[must_use]
    pub fn new(grid: TileGrid, blocks: u32, groups_log2: u32) -> Option<Self> {
        let tiles = u32::try_from(grid.tiles()?).ok()?;
        let across = u32::try_from(grid.across()).ok()?;
        // Also room for what `run` adds.
        tiles.checked_add(1)?.checked_mul(SLABS as u32)?;
        blocks.checked_mul(SLABS as u32)?.checked_shl(groups_log2)?;
        (blocks > 0 && groups_log2 < 3).then(|| Self::divide(across, tiles, blocks, groups_log2))
    }

    /// As [`Partition::new`], for what that has checked.
    #[inline(always)]
    #[must_use]
    pub const fn divide(across: u32, tiles: u32, blocks: u32, groups_log2: u32) -> Self {
        let slabs = tiles * SLABS as u32;
        let each = slabs / blocks;
        Self { across, tiles, blocks, groups_log2, each, longer: slabs - each * blocks }
    }

    /// The first slab of `block`; of the block after the last, the number of slabs.
    #[inline(always)]
    const fn first_slab(self, block: u32) -> u32 {
        block * self.each + if block < self.longer { block } else { self.longer }
    }

    /// The block that has slab number `slab` of tile `tile`.
    #[inline(always)]
    const fn block_of(self, tile: u32, slab: u32) -> u32 {
        let at = tile * SLABS as u32 + slab;
        let in_longer = self.longer * (self.each + 1);
        if at < in_longer {
            at / (self.each + 1)
        } else {
            self.longer + (at - in_longer) / self.each
        }
    }

    /// The tiles of which warp `slab` of group `group` of `block` takes slab number `slab`.
    #[inline(always)]
    #[must_use]
    pub const fn run(self, block: u32, group: u32, slab: u32) -> Run {
        // Tiles whose slab of this number lies in the block's run: those from the first slab on, rounded up.
        let up = SLABS as u32 - 1;
        let first = (self.first_slab(block) + up - slab) / SLABS as u32;
        let count = (self.first_slab(block + 1) + up - slab) / SLABS as u32 - first;
        Run {
            start: first + ((group * count) >> self.groups_log2),
            end: first + (((group + 1) * count) >> self.groups_log2),
        }
    }

    /// Calls `f` with every worker (`(block << groups_log2) + group`) that has tiles of slab number `slab` in
    /// the row of tiles `row`, and with those tiles, in ascending order.
    #[inline(always)]
    pub fn for_each_worker(self, row: u32, slab: u32, mut f: impl FnMut(u32, Run)) {
        let all = self.row(row);
        let mut block = self.block_of(all.start, slab);
        let mut next = all.start;
        while next < all.end && block < self.blocks {
            let mut group = 0;
            while group < 1 << self.groups_log2 {
                let part = self.run(block, group, slab).intersect(all);
                if !part.is_empty() {
                    f((block << self.groups_log2) + group, part);
                    next = part.end;
                }
                group += 1;
            }
            block += 1;
        }
    }

    /// The tiles of row `row`.
    #[inline(always)]
    #[must_use]
    pub const fn row(self, row: u32) -> Run {
        Run { start: row * self.across, end: (row + 1) * self.across }
    }

    /// Warps of the grid.
    #[must_use]
    pub const fn warps(self) -> u32 {
        (self.blocks * SLABS as u32) << self.groups_log2
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    #[test]
    fn every_slab_has_one_warp_and_blocks_are_even() {
        for (rows, cols) in [(5632, 2048), (4096, 4096), (300, 70_000), (100, 100), (28672, 8192)] {
            let grid = TileGrid { rows, cols };
            for (blocks, log2) in [(1, 0), (132, 1), (132, 0), (7, 2), (128, 1), (2000, 1)] {
                let (partition, groups) = (Partition::new(grid, blocks, log2).unwrap(), 1 << log2);
                let mut owner = vec![None; grid.tiles().unwrap() * SLABS];
                let (mut least, mut most) = (u32::MAX, 0);
                for block in 0..blocks {
                    let mut count = 0;
                    for (group, slab) in (0..groups).flat_map(|g| (0..8).map(move |s| (g, s))) {
                        let run = partition.run(block, group, slab);
                        for tile in run.start..run.end {
                            let place = &mut owner[tile as usize * SLABS + slab as usize];
                            assert!(place.replace(block * groups + group).is_none());
                            count += 1;
                        }
                    }
                    (least, most) = (least.min(count), most.max(count));
                }
                assert!(owner.iter().all(Option::is_some));
                assert!(most - least <= 1, "{least} {most}");
                for (row, slab) in
                    (0..rows.div_ceil(256) as u32).flat_map(|r| (0..8).map(move |s| (r, s)))
                {
                    let mut next = partition.row(row).start;
                    partition.for_each_worker(row, slab, |worker, run| {
                        assert_eq!(run.start, next);
                        for tile in run.start..run.end {
                            let at = tile as usize * SLABS + slab as usize;
                            assert_eq!(owner[at], Some(worker));
                        }
                        next = run.end;
                    });
                    assert_eq!(next, partition.row(row).end);
                }
            }
        }
    }

    #[test]
    fn layers_beyond_32_bits_are_refused() {
        let side = 1 << 24;
        assert!(Partition::new(TileGrid { rows: side, cols: side }, 1000, 1).is_none());
        let tile = TileGrid { rows: 256, cols: 256 };
        assert!(Partition::new(tile, 0, 1).is_none());
        assert!(Partition::new(tile, 1, 3).is_none());
        assert!(Partition::new(tile, u32::MAX, 0).is_none());
    }
}
