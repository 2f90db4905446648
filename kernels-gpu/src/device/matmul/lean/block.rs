//! A block's run of slabs.

use super::activations::XRing;
use super::finish::{OwnRows, Part, finish};
use super::panel::{coded_panel, plain_panel};
use super::state::SlabState;
use super::{Arguments, memory};
use crate::device::matmul::Kind;
use crate::device::matmul::shared::sums::{Sums, zero};
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, barriers_made, block, broadcast_first_lane, is_elected, lane,
    make_barrier, reread_warp, reread_warps, start_next_launch, thread, threads,
    wait_for_last_launch,
};
use crate::device::resident::{LaneStream, Slab, Slabs};
use crate::{WeightFormat, unrolled};
use fused_rans_layout::{
    FRAGMENT, LeanMatmulArgs, LeanPartition, MatmulFlags, PANEL_COLUMNS, PANELS, SLAB_ROWS,
    SlabPlace, TILE, WARP_BARRIER_BYTES, x_row_bytes,
};

/// Most octets for which the panels of a slab are unrolled.
const MAX_UNROLLED_OCTETS: usize = 4;

/// Multiplies, with all threads of a block.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn run<const B: usize>(kind: Kind, args: &LeanMatmulArgs) {
    let arguments = &Arguments::new(args);
    let is_first = arguments.flags.contains(MatmulFlags::FIRST_OF_GROUP);
    if !is_first {
        start_next_launch();
    }
    // SAFETY: the table is whole.
    unsafe { copy_table(arguments.layer.table, thread(), threads() as usize) };
    let partition = arguments.partition();
    let run = partition.run(block() as u32);
    let layer = &arguments.layer;
    let format = layer.format(kind.dtype, kind.table, kind.raw_bits);
    let memory = memory::<B>(kind, format.raw_bits(), layer.buffer_rows);
    let warp = broadcast_first_lane(reread_warp());
    let slabs = Slabs::new(layer, format.raw_bits(), kind.grouped, memory, warp);
    let x_barriers = memory.barriers + reread_warps() * WARP_BARRIER_BYTES;
    slabs.make_barriers();
    if warp == 0 {
        make_barriers::<B>(x_barriers);
    }
    let (start, end) = (partition.place(run.start), partition.place(run.end));
    let mut walk = Walk { kind, arguments, format, partition, start, end, warp, slabs, next: None };
    walk.next = walk.first(start.row_block);
    if let Some(next) = walk.next {
        walk.slabs.start(next);
    }
    async_copy_wait();
    barrier();
    let in_group = arguments.flags.contains(MatmulFlags::IN_GROUP);
    if !in_group {
        wait_for_last_launch();
    }
    if is_first {
        start_next_launch();
    }
    let (places, col) = ((memory.x, x_barriers), start.col * TILE as u32);
    let count = stages::<B>(start, end, layer.cols);
    let mut ring = XRing::<B>::new(arguments, places, warp, col, count);
    ring.start();
    // SAFETY: the caller's promise.
    unsafe { walk.all(&mut ring) };
    // Who waits for this launch relies on those before it, too.
    if in_group {
        wait_for_last_launch();
    }
}

/// Makes the barriers of the activations.
#[inline(always)]
fn make_barriers<const B: usize>(of_x: u32) {
    if is_elected() {
        for (first, arrivals) in XRing::<B>::barriers(of_x, reread_warps()) {
            for i in 0..XRing::<B>::BARRIERS {
                // SAFETY: the barriers' places, which nothing uses yet.
                unsafe { make_barrier(first + 8 * i, arrivals) };
            }
        }
        barriers_made();
    }
}

/// Returns the stages of activations of a run.
#[inline(always)]
fn stages<const B: usize>(start: SlabPlace, end: SlabPlace, cols: u32) -> u32 {
    let in_tile = (PANELS / XRing::<B>::PANELS) as u32;
    let in_row = cols.div_ceil((XRing::<B>::PANELS * PANEL_COLUMNS) as u32);
    let before = |col: u32| (in_tile * col).min(in_row);
    let columns = end.col + u32::from(end.row > 0);
    (end.row_block - start.row_block) * in_row + before(columns) - before(start.col)
}

/// Returns the offset of the lane's activations in a stage. Lanes of rows that x does not have load those of its last row,
/// which takes no time, where others would take some; their sums are not stored.
#[inline(always)]
fn activations_of_lane<const B: usize>(x_rows: u32) -> u32 {
    let (g, t) = (lane() as u32 / 4, lane() as u32 % 4);
    let row = if B == 1 { g.min(x_rows - 1) } else { g };
    row * x_row_bytes(B) as u32 + 16 * t
}

/// A warp's way through its block's run: column of tiles by column of tiles.
struct Walk<'a> {
    kind: Kind,
    arguments: &'a Arguments,
    format: WeightFormat,
    partition: LeanPartition,
    /// Places of the run's first slab and of the one after its last.
    start: SlabPlace,
    end: SlabPlace,
    warp: u32,
    slabs: Slabs<'a>,
    /// The warp's next slab, whose parts are requested.
    next: Option<Slab>,
}

impl Walk<'_> {
    /// Returns the warp's part of row block `row_block`; an empty one if it has no row there.
    #[inline(always)]
    fn part(&self, row_block: u32) -> Part {
        let (partition, row) = (self.partition, self.warp);
        let (from, mut to) = partition.columns(self.start, self.end, row_block, row);
        if row_block * partition.warps + row >= partition.slab_rows {
            to = 0;
        }
        Part { row_block, row, from, to }
    }

    /// Returns whether the run has slabs of row block `row_block`.
    #[inline(always)]
    fn reaches(&self, row_block: u32) -> bool {
        let SlabPlace { row_block: last, col, row } = self.end;
        row_block < last || row_block == last && (col > 0 || row > 0)
    }

    /// Locates the warp's first slab from row block `row_block` on: in the first row block, it may have none.
    #[inline(always)]
    fn first(&self, row_block: u32) -> Option<Slab> {
        let part = self.part(row_block);
        if part.from < part.to {
            return Some(self.locate(part, part.from));
        }
        self.first_of(row_block + 1)
    }

    /// Locates the warp's first slab of a row block.
    #[inline(always)]
    fn first_of(&self, row_block: u32) -> Option<Slab> {
        let part = self.part(row_block);
        (self.reaches(row_block) && part.from < part.to).then(|| self.locate(part, part.from))
    }

    #[inline(always)]
    fn locate(&self, part: Part, col: u32) -> Slab {
        self.slabs.locate(part.slab_row(self.partition) * self.partition.across + col, col)
    }

    /// Takes all columns of tiles of the run.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn all<const B: usize>(&mut self, ring: &mut XRing<'_, B>) {
        let (mut row_block, mut col) = (self.start.row_block, self.start.col);
        while self.reaches(row_block) {
            let part = self.part(row_block);
            let is_end = row_block == self.end.row_block;
            let columns = self.end.col + u32::from(self.end.row > 0);
            let columns = if is_end { columns } else { self.partition.across };
            let mut sums: Sums<B> = zero();
            while col < columns {
                if col >= part.from && col < part.to {
                    self.slab(ring, part, col, &mut sums);
                } else {
                    self.pass(ring, col);
                }
                col += 1;
            }
            if part.from < part.to {
                let slab_row = part.slab_row(self.partition);
                let own = OwnRows {
                    number: slab_row,
                    place: (part.row, self.partition.warps),
                    first: slab_row * SLAB_ROWS as u32,
                    to_next_strip: FRAGMENT as u32,
                };
                // SAFETY: the caller's promise.
                unsafe { finish::<B>(self.kind, self.arguments, self.partition, part, own, sums) };
            }
            col = 0;
            row_block += 1;
        }
    }

    /// Passes by a column of tiles in which the warp has no slab.
    #[inline(always)]
    fn pass<const B: usize>(&self, ring: &mut XRing<'_, B>, col: u32) {
        let rest = self.arguments.layer.cols - col * TILE as u32;
        let mut panels = rest.div_ceil(PANEL_COLUMNS as u32).min(PANELS as u32);
        while panels > 0 {
            ring.begin();
            ring.end();
            panels = panels.saturating_sub(XRing::<B>::PANELS as u32);
        }
    }

    /// Adds the products of the warp's next slab, in column `col` of tiles, to `sums`.
    #[inline(always)]
    fn slab<const B: usize>(
        &mut self,
        ring: &mut XRing<'_, B>,
        part: Part,
        col: u32,
        sums: &mut Sums<B>,
    ) {
        let Some(slab) = self.next else { return };
        self.next = if col + 1 < part.to {
            Some(self.locate(part, col + 1))
        } else {
            self.first_of(part.row_block + 1)
        };
        let (words, groups) = self.slabs.begin(slab);
        let of_lane = activations_of_lane::<B>(self.arguments.x_rows);
        let exceptions = self.slabs.exceptions(slab, words);
        let parts = (groups, exceptions);
        let mut state = SlabState::new(self.kind, self.arguments, self.format, parts, of_lane);
        // Unrolled four times, the code for many rows of x would be larger than an instruction cache.
        if B <= MAX_UNROLLED_OCTETS && slab.is_whole() {
            let mut stream = LaneStream::new(words);
            unrolled::<PANELS>(
                #[inline(always)]
                |panel| {
                    state.begin_panel(panel, ring, sums);
                    let planes = self.slabs.begin_raw(slab, words, panel);
                    let seen =
                        coded_panel::<B>(self.kind, &self.format, &mut stream, &planes, &mut state);
                    state.end_panel(panel, panel + 1 == PANELS, ring, sums);
                    self.slabs.after_panel(slab, panel, self.next, seen);
                },
            );
        } else {
            self.careful(slab, words, state, ring, sums);
        }
    }

    /// Takes any slab.
    #[inline(always)]
    fn careful<const B: usize>(
        &mut self,
        slab: Slab,
        words: u32,
        mut state: SlabState<'_, B>,
        ring: &mut XRing<'_, B>,
        sums: &mut Sums<B>,
    ) {
        let mut stream = if slab.is_plain() { None } else { Some(LaneStream::new(words)) };
        // Of all panels: where the slab lacks one, the copy into its stage replaces an earlier panel of this slab.
        let (mut panel, mut seen) = (0, 0);
        while panel < PANELS {
            if panel < slab.panels as usize {
                state.begin_panel(panel, ring, sums);
                if let Some(stream) = &mut stream {
                    let planes = self.slabs.begin_raw(slab, words, panel);
                    seen |= coded_panel::<B>(self.kind, &self.format, stream, &planes, &mut state);
                } else {
                    let (kind, layer) = (self.kind, &self.arguments.layer);
                    plain_panel::<B>(kind, layer, &self.format, slab, panel, &mut state);
                }
                state.end_panel(panel, panel + 1 == slab.panels as usize, ring, sums);
            }
            self.slabs.after_panel(slab, panel, self.next, seen);
            panel += 1;
        }
    }
}
