//! The lean matmul kernels, block by block and warp by warp. Does the same as `block.rs`, `state.rs` and `finish.rs` in
//! `kernels-gpu/src/device/matmul/lean`.

use super::activations::{Activations, Stage};
use super::slab::Layer;
use crate::lanes::{Group, OfLanes, Operands, Rows};
use fused_rans::layout::{
    FRAGMENT, GROUP, LANES, LeanPartition, PANEL_COLUMNS, PANELS, SLAB_ROWS, SLAB_STRIPS,
    SlabPlace, TILE, x_stage_columns,
};

/// Panels of a group of weights that share scales.
const GROUP_PANELS: usize = GROUP / PANEL_COLUMNS;

/// D fragments of a slab: of each strip and octet.
pub type Sums = [Vec<OfLanes<[f32; 4]>>; SLAB_STRIPS];

/// A launch of a lean matmul kernel.
pub struct Matmul<'a> {
    pub layer: Layer<'a>,
    pub partition: LeanPartition,
    pub blocks: u32,
    /// Octets that the kernel takes.
    pub octets: usize,
    pub x: Activations<'a>,
    pub scale: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
}

/// A row of slabs, and the columns of tiles that a block has of it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub row_block: u32,
    /// Row in the row block: the warp.
    pub row: u32,
    pub from: u32,
    pub to: u32,
}

impl Part {
    /// Returns the number of the row of slabs in the layer.
    pub fn slab_row(self, partition: LeanPartition) -> usize {
        (self.row_block * partition.warps + self.row) as usize
    }
}

/// Partial sums of rows of slabs that several blocks share, and how many blocks have saved theirs.
struct Workspace {
    slots: Vec<Option<Sums>>,
    counters: Vec<u32>,
}

impl Matmul<'_> {
    /// Runs the blocks. Calls `store` with (row of x, row of W, output).
    pub fn run(&self, mut store: impl FnMut(usize, usize, f32)) {
        let LeanPartition { slab_rows, warps, .. } = self.partition;
        let slots = vec![None; 2 * (self.blocks * warps) as usize];
        let mut workspace = Workspace { slots, counters: vec![0; slab_rows as usize] };
        // Blocks may come in any order. Backwards, the one that adds up is the first of a row of slabs.
        for block in (0..self.blocks).rev() {
            let run = self.partition.run(block);
            let (start, end) = (self.partition.place(run.start), self.partition.place(run.end));
            let count = self.stages(start, end);
            let stages = self.x.stages(self.octets, start.col as usize * TILE, count);
            for warp in 0..warps {
                let mut walk =
                    Walk { kernel: self, start, end, warp, stages: &stages, begun: 0, next: None };
                walk.next = walk.first(start.row_block);
                for (part, sums) in walk.all() {
                    self.finish(block, part, sums, &mut workspace, &mut store);
                }
            }
        }
        assert!(workspace.counters.iter().all(|&count| count == 0), "a row was not added up");
    }

    /// Returns sums of 0. There are none of octets that the launch has no rows for: the kernels ignore these.
    pub fn zero(&self) -> Sums {
        core::array::from_fn(|_| vec![[[0.0; 4]; LANES]; self.x.rows.div_ceil(8)])
    }

    /// Returns the number of panels of a stage of activations.
    fn stage_panels(&self) -> usize {
        x_stage_columns(self.octets) / PANEL_COLUMNS
    }

    /// Returns the stages of activations of a run.
    fn stages(&self, start: SlabPlace, end: SlabPlace) -> usize {
        let in_tile = PANELS / self.stage_panels();
        let in_row = self.x.cols.div_ceil(x_stage_columns(self.octets));
        let before = |col: u32| (in_tile * col as usize).min(in_row);
        let columns = end.col + u32::from(end.row > 0);
        let row_blocks = (end.row_block - start.row_block) as usize;
        row_blocks * in_row + before(columns) - before(start.col)
    }

    /// Ends a part: stores the outputs if it is all of its row of slabs. If not, saves its sums; the block that comes last
    /// adds all up, in the order of the columns.
    fn finish(
        &self,
        block: u32,
        part: Part,
        mut sums: Sums,
        workspace: &mut Workspace,
        store: &mut impl FnMut(usize, usize, f32),
    ) {
        let (partition, slab_row) = (self.partition, part.slab_row(self.partition));
        if part.from != 0 || part.to != partition.across {
            let before = workspace.slots[self.slot(part, block)].replace(sums);
            assert!(before.is_none(), "two parts have the same slot");
            let (first, last) = partition.owners(part.row_block, part.row);
            let counter = &mut workspace.counters[slab_row];
            if *counter != last - first {
                *counter += 1;
                return;
            }
            *counter = 0;
            sums = self.zero();
            for block in first..=last {
                let slot = &mut workspace.slots[self.slot(part, block)];
                let saved = slot.take().expect("all blocks have saved theirs");
                add(&mut sums, &saved, &[[[1.0; 2]; SLAB_STRIPS]; LANES]);
            }
        }
        self.store(slab_row, &sums, store);
    }

    /// Returns the number of a block's slot. A block shares at most two parts of each row of a row block with others: one
    /// in its first row block, one in its last.
    fn slot(&self, part: Part, block: u32) -> usize {
        let partition = self.partition;
        let is_last = partition.run(block).start < partition.first(part.row_block);
        ((2 * block + u32::from(is_last)) * partition.warps + part.row) as usize
    }

    /// Scales the sums of a row of slabs, adds the bias and stores the outputs.
    fn store(&self, slab_row: usize, sums: &Sums, store: &mut impl FnMut(usize, usize, f32)) {
        for (strip, sums) in sums.iter().enumerate() {
            for (at, &sum) in sums.as_flattened().as_flattened().iter().enumerate() {
                let (octet, lane, i) = (at / (4 * LANES), at / 4 % LANES, at % 4);
                let n = slab_row * SLAB_ROWS + FRAGMENT * strip + 8 * (i / 2) + lane / 4;
                let m = 8 * octet + 2 * (lane % 4) + i % 2;
                if n < self.layer.blob.rows() && m < self.x.rows {
                    let scale = self.scale.map_or(1.0, |scale| scale[n]);
                    let bias = self.bias.map_or(0.0, |bias| bias[n]);
                    store(m, n, sum * scale + bias);
                }
            }
        }
    }
}

/// A warp's way through its block's run: column of tiles by column of tiles.
struct Walk<'a> {
    kernel: &'a Matmul<'a>,
    /// Places of the run's first slab and of the one after its last.
    start: SlabPlace,
    end: SlabPlace,
    warp: u32,
    /// Activations of the run, and how many stages of them the warp has read.
    stages: &'a [Stage],
    begun: usize,
    /// The warp's next slab, whose words the kernel has requested: (row of slabs, column of tiles).
    next: Option<(usize, u32)>,
}

impl Walk<'_> {
    /// Takes all columns of tiles of the run. Returns the sums of the parts that the warp has.
    fn all(mut self) -> Vec<(Part, Sums)> {
        let (mut row_block, mut col) = (self.start.row_block, self.start.col);
        let mut parts = Vec::new();
        while self.reaches(row_block) {
            let part = self.part(row_block);
            let columns = self.end.col + u32::from(self.end.row > 0);
            let is_end = row_block == self.end.row_block;
            let columns = if is_end { columns } else { self.kernel.partition.across };
            let has_slabs = part.from < part.to;
            let mut sums = self.kernel.zero();
            while col < columns {
                if col >= part.from && col < part.to {
                    self.slab(part, col, &mut sums);
                } else {
                    self.pass(col);
                }
                col += 1;
            }
            if has_slabs {
                parts.push((part, sums));
            }
            col = 0;
            row_block += 1;
        }
        assert!(self.next.is_none(), "a slab was requested, but not taken");
        assert_eq!(self.begun, self.stages.len(), "a warp reads all stages");
        parts
    }

    /// Returns the warp's part of row block `row_block`; an empty one if it has no row there.
    fn part(&self, row_block: u32) -> Part {
        let (partition, row) = (self.kernel.partition, self.warp);
        let (from, mut to) = partition.columns(self.start, self.end, row_block, row);
        if row_block * partition.warps + row >= partition.slab_rows {
            to = 0;
        }
        Part { row_block, row, from, to }
    }

    /// Returns whether the run has slabs of row block `row_block`.
    fn reaches(&self, row_block: u32) -> bool {
        let SlabPlace { row_block: last, col, row } = self.end;
        row_block < last || row_block == last && (col > 0 || row > 0)
    }

    /// Returns the warp's first slab from row block `row_block` on: in the first row block, it may have none.
    fn first(&self, row_block: u32) -> Option<(usize, u32)> {
        let part = self.part(row_block);
        if part.from < part.to {
            return Some((part.slab_row(self.kernel.partition), part.from));
        }
        self.first_of(row_block + 1)
    }

    /// Returns the warp's first slab of a row block.
    fn first_of(&self, row_block: u32) -> Option<(usize, u32)> {
        if !self.reaches(row_block) {
            return None;
        }
        let part = self.part(row_block);
        (part.from < part.to).then(|| (part.slab_row(self.kernel.partition), part.from))
    }

    /// Passes by a column of tiles in which the warp has no slab.
    fn pass(&mut self, col: u32) {
        let rest = self.kernel.x.cols - col as usize * TILE;
        let panels = rest.div_ceil(PANEL_COLUMNS).min(PANELS);
        self.begun += panels.div_ceil(self.kernel.stage_panels());
    }

    /// Adds the products of the warp's next slab, in column `col` of tiles, to `sums`.
    fn slab(&mut self, part: Part, col: u32, sums: &mut Sums) {
        let Matmul { layer, partition, .. } = *self.kernel;
        let row = part.slab_row(partition);
        assert_eq!(self.next, Some((row, col)), "another slab was requested");
        self.next = if col + 1 < part.to {
            Some((row, col + 1))
        } else {
            self.first_of(part.row_block + 1)
        };
        let mut slab = layer.slab(row, col as usize);
        let (mut group, mut partials) = (slab.group(0), self.kernel.zero());
        let in_stage = self.kernel.stage_panels();
        let exceptions = slab.exceptions();
        for panel in 0..slab.panels {
            if panel % in_stage == 0 {
                let stage = &self.stages[self.begun];
                self.kernel.add_exceptions(&exceptions, stage, panel * PANEL_COLUMNS, sums);
            }
            let operands = slab.panel(panel, &group);
            self.multiply(&operands, panel % in_stage * PANEL_COLUMNS, &mut partials);
            let is_last = panel + 1 == slab.panels;
            if is_last || (panel + 1) % in_stage == 0 {
                self.begun += 1;
            }
            let group_ends = layer.blob.has_groups() && (panel + 1) % GROUP_PANELS == 0;
            if is_last || group_ends {
                add(sums, &partials, &group.map(scales));
                partials = self.kernel.zero();
            }
            if group_ends && !is_last {
                group = slab.group(panel / GROUP_PANELS + 1);
            }
        }
    }

    /// Adds the products of a panel, whose activations start at column `col` of the stage, to `partials`.
    fn multiply(&self, operands: &[Operands], col: usize, partials: &mut Sums) {
        let (mma_type, stage) = (self.kernel.layer.mma_type, &self.stages[self.begun]);
        for (fragment, operands) in operands.iter().enumerate() {
            let (step, strip) = (fragment / SLAB_STRIPS, fragment % SLAB_STRIPS);
            let rows = Rows::new(mma_type, operands);
            for (octet, partials) in partials[strip].iter_mut().enumerate() {
                let products = rows.multiply(mma_type, &stage.fragment(octet, col, step));
                let partials = partials.as_flattened_mut().iter_mut();
                for (sum, &product) in partials.zip(products.as_flattened()) {
                    *sum = (f64::from(*sum) + product) as f32;
                }
            }
        }
    }
}

fn scales(group: Group) -> [[f32; 2]; SLAB_STRIPS] {
    group.scales.map(|scales| scales.map(|scale| scale as f32))
}

/// Adds `partials` times the lanes' `scales` to `total`.
fn add(total: &mut Sums, partials: &Sums, scales: &OfLanes<[[f32; 2]; SLAB_STRIPS]>) {
    for (strip, (total, partials)) in total.iter_mut().zip(partials).enumerate() {
        let total = total.as_flattened_mut().as_flattened_mut().iter_mut();
        let partials = partials.as_flattened().as_flattened();
        for (at, (sum, partial)) in total.zip(partials).enumerate() {
            *sum += scales[at / 4 % LANES][strip][at % 4 / 2] * partial;
        }
    }
}
