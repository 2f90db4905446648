//! Launch plans of multiplications: rows of x per launch, blocks, warps and shared memory.

mod lean;
mod wide;

use crate::Blob;
use crate::resident::ResidentPlan;
use fused_rans_layout::{
    LANES, LINE, LOOK_AHEAD, MAX_WORD_ROWS, Partition, SLAB_STRIPS, TABLE, TileGrid, WARPGROUP,
    max_resident_warps, max_warps, ring_bytes, slabs_at_once, slabs_bytes, sum_bytes,
};
use wide::is_wide;

/// Properties of a device that launch plans depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
    /// Largest size of shared memory of a block in bytes.
    pub shared_memory: u32,
}

/// Properties of a layer that launch plans depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Rows and columns of the matrix.
    pub grid: TileGrid,
    /// Largest number of rows of words of a slab; for a resident layer, lines that these take together with what is
    /// copied with them.
    pub rows_of_words: u32,
    /// Number of raw bits of a weight.
    pub raw_bits: u32,
    /// Whether groups of weights have scales.
    pub grouped: bool,
    /// Whether the layer is resident, for the lean kernels.
    pub lean: bool,
}

impl LayerShape {
    /// Reads the properties of the layer from its blob.
    #[must_use]
    pub fn new(blob: &Blob<'_>) -> Self {
        let rows = blob.index().iter().flat_map(|tile| tile.full_rows.iter().zip(&tile.tail_rows));
        let rows = rows.map(|(&full, &tail)| u32::from(full) + u32::from(tail)).max();
        Self {
            grid: blob.grid(),
            rows_of_words: rows.unwrap_or(0),
            raw_bits: blob.split().raw_bits().into(),
            grouped: blob.groups().is_some(),
            lean: false,
        }
    }

    /// Reads the properties of a resident layer.
    #[must_use]
    pub fn of_resident(plan: &ResidentPlan<'_>) -> Self {
        Self { rows_of_words: plan.buffer_rows(), lean: true, ..Self::new(plan.blob()) }
    }
}

/// Launch parameters of a multiplication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchPlan {
    /// Largest number of octets (8 rows) of x of a launch: 1, 2, 4, 8 or, of a resident layer, 16. More rows take several
    /// launches.
    pub octets: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Number of warps of a block; of a wide kernel, those that decode.
    pub warps: u32,
    /// Number of rows of words of a warp's buffer, for each slab that the warp decodes at a time. With twice the rows
    /// of a slab, a warp always requests the words of the next slab early. With a third more than one slab it nearly
    /// always does. With fewer rows it waits for them.
    pub buffer_rows: u32,
}

/// Largest number of rows of x of one launch.
pub const MAX_BATCH: usize = 128;

/// Most octets of a launch for a layer that is a blob.
const MAX_BLOB_OCTETS: u32 = 8;

impl LaunchPlan {
    /// Chooses the plan for `rows` rows of x. Returns `None` if the kernels cannot multiply with this layer on this
    /// device.
    ///
    /// A block gets as many warps as registers and shared memory allow, with buffers that let them request words early.
    /// If fewer than two such warps fit, the plan shrinks the buffers, then the number of rows of x per launch.
    #[must_use]
    pub fn new(device: Device, layer: LayerShape, rows: usize) -> Option<Self> {
        let max_octets = 1 << Self::row_class(rows);
        let mut batches = [16, 8, 4, 2, 1].into_iter().filter(|&octets| octets <= max_octets);
        if layer.lean {
            return batches.find_map(|octets| match is_wide(octets) {
                false => lean::choose(device, layer, octets),
                true => wide::choose(device, layer, octets),
            });
        }
        batches.filter(|&octets| octets <= MAX_BLOB_OCTETS).find_map(|octets| {
            let warp_limit = max_warps(octets as usize) as u32;
            let rows = row_capacity(layer);
            let prefetching = (2..=warp_limit).rev().map(|warps| (warps, rows + rows / 3));
            let waiting = (1..=warp_limit).rev().map(|warps| (warps, rows));
            prefetching.chain(waiting).find_map(|(warps, buffer_rows)| {
                let plan = Self { octets, blocks: device.multiprocessors, warps, buffer_rows };
                plan.with_spare_rows(device, layer)
            })
        })
    }

    /// Returns the size of shared memory in bytes that a block of the smallest plan has. Use it to say what a device
    /// lacks that has no plan. Returns `None` if the kernels cannot divide the layer among the device's blocks.
    #[must_use]
    pub fn least_shared_memory(device: Device, layer: LayerShape) -> Option<u32> {
        if layer.lean {
            return lean::smallest(device, layer)?.shared_memory(layer);
        }
        let (blocks, buffer_rows) = (device.multiprocessors, row_capacity(layer));
        let plan = Self { octets: 1, blocks, warps: 1, buffer_rows };
        plan.partition(layer)?;
        plan.shared_memory(layer)
    }

    /// Returns the class of a number of rows of x: 0 for up to 8, 1 for up to 16, 2 for up to 32, 3 for up
    /// to 64, and 4 for more. All
    /// numbers of a class have the same plan.
    #[must_use]
    pub fn row_class(rows: usize) -> usize {
        rows.clamp(1, MAX_BATCH).div_ceil(8).next_power_of_two().ilog2() as usize
    }

    /// Enlarges the buffers to the shared memory that is free, up to twice the rows of a slab. Returns `None` if the
    /// plan does not fit.
    fn with_spare_rows(self, device: Device, layer: LayerShape) -> Option<Self> {
        let free = device.shared_memory.checked_sub(self.shared_memory(layer)?)?;
        let spare_rows = free / (LINE as u32 * self.warps * self.slabs() as u32);
        let buffer_rows = (self.buffer_rows + spare_rows).min(2 * row_capacity(layer));
        self.partition(layer).map(|_| Self { buffer_rows, ..self })
    }

    /// Returns the number of slabs that a warp decodes at a time.
    fn slabs(self) -> usize {
        slabs_at_once(self.octets as usize)
    }

    /// Divides the layer among the warps. Returns `None` if the layer is too large, or if there are no warps.
    #[must_use]
    pub fn partition(self, layer: LayerShape) -> Option<Partition> {
        Partition::new(layer.grid, self.slabs(), self.blocks, self.warps)
    }

    /// Returns whether kernels can be launched with this plan. Use it for plans that were not chosen by
    /// [`LaunchPlan::new`].
    #[must_use]
    pub fn is_possible(self, layer: LayerShape) -> bool {
        if layer.lean && is_wide(self.octets) {
            return [8, 16].contains(&self.octets) && self.is_possible_wide(layer);
        }
        if layer.lean {
            return [1, 2, 4].contains(&self.octets) && self.is_possible_lean(layer);
        }
        [1, 2, 4, 8].contains(&self.octets)
            && self.warps <= max_warps(self.octets as usize) as u32
            && self.buffer_rows >= row_capacity(layer)
            && self.partition(layer).is_some()
    }

    /// Returns the size of a block's shared memory in bytes; `None` if it overflows. It holds the decode table, the
    /// ring, slab slots and buffer rows of each warp, and, after the last buffer, as many rows as the longest possible
    /// stream: a damaged stream must not read beyond shared memory.
    #[must_use]
    pub fn shared_memory(self, layer: LayerShape) -> Option<u32> {
        if layer.lean && is_wide(self.octets) {
            return self.wide_shared_memory(layer);
        }
        if layer.lean {
            return self.lean_shared_memory(layer);
        }
        let octets = self.octets as usize;
        let ring = ring_bytes(octets, layer.raw_bits);
        let words = (self.buffer_rows as usize).checked_mul(LINE * self.slabs())?;
        let warp = words.checked_add(ring + slabs_bytes(octets, layer.grouped))?;
        let block = (self.warps as usize).checked_mul(warp)?;
        let table_and_margin = 4 * TABLE + (MAX_WORD_ROWS + LOOK_AHEAD) * LINE;
        u32::try_from(block.checked_add(table_and_margin)?).ok()
    }

    /// Returns the number of threads of a block.
    #[must_use]
    pub fn threads(self, layer: LayerShape) -> u32 {
        // The registers of wide kernels are divided among so many warps; those without work end at once.
        let wide = layer.lean && is_wide(self.octets);
        LANES as u32
            * if wide { max_resident_warps(self.octets as usize) as u32 } else { self.warps }
    }

    /// Returns the size of the partial sums (for the wide kernels also of packed activations) in the workspace of a launch in bytes; `None` if it overflows.
    #[must_use]
    pub fn partial_bytes(self, layer: LayerShape) -> Option<usize> {
        if layer.lean && is_wide(self.octets) {
            return self.wide_partial_bytes(layer);
        }
        if layer.lean {
            return self.lean_partial_bytes();
        }
        // One slot per warp, and two per block.
        let slots = self.blocks as usize * (self.warps as usize + 2);
        slots.checked_mul(sum_bytes(self.octets as usize))
    }

    /// Returns the number of counters of a launch: one for each fragment of sums of every band; for a resident layer,
    /// one for each row of slabs, about. Returns `None` if the layer is too large.
    #[must_use]
    pub fn counters(self, layer: LayerShape) -> Option<usize> {
        if layer.lean {
            let rows = self.lean_partition(layer)?.slab_rows as usize;
            // The wide kernels have a counter for each warp that multiplies.
            return Some(if is_wide(self.octets) { WARPGROUP as usize * rows } else { rows });
        }
        let fragments = self.slabs() * SLAB_STRIPS * self.octets as usize;
        Some(self.partition(layer)?.bands as usize * fragments)
    }
}

/// Returns the number of rows of words of the longest slab, plus the rows that a decoder looks ahead.
#[must_use]
pub fn row_capacity(layer: LayerShape) -> u32 {
    layer.rows_of_words + LOOK_AHEAD as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared memory of a block, on devices of compute capability 8.6, 8.9 and 12.0; 8.0; 9.0.
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
    /// (rows of words, raw bits) of Gaussian layers of every type. The last two have four weights per symbol.
    const LAYERS: [(u32, u32); 7] =
        [(24, 8), (24, 11), (22, 4), (24, 3), (29, 0), (12, 5), (14, 2)];

    fn layer((rows, cols): (usize, usize), (rows_of_words, raw_bits): (u32, u32)) -> LayerShape {
        LayerShape {
            grid: TileGrid { rows, cols },
            rows_of_words,
            raw_bits,
            grouped: raw_bits == 0 || raw_bits == 2,
            lean: false,
        }
    }

    #[test]
    fn every_shape_and_batch_has_a_plan_that_fits() {
        for shared_memory in SHARED_MEMORY {
            for multiprocessors in [16, 84, 108, 128, 132, 170] {
                let device = Device { multiprocessors, shared_memory };
                for (shape, kind) in SHAPES.into_iter().flat_map(|s| LAYERS.map(|l| (s, l))) {
                    for m in [1, 2, 4, 8, 9, 16, 17, 32, 33, 64, 65, 1000] {
                        let layer = layer(shape, kind);
                        let plan = LaunchPlan::new(device, layer, m).expect("there is one");
                        assert!(plan.shared_memory(layer).unwrap() <= shared_memory, "{plan:?}");
                        assert!(plan.is_possible(layer) && plan.partial_bytes(layer).is_some());
                        assert!(8 * plan.octets as usize <= m.next_power_of_two().max(8));
                    }
                }
            }
        }
    }

    #[test]
    fn every_resident_layer_has_a_plan_that_fits() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        for (shape, kind) in SHAPES.into_iter().flat_map(|s| LAYERS.map(|l| (s, l))) {
            for rows in [1, 8, 16, 32, 64, 128] {
                let layer = LayerShape { lean: true, ..layer(shape, kind) };
                let plan = LaunchPlan::new(device, layer, rows).expect("there is one");
                assert!(plan.shared_memory(layer).unwrap() <= device.shared_memory, "{plan:?}");
                assert!(plan.is_possible(layer) && plan.partial_bytes(layer).is_some());
            }
        }
    }

    #[test]
    fn resident_layers_come_out_even() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        let plan = |shape| {
            let layer = LayerShape { lean: true, ..layer(shape, LAYERS[0]) };
            let LaunchPlan { blocks, warps, .. } = LaunchPlan::new(device, layer, 1).unwrap();
            (blocks, warps)
        };
        assert_eq!(plan((4096, 4096)), (128, 16));
        assert_eq!(plan((6144, 4096)), (128, 12));
        assert_eq!(plan((5632, 2048)), (128, 11));
    }

    #[test]
    fn large_devices_have_many_warps_with_room_for_few_rows() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        for kind in LAYERS {
            let layer = layer((4096, 4096), kind);
            let plan = LaunchPlan::new(device, layer, 8).unwrap();
            assert!(plan.warps >= 10 && plan.octets == 1, "{layer:?} {plan:?}");
            assert!(plan.buffer_rows >= row_capacity(layer) * 4 / 3);
        }
    }

    #[test]
    fn layers_that_do_not_fit_have_no_plan() {
        let small = Device { multiprocessors: 10, shared_memory: 32 << 10 };
        assert_eq!(LaunchPlan::new(small, layer((256, 256), (24, 8)), 1), None);
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        let side = 1 << 25;
        assert_eq!(LaunchPlan::new(device, layer((side, side), (24, 8)), 1), None);
        let none = Device { multiprocessors: 0, ..device };
        assert_eq!(LaunchPlan::new(none, layer((256, 256), (24, 8)), 1), None);
    }

    #[test]
    fn the_least_shared_memory_is_what_a_device_needs() {
        let device = |shared_memory| Device { multiprocessors: 10, shared_memory };
        let small = device(0);
        for (lean, shape) in [false, true].into_iter().flat_map(|l| SHAPES.map(|s| (l, s))) {
            let layer = LayerShape { lean, ..layer(shape, (24, 8)) };
            let needed = LaunchPlan::least_shared_memory(small, layer).expect("it can be divided");
            assert!(LaunchPlan::new(device(needed), layer, 1).is_some(), "{layer:?}");
            assert_eq!(LaunchPlan::new(device(needed - 1), layer, 1), None, "{layer:?}");
            let side = 1 << 25;
            let large = LayerShape { grid: TileGrid { rows: side, cols: side }, ..layer };
            assert_eq!(LaunchPlan::least_shared_memory(small, large), None);
            let none = Device { multiprocessors: 0, ..small };
            assert_eq!(LaunchPlan::least_shared_memory(none, layer), None);
        }
    }

    #[test]
    fn all_numbers_of_rows_of_a_class_have_the_same_plan() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        let layer = layer((4096, 4096), LAYERS[0]);
        for rows in 0..200 {
            let largest = [8, 16, 32, 64, 128][LaunchPlan::row_class(rows)];
            assert!(rows <= largest || largest == 128);
            let plans = [rows, largest].map(|rows| LaunchPlan::new(device, layer, rows));
            assert_eq!(plans[0], plans[1], "{rows}");
        }
    }

    #[test]
    fn the_longest_streams_have_room_on_large_devices() {
        let device = Device { multiprocessors: 132, shared_memory: SHARED_MEMORY[2] };
        for raw_bits in [0, 4, 8, 11] {
            let plan =
                LaunchPlan::new(device, layer((4096, 4096), (MAX_WORD_ROWS as u32, raw_bits)), 64);
            assert!(plan.is_some(), "{raw_bits}");
        }
    }
}
