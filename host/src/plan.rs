//! How a multiplication is launched: which kernel, how many blocks, how much shared memory.

use crate::Dtype;
use crate::matmul::Float;
use fused_rans_layout::{
    LINE, LOOK_AHEAD, MAX_ROWS, Partition, RING_STAGES, SLABS, TABLE, TileGrid, ring_stage_bytes,
    sum_bytes,
};

/// What a plan must know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most bytes of shared memory that a block may ask for.
    pub shared_memory: u32,
}

/// What a plan must know of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Its tiles.
    pub grid: TileGrid,
    /// Rows of words of its longest slab.
    pub rows_of_words: u32,
    /// Raw bits of a weight.
    pub raw_bits: u32,
}

/// How a multiplication is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Rows of x that a kernel takes at once, in eights: 1, 2, 4 or 8. More rows take several launches.
    pub batch_tiles: u32,
    /// Blocks.
    pub blocks: u32,
    /// log2 of the warps of a block that share a slab number; a block has 8 times as many warps.
    pub groups_log2: u32,
    /// Buffers of words of a warp: 2, or 1 where shared memory is short, in which case a warp waits for
    /// the next slab's.
    pub buffers: u32,
}

/// Rows of x that one launch takes at most.
pub const MAX_BATCH: usize = 64;

impl Plan {
    /// The plan for `m` rows of x; `None` if the device or the layer is none that the kernels can
    /// serve.
    ///
    /// As many warps as registers and shared memory allow: up to 16 rows of x that is 16 a multiprocessor,
    /// beyond, 8, since sums take more registers. Where shared memory is short, first the second
    /// buffers go, then x is taken fewer rows at a time.
    #[must_use]
    pub fn new(device: Device, layer: LayerShape, m: usize) -> Option<Self> {
        let most = m.clamp(1, MAX_BATCH).div_ceil(8).next_power_of_two() as u32;
        let batches = [8, 4, 2, 1].into_iter().filter(|&batch_tiles| batch_tiles <= most);
        batches.into_iter().find_map(|batch_tiles| {
            let most_groups = if batch_tiles > 2 { 0 } else { 1 };
            let shapes = [(most_groups, 2), (0, 2), (0, 1)];
            shapes.into_iter().find_map(|(groups_log2, buffers)| {
                let blocks = device.multiprocessors;
                let plan = Self { batch_tiles, blocks, groups_log2, buffers };
                let fits = plan.shared_memory(layer)? <= device.shared_memory;
                (fits && plan.partition(layer).is_some()).then_some(plan)
            })
        })
    }

    /// The division of the layer's slabs among warps; `None` if the layer is too large, or there is
    /// nobody.
    #[must_use]
    pub fn partition(self, layer: LayerShape) -> Option<Partition> {
        Partition::new(layer.grid, self.blocks, self.groups_log2)
    }

    /// Warps of a block.
    #[must_use]
    pub fn warps(self) -> u32 {
        (SLABS as u32) << self.groups_log2
    }

    /// Bytes of shared memory of a block: the decode table, the warps' sums, rings and buffers, and behind the last one
    /// as many rows as a stream can take, whatever its bits are. `None` if that overflows.
    #[must_use]
    pub fn shared_memory(self, layer: LayerShape) -> Option<u32> {
        let capacity = row_capacity(layer);
        let buffers = self.warps().checked_mul(self.buffers)?.checked_sub(1)?;
        let rows = buffers.checked_mul(capacity)?.checked_add((MAX_ROWS + LOOK_AHEAD) as u32)?;
        let batch_tiles = self.batch_tiles as usize;
        let ring = RING_STAGES as usize * ring_stage_bytes(batch_tiles, layer.raw_bits);
        let of_warps =
            u32::try_from(ring + sum_bytes(batch_tiles)).ok()?.checked_mul(self.warps())?;
        rows.checked_mul(LINE as u32)?.checked_add(4 * TABLE as u32)?.checked_add(of_warps)
    }

    /// Bytes of sums that a launch leaves in its workspace; `None` if that overflows.
    #[must_use]
    pub fn partial_bytes(self) -> Option<usize> {
        // Two slots a warp, each of 32 rows of W by 8 times `batch_tiles` rows of x.
        let slots = 2 * self.blocks as usize * self.warps() as usize;
        slots.checked_mul(sum_bytes(self.batch_tiles as usize))
    }
}

/// Rows of words that a buffer has room for.
#[must_use]
pub fn row_capacity(layer: LayerShape) -> u32 {
    layer.rows_of_words + LOOK_AHEAD as u32
}

/// What the kernels of a layer are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelKind {
    /// Type of the weights.
    pub dtype: Dtype,
    /// Raw bits of I8 weights.
    pub raw_bits: u8,
    /// Whether the decode table of BF16 or FP16 weights has wide entries.
    pub wide: bool,
    /// Whether there are groups.
    pub grouped: bool,
    /// Type of the activations.
    pub activations: Float,
}

impl KernelKind {
    /// Weights and activations, as kernels' names have them.
    fn types(self) -> String {
        let weights = match (self.dtype, self.wide, self.grouped) {
            (Dtype::Bf16, true, _) => "bf16".to_owned(),
            (Dtype::Bf16, false, _) => "bf16_any".to_owned(),
            (Dtype::F16, true, _) => "f16".to_owned(),
            (Dtype::F16, false, _) => "f16_any".to_owned(),
            (Dtype::F8E4M3, ..) => "f8".to_owned(),
            (Dtype::I8, _, true) => "i4".to_owned(),
            (Dtype::I8, _, false) => format!("i8_r{}", self.raw_bits),
        };
        let activations = if self.activations == Float::Bf16 { "bf16" } else { "f16" };
        format!("{weights}_{activations}")
    }

    /// Name of the kernel that multiplies with 8 times `batch_tiles` rows of x.
    #[must_use]
    pub fn matmul(self, batch_tiles: u32) -> String {
        format!("matmul_{}_m{}", self.types(), 8 * batch_tiles)
    }

    /// Name of the kernel that writes its A fragments out.
    #[must_use]
    pub fn fragments(self) -> String {
        format!("fragments_{}", self.types())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compute capabilities 8.6, 8.9 and 12.0; 8.0; 9.0.
    const SHARED_MEMORY: [u32; 3] = [99 << 10, 163 << 10, 227 << 10];
    const SHAPES: [(usize, usize); 9] = [
        (5632, 2048),
        (2048, 5632),
        (4096, 4096),
        (14336, 4096),
        (4096, 14336),
        (28672, 8192),
        (8192, 28672),
        (576, 1536),
        (1, 1),
    ];
    /// (rows of words, raw bits) of layers of every type, as Gaussian weights have them.
    const LAYERS: [(u32, u32); 5] = [(24, 8), (24, 11), (22, 4), (24, 3), (29, 0)];

    fn layer((rows, cols): (usize, usize), (rows_of_words, raw_bits): (u32, u32)) -> LayerShape {
        LayerShape { grid: TileGrid { rows, cols }, rows_of_words, raw_bits }
    }

    #[test]
    fn every_shape_and_batch_has_a_plan_that_fits() {
        for shared_memory in SHARED_MEMORY {
            for multiprocessors in [16, 84, 108, 128, 132, 170] {
                let device = Device { multiprocessors, shared_memory };
                for (shape, kind) in SHAPES.into_iter().flat_map(|s| LAYERS.map(|l| (s, l))) {
                    for m in [1, 2, 4, 8, 9, 16, 17, 32, 33, 64, 65, 1000] {
                        let layer = layer(shape, kind);
                        let plan = Plan::new(device, layer, m).expect("there is one");
                        assert!(plan.shared_memory(layer).unwrap() <= shared_memory, "{plan:?}");
                        assert!(plan.partition(layer).is_some() && plan.partial_bytes().is_some());
                        assert!(8 * plan.batch_tiles as usize <= m.next_power_of_two().max(8));
                        assert!([1, 2, 4, 8].contains(&plan.batch_tiles));
                    }
                }
            }
        }
    }

    #[test]
    fn large_devices_have_sixteen_warps_and_two_buffers_for_few_rows() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        for kind in LAYERS {
            let plan = Plan::new(device, layer((4096, 4096), kind), 8).unwrap();
            assert_eq!((plan.warps(), plan.buffers, plan.batch_tiles), (16, 2, 1), "{kind:?}");
        }
    }

    #[test]
    fn what_no_device_can_hold_has_no_plan() {
        let small = Device { multiprocessors: 10, shared_memory: 48 << 10 };
        assert_eq!(Plan::new(small, layer((256, 256), (24, 8)), 1), None);
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        let side = 1 << 25;
        assert_eq!(Plan::new(device, layer((side, side), (24, 8)), 1), None);
        let none = Device { multiprocessors: 0, ..device };
        assert_eq!(Plan::new(none, layer((256, 256), (24, 8)), 1), None);
    }

    #[test]
    fn the_longest_streams_have_room_on_large_devices() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        for raw_bits in [0, 4, 8, 11] {
            let plan = Plan::new(device, layer((4096, 4096), (MAX_ROWS as u32, raw_bits)), 64);
            assert!(plan.is_some(), "{raw_bits}");
        }
    }
}
