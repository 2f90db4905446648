//! The wide matmul kernels, block by block: what the decoders write to shared memory, and what `wgmma` reads there. Does the
//! same as `kernels-gpu/src/device/matmul/wide`.

use super::activations::Activations;
use super::slab::{Layer, Slab};
use crate::lanes::number;
use fused_rans::Dtype;
use fused_rans::layout::{
    CHUNK_COLUMNS, FRAGMENT, GROUP, LANES, LeanPartition, PANEL_COLUMNS, PIECE_COLUMNS, PanelOrder,
    PanelStep, SLAB_ROWS, SLAB_STRIPS, SlabException, TILE, WARPGROUP, WEIGHT_PIECE_BYTES,
    WIDE_ROWS, piece_offset,
};
use fused_rans_kernels::MmaType;
use half::{bf16, f16};
use std::collections::BTreeMap;

/// Most octets for which the kernels have registers for two sets of sums.
const MAX_OCTETS_WITH_PARTIALS: usize = 8;

/// A launch of a wide matmul kernel.
pub struct Wide<'a> {
    pub layer: Layer<'a>,
    pub partition: LeanPartition,
    pub blocks: u32,
    /// Warpgroups that decode.
    pub groups: u32,
    /// Octets that the kernel takes.
    pub octets: usize,
    pub x: Activations<'a>,
    pub scale: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
}

/// Sums of the rows of a unit: those of each row of x, one row of W after the other.
type Sums = Vec<f32>;

/// Sums of rows that several blocks share, by (row of units, block), and how many blocks have saved theirs.
type Saved = BTreeMap<(u32, u32), Sums>;

/// A panel of weights in shared memory.
struct Panel {
    /// Two pieces.
    bits: Vec<u16>,
    scales: [f32; WIDE_ROWS],
}

impl Panel {
    /// Returns the index of a weight.
    fn at(row: usize, col: usize) -> usize {
        let (piece, chunk) = (col / PIECE_COLUMNS, col % PIECE_COLUMNS / CHUNK_COLUMNS);
        let chunk = piece_offset(row as u32, chunk as u32) as usize;
        (piece * WEIGHT_PIECE_BYTES as usize + chunk) / 2 + col % CHUNK_COLUMNS
    }
}

impl Wide<'_> {
    /// Runs the blocks. Calls `store` with (row of x, row of W, output).
    pub fn run(&self, mut store: impl FnMut(usize, usize, f32)) {
        let (packed, mut saved) = (self.x.packed(self.octets), Saved::new());
        // Blocks may come in any order. Backwards, the one that adds up is the first of a row.
        for block in (0..self.blocks).rev() {
            let mut order = PanelOrder::new(self.partition, self.partition.run(block), self.groups);
            let mut slabs = BTreeMap::new();
            while !order.is_over() {
                let (row, from) = (order.row(), order.col());
                let (sums, to) = self.row(&mut order, &mut slabs, &packed);
                let sums = match (from, to == self.partition.across) {
                    (0, true) => Some(sums),
                    _ => self.add_up(row, block, sums, &mut saved),
                };
                if let Some(sums) = sums {
                    self.store(row, &sums, &mut store);
                }
            }
        }
        assert!(saved.is_empty(), "a row was not added up");
    }

    /// Saves a block's sums of a row of units. Returns all blocks' sum if it is the last to do so.
    fn add_up(&self, row: u32, block: u32, sums: Sums, saved: &mut Saved) -> Option<Sums> {
        assert!(saved.insert((row, block), sums).is_none(), "two parts have the same slot");
        let (first, last) = self.partition.owners(row, 0);
        if (first..=last).any(|block| !saved.contains_key(&(row, block))) {
            return None;
        }
        let mut total = self.zero();
        for block in first..=last {
            let sums = saved.remove(&(row, block)).expect("all blocks have saved theirs");
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        Some(total)
    }

    fn zero(&self) -> Sums {
        vec![0.0; WIDE_ROWS * self.x.rows]
    }

    /// Multiplies the panels of a row of units that a block has. Returns the sums, and the column of tiles after the last.
    fn row<'a>(
        &'a self,
        order: &mut PanelOrder,
        slabs: &mut BTreeMap<u32, Vec<Slab<'a>>>,
        packed: &[u16],
    ) -> (Sums, u32) {
        let is_grouped = self.layer.blob.has_groups();
        let with_partials = self.octets <= MAX_OCTETS_WITH_PARTIALS;
        let (mut sums, mut partials) = (self.zero(), self.zero());
        loop {
            let (row, col, number) = (order.row(), order.col(), order.panel() as usize);
            let slabs = slabs
                .entry(row * self.partition.across + col)
                .or_insert_with(|| self.unit(row, col));
            let first_col = col as usize * TILE + number * PANEL_COLUMNS;
            if first_col < self.x.cols.next_multiple_of(PANEL_COLUMNS) {
                let panel = self.panel(slabs, number);
                self.multiply(&panel, &packed[first_col * 8 * self.octets..], &mut partials);
                if is_grouped {
                    add(&mut sums, &mut partials, |row| panel.scales[row], self.x.rows);
                }
            }
            let step = order.advance();
            if with_partials && step != PanelStep::Panel {
                add(&mut sums, &mut partials, |_| 1.0, self.x.rows);
            }
            if step == PanelStep::Row {
                add(&mut sums, &mut partials, |_| 1.0, self.x.rows);
                return (sums, col + 1);
            }
        }
    }

    /// Returns the slabs of a unit.
    fn unit(&self, row: u32, col: u32) -> Vec<Slab<'_>> {
        let rows = self.layer.blob.rows().div_ceil(SLAB_ROWS);
        let first = (row * WARPGROUP) as usize;
        (first..rows.min(first + WARPGROUP as usize))
            .map(|row| self.layer.slab(row, col as usize))
            .collect()
    }

    /// Decodes panel `number` of the slabs of a unit. Rows that the layer lacks are NaNs.
    fn panel(&self, slabs: &mut [Slab<'_>], number: usize) -> Panel {
        let bits = vec![0xFFFF; WEIGHT_PIECE_BYTES as usize];
        let mut panel = Panel { bits, scales: [f32::NAN; WIDE_ROWS] };
        for (place, slab) in slabs.iter_mut().enumerate() {
            let group = slab.group(number / (GROUP / PANEL_COLUMNS));
            let operands = slab.panel(number, &group);
            for (f, lane) in (0..operands.len()).flat_map(|f| (0..LANES).map(move |lane| (f, lane)))
            {
                let (step, strip, g, t) = (f / SLAB_STRIPS, f % SLAB_STRIPS, lane / 4, lane % 4);
                for (i, register) in operands[f][lane].into_iter().enumerate() {
                    let row = place * SLAB_ROWS + FRAGMENT * strip + 8 * (i % 2) + g;
                    // A lane has eight columns of two steps that follow each other.
                    let col = step / 2 * PIECE_COLUMNS + 8 * t + step % 2 * 4 + i / 2 * 2;
                    let at = Panel::at(row, col);
                    [panel.bits[at], panel.bits[at + 1]] =
                        [register as u16, (register >> 16) as u16];
                }
                for (i, &scale) in group[lane].scales.as_flattened().iter().enumerate() {
                    panel.scales[place * SLAB_ROWS + 8 * i + g] = scale as f32;
                }
            }
            for exception in slab.exceptions() {
                if usize::from(exception.place) / PANEL_COLUMNS == number {
                    self.replace(&mut panel, place, exception);
                }
            }
        }
        panel
    }

    /// Replaces a decoded weight.
    fn replace(&self, panel: &mut Panel, place: usize, exception: SlabException) {
        let row = place * SLAB_ROWS + usize::from(exception.row);
        let bits = &mut panel.bits[Panel::at(row, usize::from(exception.place) % PANEL_COLUMNS)];
        let mma_type = self.layer.mma_type;
        *bits = match self.layer.format.dtype() {
            Dtype::Bf16 | Dtype::F16 => exception.weight,
            _ => {
                let decoded = number(mma_type, (*bits).into()) as f32;
                let weight = decoded + f32::from_bits(exception.difference);
                match mma_type {
                    MmaType::Bf16 => bf16::from_f32(weight).to_bits(),
                    MmaType::F16 => f16::from_f32(weight).to_bits(),
                }
            }
        };
    }

    /// Adds the products of a panel of weights and the packed activations of its columns to `sums`.
    fn multiply(&self, panel: &Panel, packed: &[u16], sums: &mut Sums) {
        let of_x = |m: usize, col: usize| {
            let piece = col / PIECE_COLUMNS * 8 * self.octets * PIECE_COLUMNS;
            let chunk =
                piece_offset(m as u32, (col % PIECE_COLUMNS / CHUNK_COLUMNS) as u32) as usize / 2;
            packed[piece + chunk + col % CHUNK_COLUMNS]
        };
        let value = |bits: u16| number(self.layer.mma_type, bits.into());
        for m in 0..self.x.rows {
            let x: Vec<f64> = (0..PANEL_COLUMNS).map(|col| value(of_x(m, col))).collect();
            for row in 0..WIDE_ROWS {
                let products =
                    x.iter().enumerate().map(|(col, x)| x * value(panel.bits[Panel::at(row, col)]));
                let sum = &mut sums[row * self.x.rows + m];
                *sum = (f64::from(*sum) + products.sum::<f64>()) as f32;
            }
        }
    }

    /// Scales the sums of a row of units, adds the bias and stores the outputs.
    fn store(&self, row: u32, sums: &Sums, store: &mut impl FnMut(usize, usize, f32)) {
        for (at, &sum) in sums.iter().enumerate() {
            let (n, m) = (row as usize * WIDE_ROWS + at / self.x.rows, at % self.x.rows);
            if n < self.layer.blob.rows() {
                let scale = self.scale.map_or(1.0, |scale| scale[n]);
                store(m, n, sum * scale + self.bias.map_or(0.0, |bias| bias[n]));
            }
        }
    }
}

/// Adds `partials` times the scales of rows of W to `sums`, and zeros them.
fn add(sums: &mut Sums, partials: &mut Sums, scale: impl Fn(usize) -> f32, x_rows: usize) {
    for (at, (sum, partial)) in sums.iter_mut().zip(partials).enumerate() {
        *sum += scale(at / x_rows) * std::mem::take(partial);
    }
}
