//! How a matmul divides a layer among the warps of a grid.

use crate::{SLAB_ROWS, TILE, TileGrid};

/// A layer as a sequence of segments. A band is as many rows as a warp decodes at a time; a segment is the part of a tile that
/// lies in a band; segments are numbered along bands. They are divided into equal runs, over blocks, then over the warps
/// of each block; if they do not come out even, the first runs have one segment more. So the warps that share a
/// band are neighbors, most of them in the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Segments of a band.
    pub across: u32,
    /// Number of bands.
    pub bands: u32,
    blocks: Shares,
    /// Warps of a block.
    warps: u32,
}

/// A run of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first segment.
    pub start: u32,
    /// The segment after the last.
    pub end: u32,
}

impl Run {
    /// Returns the number of segments.
    #[inline(always)]
    #[must_use]
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Checks whether there are no segments.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns the segments that are in both runs, which must overlap or touch.
    #[inline(always)]
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self {
            start: if self.start > other.start { self.start } else { other.start },
            end: if self.end < other.end { self.end } else { other.end },
        }
    }
}

/// Equal shares of a run; the first `longer` ones have one segment more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    start: u32,
    each: u32,
    longer: u32,
}

impl Shares {
    #[inline(always)]
    const fn new(run: Run, count: u32) -> Self {
        let each = run.len() / count;
        Self { start: run.start, each, longer: run.len() - each * count }
    }

    #[inline(always)]
    const fn share(self, number: u32) -> Run {
        let Self { start, each, longer } = self;
        let before = if number < longer { number } else { longer };
        let start = start + number * each + before;
        Run { start, end: start + each + (number < longer) as u32 }
    }

    /// Returns the number of the share that has `segment`.
    #[inline(always)]
    const fn owner(self, segment: u32) -> u32 {
        let at = segment - self.start;
        let in_longer = self.longer * (self.each + 1);
        if at < in_longer {
            at / (self.each + 1)
        } else {
            self.longer + (at - in_longer) / self.each
        }
    }
}

impl Partition {
    /// Returns the partition of `grid` among `blocks` blocks of `warps` warps, each of which decodes `slabs` slabs at a time.
    /// Returns `None` if segments cannot be counted in 32 bits, or if there are no warps.
    #[must_use]
    pub fn new(grid: TileGrid, slabs: usize, blocks: u32, warps: u32) -> Option<Self> {
        let rows = u32::try_from(grid.rows).ok()?;
        let cols = u32::try_from(grid.cols).ok()?;
        let (bands, across) = Self::segments(rows, cols, slabs);
        let counted = bands.checked_mul(across)?.checked_add(1);
        (counted.is_some() && blocks.checked_mul(warps)? > 0)
            .then(|| Self::divide(rows, cols, slabs, blocks, warps))
    }

    /// Returns the same partition as [`Partition::new`], without its checks: for the kernels.
    #[inline(always)]
    #[must_use]
    pub const fn divide(rows: u32, cols: u32, slabs: usize, blocks: u32, warps: u32) -> Self {
        let (bands, across) = Self::segments(rows, cols, slabs);
        let all = Run { start: 0, end: bands * across };
        Self { across, bands, blocks: Shares::new(all, blocks), warps }
    }

    /// Returns the (number of bands, segments of a band).
    #[inline(always)]
    const fn segments(rows: u32, cols: u32, slabs: usize) -> (u32, u32) {
        (rows.div_ceil((SLAB_ROWS * slabs) as u32), cols.div_ceil(TILE as u32))
    }

    /// Returns the segments of a band.
    #[inline(always)]
    #[must_use]
    pub const fn band(self, band: u32) -> Run {
        Run { start: band * self.across, end: (band + 1) * self.across }
    }

    /// Returns the segments of a block.
    #[inline(always)]
    #[must_use]
    pub const fn block(self, block: u32) -> Run {
        self.blocks.share(block)
    }

    /// Returns the segments of warp number `warp` of the block that has `block`.
    #[inline(always)]
    #[must_use]
    pub const fn warp(self, block: Run, warp: u32) -> Run {
        Shares::new(block, self.warps).share(warp)
    }

    /// Returns the first and the last block that have segments of `run`; all blocks between them have some, too.
    #[inline(always)]
    #[must_use]
    pub const fn blocks_of(self, run: Run) -> (u32, u32) {
        (self.blocks.owner(run.start), self.blocks.owner(run.end - 1))
    }

    /// Returns the first and the last warp, of the block that has `block`, that have segments of `run`, a part of `block`.
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
    fn segments_are_divided_in_order_and_evenly() {
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
                        for segment in [run.start, run.end.saturating_sub(1)] {
                            if !run.is_empty() {
                                let segment = Run { start: segment, end: segment + 1 };
                                assert_eq!(partition.blocks_of(segment), (number, number));
                                assert_eq!(partition.warps_of(block, segment), (warp, warp));
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
    fn warps_that_share_a_band_are_neighbors() {
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
