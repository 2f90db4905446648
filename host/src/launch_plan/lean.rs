//! Launch plans of the lean kernels.

use super::wide::is_wide;
use super::{Device, LaunchPlan, LayerShape};
use fused_rans_layout::{LeanMemory, LeanPartition, MAX_LEAN_WARPS, SLAB_ROWS, lean_sum_bytes};

/// Fewest warps of a block for which a plan is chosen, where a layer has so many rows of slabs.
const MIN_WARPS: u32 = 4;

/// Microseconds that a block of one warp takes for a slab, and that each other warp adds, while all take one. Measured
/// on an H200: 4.7 us with 8 warps, 6.8 us with 16.
const SLAB_US: [f64; 2] = [2.6, 0.26];

/// What a round in which only some warps take a slab costs more: 2.4 us for 6144 x 4096.
const UNEVEN_US: f64 = 2.0;

/// Chooses the plan for at most `octets` octets of x; `None` if the layer does not fit.
///
/// A block has a warp for each row of slabs of a row block. Few large layers come out even for every number of warps.
/// So the plan is the one that takes least time by a model: how often all warps of a block take a slab, and how long
/// that takes.
pub fn choose(device: Device, layer: LayerShape, octets: u32) -> Option<LaunchPlan> {
    let slab_rows = u32::try_from(layer.grid.rows.div_ceil(SLAB_ROWS)).ok()?;
    let most = (MAX_LEAN_WARPS as u32).min(slab_rows);
    let plan =
        |warps, blocks| LaunchPlan { octets, blocks, warps, buffer_rows: buffer_rows(layer) };
    let mut best: Option<(f64, LaunchPlan)> = None;
    for warps in MIN_WARPS.min(most)..=most {
        let Some(largest) = most_blocks(device, layer, warps) else { continue };
        if plan(warps, largest).shared_memory(layer)? > device.shared_memory {
            break;
        }
        // Fewer blocks may come out even.
        for blocks in (largest - largest / 5)..=largest {
            let Some(partition) = plan(warps, blocks).lean_partition(layer) else { continue };
            let us = time(partition);
            if best.is_none_or(|(least, _)| us < least) {
                best = Some((us, plan(warps, blocks)));
            }
        }
    }
    best.map(|(_, plan)| plan)
}

/// Returns the plan that takes least shared memory; `None` if the kernels cannot divide the layer.
pub fn smallest(device: Device, layer: LayerShape) -> Option<LaunchPlan> {
    let slab_rows = u32::try_from(layer.grid.rows.div_ceil(SLAB_ROWS)).ok()?;
    let warps = MIN_WARPS.min(slab_rows);
    let blocks = most_blocks(device, layer, warps)?;
    let plan = LaunchPlan { octets: 1, blocks, warps, buffer_rows: buffer_rows(layer) };
    plan.lean_partition(layer).map(|_| plan)
}

/// Returns the most blocks, of `warps` warps, that a layer can have: each has a column of a row block at least.
fn most_blocks(device: Device, layer: LayerShape, warps: u32) -> Option<u32> {
    let slab_rows = u32::try_from(layer.grid.rows.div_ceil(SLAB_ROWS)).ok()?;
    let slabs = slab_rows.checked_mul(u32::try_from(layer.grid.across()).ok()?)?;
    Some((slabs / warps).min(device.multiprocessors)).filter(|&blocks| blocks > 0)
}

/// Returns the microseconds that the slowest block takes, by the model.
fn time(partition: LeanPartition) -> f64 {
    let LeanPartition { slab_rows, warps, each, longer, .. } = partition;
    let most = each + u32::from(longer > 0);
    let of_height = |height: u32| {
        let round = |warps: u32| SLAB_US[0] + SLAB_US[1] * f64::from(warps);
        let (rounds, rest) = (most / height, most % height);
        f64::from(rounds) * round(height) + if rest > 0 { round(rest) + UNEVEN_US } else { 0.0 }
    };
    // The last row block may have fewer rows, and the blocks that take it as many slabs.
    let last = slab_rows - (slab_rows - 1) / warps * warps;
    of_height(warps).max(of_height(last))
}

/// Returns the lines of a buffer for words and what comes with them. A warp has two.
pub fn buffer_rows(layer: LayerShape) -> u32 {
    layer.rows_of_words.max(2)
}

impl LaunchPlan {
    /// Divides a resident layer among warps, or blocks of the wide kernels. Returns `None` if the kernels cannot.
    #[must_use]
    pub fn lean_partition(self, layer: LayerShape) -> Option<LeanPartition> {
        if is_wide(self.octets) {
            return self.wide_partition(layer);
        }
        LeanPartition::new(layer.grid, self.blocks, self.warps)
    }

    /// Returns whether the lean kernels can be launched with this plan.
    pub(super) fn is_possible_lean(self, layer: LayerShape) -> bool {
        self.warps <= MAX_LEAN_WARPS as u32
            && self.buffer_rows >= buffer_rows(layer)
            && self.lean_partition(layer).is_some()
    }

    /// Returns the size of a block's shared memory in bytes; `None` if it overflows.
    pub(super) fn lean_shared_memory(self, layer: LayerShape) -> Option<u32> {
        let Self { octets, warps, buffer_rows, .. } = self;
        // Far more than any device has, and far less than overflows.
        (warps <= 64 && buffer_rows <= 1 << 10 && octets <= 8).then(|| {
            let octets = octets as usize;
            LeanMemory::new(octets, layer.raw_bits, layer.grouped, warps, buffer_rows).bytes
        })
    }

    /// Returns the bytes of partial sums: two slots for each warp of each block.
    pub(super) fn lean_partial_bytes(self) -> Option<usize> {
        let slots = 2 * (self.blocks as usize).checked_mul(self.warps as usize)?;
        slots.checked_mul(lean_sum_bytes(self.octets as usize))
    }
}
