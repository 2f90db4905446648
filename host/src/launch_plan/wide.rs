//! Launch plans of the wide kernels.

use super::lean::buffer_rows;
use super::{Device, LaunchPlan, LayerShape};
use fused_rans_layout::{
    LeanPartition, MAX_DECODER_GROUPS, MAX_LEAN_OCTETS, TILE, WARPGROUP, WIDE_ROWS, WideMemory,
    lean_sum_bytes, packed_bytes,
};

/// Most octets that the wide kernels take of a layer with groups, and of others.
const MAX_OCTETS: [u32; 2] = [8, 16];

/// Returns whether so many octets of a resident layer are for the wide kernels.
pub fn is_wide(octets: u32) -> bool {
    octets as usize > MAX_LEAN_OCTETS
}

/// Chooses the plan for at most `octets` octets of x; `None` if the layer does not fit.
///
/// The more warps decode, the faster: as many warpgroups as there is shared memory for. The plan has as few blocks as take no
/// longer than most blocks would, so that few share a row.
pub fn choose(device: Device, layer: LayerShape, octets: u32) -> Option<LaunchPlan> {
    let across = layer.grid.across();
    let units = u32::try_from(layer.grid.rows.div_ceil(WIDE_ROWS).checked_mul(across)?).ok()?;
    let each = units.div_ceil(units.min(device.multiprocessors).max(1));
    let blocks = units.div_ceil(each.max(1));
    (1..=MAX_DECODER_GROUPS).rev().find_map(|groups| {
        let warps = groups * WARPGROUP;
        let plan = LaunchPlan { octets, blocks, warps, buffer_rows: buffer_rows(layer) };
        let fits = plan.shared_memory(layer).is_some_and(|bytes| bytes <= device.shared_memory);
        (fits && device.multiprocessors > 0 && plan.is_possible(layer)).then_some(plan)
    })
}

impl LaunchPlan {
    /// Divides a resident layer among the blocks of the wide kernels. Returns `None` if they cannot.
    pub(super) fn wide_partition(self, layer: LayerShape) -> Option<LeanPartition> {
        LeanPartition::of_units(layer.grid, self.blocks)
    }

    /// Returns the warpgroups that decode.
    pub(crate) fn groups(self) -> u32 {
        self.warps / WARPGROUP
    }

    /// Returns whether the wide kernels can be launched with this plan.
    pub(super) fn is_possible_wide(self, layer: LayerShape) -> bool {
        self.octets <= MAX_OCTETS[usize::from(!layer.grouped)]
            && self.warps.is_multiple_of(WARPGROUP)
            && (1..=MAX_DECODER_GROUPS).contains(&self.groups())
            && self.buffer_rows >= buffer_rows(layer)
            && self.wide_partition(layer).is_some()
    }

    /// Returns the size of a block's shared memory in bytes; `None` if it overflows.
    pub(super) fn wide_shared_memory(self, layer: LayerShape) -> Option<u32> {
        let Self { octets, buffer_rows, .. } = self;
        // Far more than any device has, and far less than overflows.
        (self.warps <= 64 && buffer_rows <= 1 << 10 && octets <= 16).then(|| {
            WideMemory::new(octets as usize, layer.grouped, self.groups(), buffer_rows).bytes
        })
    }

    /// Returns the bytes of the packed activations, in front of the partial sums: 0 for other kernels.
    pub(crate) fn packed_bytes(self, layer: LayerShape) -> Option<usize> {
        if !(layer.lean && is_wide(self.octets)) {
            return Some(0);
        }
        packed_bytes(self.octets as usize, 1).checked_mul(layer.grid.cols.div_ceil(TILE))
    }

    /// Returns the bytes of packed activations and partial sums: two slots for each warp that multiplies of each block.
    pub(super) fn wide_partial_bytes(self, layer: LayerShape) -> Option<usize> {
        let slots = 2 * (self.blocks as usize).checked_mul(WARPGROUP as usize)?;
        let sums = slots.checked_mul(lean_sum_bytes(self.octets as usize))?;
        self.packed_bytes(layer)?.checked_add(sums)
    }
}
