//! A block's run of slabs.

use super::activations::XRing;
use super::finish::{Part, exceptions, finish};
use super::plain::plain_panel;
use super::slab::{LaneStream, Slab, Slabs};
use super::{Arguments, memory};
use crate::{WeightFormat, unrolled};
use crate::device::matmul::Kind;
use crate::device::matmul::shared::groups::{Groups, Offsets};
use crate::device::matmul::shared::sums::{RowScales, Sums, add, zero};
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, barriers_made, block, blocks, broadcast_first_lane, is_elected, lane,
    make_barrier, reread_warp, reread_warps, start_next_launch, thread, threads, wait_for_last_launch,
    warp_barrier,
};
use fused_rans_layout::{
    GROUP, LayerFlags, LeanMatmulArgs, LeanMemory, LeanPartition, PANEL_COLUMNS, PANELS, RAW_STAGES, SlabRun, TILE,
    WARP_BARRIER_BYTES, x_row_bytes,
};

/// Panels of a group of weights that share scales.
const GROUP_PANELS: usize = GROUP / PANEL_COLUMNS;

/// Multiplies, with all threads of a block.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn run<const B: usize>(kind: Kind, args: &LeanMatmulArgs) {
    start_next_launch();
    let arguments = &Arguments::new(args);
    let partition = arguments.partition(blocks());
    let run = partition.run(block() as u32);
    if run.start == run.end {
        return;
    }
    let format = format(kind, arguments);
    let memory = memory::<B>(kind, format.raw_bits(), arguments.buffer_rows);
    let warp = broadcast_first_lane(reread_warp());
    let mut slabs = Slabs::new(kind, arguments, format.raw_bits(), memory, warp);
    let (row_block, col) = partition.place(run.start);
    let x_barriers = memory.barriers + reread_warps() * WARP_BARRIER_BYTES;
    make_barriers::<B>(slabs.barriers(), x_barriers, warp);
    let mut walk = Walk { partition, run, warp, row_block, col, next: None };
    walk.next = walk.first(&slabs);
    if let Some(next) = walk.next {
        warp_barrier();
        request_first(&mut slabs, next);
    }
    // SAFETY: the table is whole.
    unsafe { copy_table(arguments.table, thread(), threads() as usize) };
    async_copy_wait();
    barrier();
    wait_for_last_launch();
    let count = stages::<B>(partition, run, arguments.cols);
    let places = (memory.x, x_barriers);
    let mut ring = XRing::<B>::new(arguments, places, warp, col * TILE as u32, count);
    ring.start();
    // SAFETY: the caller's promise.
    unsafe { walk.all(kind, arguments, &format, &mut slabs, &mut ring) };
}

/// Makes the barriers of the warp, and those of the activations.
#[inline(always)]
fn make_barriers<const B: usize>(own: u32, of_x: u32, warp: u32) {
    if is_elected() {
        // SAFETY: the barriers' places, which nothing uses yet.
        unsafe {
            let mut i = 0;
            while i < Slabs::BARRIERS {
                make_barrier(own + 8 * i, 1);
                i += 1;
            }
            if warp == 0 {
                for (first, arrivals) in XRing::<B>::barriers(of_x, reread_warps()) {
                    let mut i = 0;
                    while i < XRing::<B>::BARRIERS {
                        make_barrier(first + 8 * i, arrivals);
                        i += 1;
                    }
                }
            }
        }
        barriers_made();
    }
}

/// Returns the stages of activations of a run.
#[inline(always)]
fn stages<const B: usize>(partition: LeanPartition, run: SlabRun, cols: u32) -> u32 {
    let (first_block, first_col) = partition.place(run.start);
    let (last_block, last_col) = partition.place(run.end - 1);
    let in_tile = (PANELS / XRing::<B>::PANELS) as u32;
    let in_row = cols.div_ceil((XRing::<B>::PANELS * PANEL_COLUMNS) as u32);
    let end = (in_tile * (last_col + 1)).min(in_row);
    (last_block - first_block) * in_row + end - in_tile * first_col
}

#[inline(always)]
fn format(kind: Kind, arguments: &Arguments) -> WeightFormat {
    let Kind { dtype, table, raw_bits, .. } = kind;
    let zero = arguments.layer_flags.contains(LayerFlags::ZERO_EXPONENT);
    WeightFormat::new(dtype, table, raw_bits, arguments.exponent_base, zero)
}

/// A warp's way through its block's run: column of tiles by column of tiles.
struct Walk {
    partition: LeanPartition,
    run: SlabRun,
    warp: u32,
    row_block: u32,
    /// Column of tiles.
    col: u32,
    /// The warp's next slab, whose parts are requested.
    next: Option<Slab>,
}

impl Walk {
    /// Returns the warp's part of row block `row_block`; an empty one if it has no row there.
    #[inline(always)]
    fn part(&self, row_block: u32) -> Part {
        let (partition, row) = (self.partition, self.warp);
        if row_block * partition.warps + row >= partition.slab_rows {
            return Part { row_block, row, from: 0, to: 0 };
        }
        let (from, to) = partition.columns(self.run, row_block, row);
        Part { row_block, row, from, to }
    }

    /// Locates the warp's first slab.
    #[inline(always)]
    fn first(&self, slabs: &Slabs<'_>) -> Option<Slab> {
        let part = self.part(self.row_block);
        if part.from < part.to {
            return Some(self.locate(slabs, part, part.from));
        }
        self.first_of(slabs, self.row_block + 1)
    }

    /// Locates the warp's first slab of a row block after the first.
    #[inline(always)]
    fn first_of(&self, slabs: &Slabs<'_>, row_block: u32) -> Option<Slab> {
        if self.partition.first(row_block) >= self.run.end {
            return None;
        }
        let part = self.part(row_block);
        (part.from < part.to).then(|| self.locate(slabs, part, part.from))
    }

    #[inline(always)]
    fn locate(&self, slabs: &Slabs<'_>, part: Part, col: u32) -> Slab {
        slabs.locate(part.slab_row(self.partition) * self.partition.across + col, col)
    }

    /// Takes all columns of tiles of the run.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn all<const B: usize>(
        &mut self,
        kind: Kind,
        arguments: &Arguments,
        format: &WeightFormat,
        slabs: &mut Slabs<'_>,
        ring: &mut XRing<'_, B>,
    ) {
        while self.partition.first(self.row_block) < self.run.end {
            let part = self.part(self.row_block);
            let end = self.partition.first(self.row_block)
                + self.partition.height(self.row_block) * self.partition.across;
            let last = if self.run.end < end {
                self.partition.place(self.run.end - 1).1
            } else {
                self.partition.across - 1
            };
            let mut sums: Sums<B> = zero();
            if part.from < part.to {
                sums = exceptions::<B>(kind, arguments, self.partition, part);
            }
            while self.col <= last {
                if self.col >= part.from && self.col < part.to {
                    self.slab(kind, arguments, format, slabs, ring, part, &mut sums);
                } else {
                    self.pass(arguments, ring);
                }
                self.col += 1;
            }
            if part.from < part.to {
                // SAFETY: the caller's promise.
                unsafe { finish::<B>(kind, arguments, self.partition, part, sums) };
            }
            self.col = 0;
            self.row_block += 1;
        }
    }

    /// Passes by a column of tiles in which the warp has no slab.
    #[inline(always)]
    fn pass<const B: usize>(&self, arguments: &Arguments, ring: &mut XRing<'_, B>) {
        let rest = arguments.cols - self.col * TILE as u32;
        let panels = (rest.div_ceil(PANEL_COLUMNS as u32) as usize).min(PANELS);
        let mut panel = 0;
        while panel < panels {
            ring.begin();
            ring.end();
            panel += XRing::<B>::PANELS;
        }
    }

    /// Adds the products of the warp's next slab to `sums`.
    #[inline(always)]
    fn slab<const B: usize>(
        &mut self,
        kind: Kind,
        arguments: &Arguments,
        format: &WeightFormat,
        slabs: &mut Slabs<'_>,
        ring: &mut XRing<'_, B>,
        part: Part,
        sums: &mut Sums<B>,
    ) {
        let Some(slab) = self.next else { return };
        self.next = if self.col + 1 < part.to {
            Some(self.locate(slabs, part, self.col + 1))
        } else {
            self.first_of(slabs, self.row_block + 1)
        };
        let (words, groups) = slabs.begin(slab);
        let groups = SlabGroups { groups: Groups { kind, arguments, format: *format }, at: groups };
        let (g, t) = (lane() as u32 / 4, lane() as u32 % 4);
        let of_lane = g * x_row_bytes(B) as u32 + 16 * t;
        let mut state = SlabState { slab, groups, x: 0, partials: zero(), offsets: groups.offsets(0) };
        if slab.is_plain() {
            if let Some(next) = self.next {
                slabs.request_words(next);
            }
            let mut panel = 0;
            while panel < PANELS {
                if panel < slab.panels as usize {
                    state.begin_panel(panel, of_lane, ring);
                    plain_panel::<B>(kind, arguments, format, slab, panel, state.x, &state.offsets, &mut state.partials);
                    state.end_panel(panel, ring, sums);
                }
                self.request_after(slabs, slab, panel);
                panel += 1;
            }
            return;
        }
        let mut stream = LaneStream::new(words);
        unrolled::<PANELS>(
            #[inline(always)]
            |panel| {
                if panel < slab.panels as usize {
                    state.begin_panel(panel, of_lane, ring);
                    slabs.panel::<B>(format, &mut stream, panel, state.x, &state.offsets, &mut state.partials);
                    state.end_panel(panel, ring, sums);
                }
                if panel == 0 {
                    if let Some(next) = self.next {
                        slabs.request_words(next);
                    }
                }
                self.request_after(slabs, slab, panel);
            },
        );
    }

    /// Requests what comes two panels after panel `panel` of `slab`.
    #[inline(always)]
    fn request_after(&self, slabs: &Slabs<'_>, slab: Slab, panel: usize) {
        warp_barrier();
        if panel + RAW_STAGES < PANELS {
            slabs.request_raw(slab, panel + RAW_STAGES);
        } else if let Some(next) = self.next {
            slabs.request_raw(next, panel + RAW_STAGES - PANELS);
        }
    }
}

/// Requests everything that is requested of a slab before it begins.
#[inline(always)]
fn request_first(slabs: &mut Slabs<'_>, slab: Slab) {
    slabs.request_words(slab);
    let mut panel = 0;
    while panel < RAW_STAGES {
        slabs.request_raw(slab, panel);
        panel += 1;
    }
}

/// What changes along a slab.
struct SlabState<'a, const B: usize> {
    slab: Slab,
    groups: SlabGroups<'a>,
    /// Address of the lane's activations of the panel.
    x: u32,
    /// Sums of the group, or of the slab: short chains of additions in the tensor cores, which truncate.
    partials: Sums<B>,
    /// Offsets of the integers, by the zero points of the group.
    offsets: Offsets,
}

impl<const B: usize> SlabState<'_, B> {
    /// Waits for the activations of a panel.
    #[inline(always)]
    fn begin_panel(&mut self, panel: usize, of_lane: u32, ring: &mut XRing<'_, B>) {
        if panel.is_multiple_of(XRing::<B>::PANELS) {
            self.x = ring.begin() + of_lane;
        } else {
            self.x += 2 * PANEL_COLUMNS as u32;
        }
    }

    /// Gives the activations back, and adds up the sums of a group, or of the slab.
    #[inline(always)]
    fn end_panel(&mut self, panel: usize, ring: &mut XRing<'_, B>, sums: &mut Sums<B>) {
        let is_last = panel + 1 == PANELS || panel + 1 == self.slab.panels as usize;
        if is_last || (panel + 1).is_multiple_of(XRing::<B>::PANELS) {
            ring.end();
        }
        let group_ends = self.groups.groups.kind.grouped && (panel + 1).is_multiple_of(GROUP_PANELS);
        if is_last || group_ends {
            let group = (panel / GROUP_PANELS) as u32;
            add(sums, &mut self.partials, &self.groups.scales(group));
            if group_ends && !is_last {
                self.offsets = self.groups.offsets(group + 1);
            }
        }
    }
}

/// Scales and zero points of a slab.
#[derive(Clone, Copy)]
struct SlabGroups<'a> {
    groups: Groups<'a, Arguments>,
    /// Their address in shared memory.
    at: u32,
}

impl SlabGroups<'_> {
    #[inline(always)]
    fn scales(&self, group: u32) -> RowScales {
        self.groups.scales(self.at, group)
    }

    #[inline(always)]
    fn offsets(&self, group: u32) -> Offsets {
        self.groups.offsets(self.at, group)
    }
}

const _: () = assert!(LeanMemory::GROUP_BYTES % 16 == 0);
