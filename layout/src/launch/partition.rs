//! How a multiplication divides a layer among the warps of a grid.

use crate::{SLAB_ROWS, TILE, TileGrid};

/// A layer as a row of units: a band is as many rows as a warp decodes at a time, a unit what a band has
/// of a tile; units are counted along bands. They are dealt to the blocks, and a block's to its warps,
/// in equal runs; where they do not come out even, the first ones have one more. So whoever shares
/// a band stands beside each other, most of them in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Units of a band.
    pub across: u32,
    /// Stripes.
    pub bands: u32,
    blocks: Shares,
    /// Warps of a block.
    warps: u32,
}

/// A run of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first unit.
    pub start: u32,
    /// The unit after the last.
    pub end: u32,
}

impl Run {
    /// Units in it.
    #[inline(always)]
    #[must_use]
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether there are no units in it.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The units that are in both, which must overlap or touch.
    #[inline(always)]
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self {
            start: if self.start > other.start { self.start } else { other.start },
            end: if self.end < other.end { self.end } else { other.end },
        }
    }
}

/// Equal shares of a run, but for one unit more that the first ones have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    start: u32,
    each: u32,
    longer: u32,
}

impl Shares {
    #[inline(always)]
    const fn new(of: Run, count: u32) -> Self {
        let each = of.len() / count;
        Self { start: of.start, each, longer: of.len() - each * count }
    }

    #[inline(always)]
    const fn share(self, number: u32) -> Run {
        let Self { start, each, longer } = self;
        let before = if number < longer { number } else { longer };
        let start = start + number * each + before;
        Run { start, end: start + each + (number < longer) as u32 }
    }

    /// The share that `unit` is in.
    #[inline(always)]
    const fn owner(self, unit: u32) -> u32 {
        let at = unit - self.start;
        let in_longer = self.longer * (self.each + 1);
        if at < in_longer {
            at / (self.each + 1)
        } else {
            self.longer + (at - in_longer) / self.each
        }
    }
}

impl Partition {
    /// The partition of `grid` among `blocks` blocks of `warps` warps, each of which decodes `slabs` slabs
    /// at a time; `None` if it cannot be counted in 32 bits, or there is nobody.
    #[must_use]
    pub fn new(grid: TileGrid, slabs: usize, blocks: u32, warps: u32) -> Option<Self> {
        let rows = u32::try_from(grid.rows).ok()?;
        let cols = u32::try_from(grid.cols).ok()?;
        let (bands, across) = Self::units(rows, cols, slabs);
        let counted = bands.checked_mul(across)?.checked_add(1);
        (counted.is_some() && blocks.checked_mul(warps)? > 0)
            .then(|| Self::divide(rows, cols, slabs, blocks, warps))
    }

    /// As [`Partition::new`], for what that has checked.
    #[inline(always)]
    #[must_use]
    pub const fn divide(rows: u32, cols: u32, slabs: usize, blocks: u32, warps: u32) -> Self {
        let (bands, across) = Self::units(rows, cols, slabs);
        let all = Run { start: 0, end: bands * across };
        Self { across, bands, blocks: Shares::new(all, blocks), warps }
    }

    #[inline(always)]
    const fn units(rows: u32, cols: u32, slabs: usize) -> (u32, u32) {
        (rows.div_ceil((SLAB_ROWS * slabs) as u32), cols.div_ceil(TILE as u32))
    }

    /// The units of a band.
    #[inline(always)]
    #[must_use]
    pub const fn band(self, band: u32) -> Run {
        Run { start: band * self.across, end: (band + 1) * self.across }
    }

    /// The units of a block.
    #[inline(always)]
    #[must_use]
    pub const fn block(self, block: u32) -> Run {
        self.blocks.share(block)
    }

    /// The units of a warp of the block that has `block`.
    #[inline(always)]
    #[must_use]
    pub const fn warp(self, block: Run, warp: u32) -> Run {
        Shares::new(block, self.warps).share(warp)
    }

    /// First and last of the blocks that have units of `run`; all between them have, too.
    #[inline(always)]
    #[must_use]
    pub const fn blocks_of(self, run: Run) -> (u32, u32) {
        (self.blocks.owner(run.start), self.blocks.owner(run.end - 1))
    }

    /// Likewise, the warps of the block that has `block`, of which `run` is a part.
    #[inline(always)]
    #[must_use]
    pub const fn warps_of(self, block: Run, run: Run) -> (u32, u32) {
        let shares = Shares::new(block, self.warps);
        (shares.owner(run.start), shares.owner(run.end - 1))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const LAYERS: [(usize, usize); 6] =
        [(5632, 2048), (4096, 4096), (300, 70_000), (100, 100), (28672, 8192), (100_000, 64)];

    #[test]
    fn units_are_dealt_in_order_and_evenly() {
        for (rows, cols) in LAYERS {
            for (slabs, blocks, warps) in
                [(2, 1, 1), (2, 132, 12), (1, 132, 8), (2, 7, 5), (2, 2000, 12)]
            {
                let partition =
                    Partition::new(TileGrid { rows, cols }, slabs, blocks, warps).unwrap();
                let (mut next, mut least, mut most) = (0, u32::MAX, 0);
                for number in 0..blocks {
                    let block = partition.block(number);
                    assert_eq!(block.start, next);
                    (least, most) = (least.min(block.len()), most.max(block.len()));
                    for warp in 0..warps {
                        let run = partition.warp(block, warp);
                        assert_eq!(run.start, next);
                        next = run.end;
                        for unit in [run.start, run.end.saturating_sub(1)] {
                            if !run.is_empty() {
                                let unit = Run { start: unit, end: unit + 1 };
                                assert_eq!(partition.blocks_of(unit), (number, number));
                                assert_eq!(partition.warps_of(block, unit), (warp, warp));
                            }
                        }
                    }
                    assert_eq!(next, block.end);
                }
                assert_eq!(next, partition.bands * partition.across);
                assert!(most - least <= 1, "{least} {most}");
            }
        }
    }

    #[test]
    fn whoever_shares_a_stripe_stands_beside_each_other() {
        for (rows, cols) in LAYERS {
            let partition = Partition::new(TileGrid { rows, cols }, 2, 132, 12).unwrap();
            for band in 0..partition.bands {
                let all = partition.band(band);
                let (first, last) = partition.blocks_of(all);
                for number in first..=last {
                    let block = partition.block(number);
                    let part = all.intersect(block);
                    assert!(part.start < part.end);
                    let (first, last) = partition.warps_of(block, part);
                    let mut next = part.start;
                    for warp in first..=last {
                        let run = partition.warp(block, warp).intersect(part);
                        assert!(run.start == next && run.end > next);
                        next = run.end;
                    }
                    assert_eq!(next, part.end);
                }
            }
        }
    }

    #[test]
    fn layers_beyond_32_bits_are_refused() {
        let side = 1 << 30;
        assert!(Partition::new(TileGrid { rows: side, cols: side }, 2, 1000, 12).is_none());
        assert!(Partition::new(TileGrid { rows: usize::MAX, cols: 1 }, 2, 1000, 12).is_none());
        let tile = TileGrid { rows: 256, cols: 256 };
        assert!(Partition::new(tile, 2, 0, 12).is_none());
        assert!(Partition::new(tile, 2, 12, 0).is_none());
        assert!(Partition::new(tile, 2, u32::MAX, 2).is_none());
    }
}
