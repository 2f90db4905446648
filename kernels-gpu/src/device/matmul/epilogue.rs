//! From accumulators to outputs.
//!
//! Where several warps have parts of a row of tiles, each writes its sums to a slot of its own, and
//! counts itself; the one that comes last adds all of them, its own included, in the order of K, so that
//! the result does not depend on who that is.

use super::sums::{Sums, for_each_tile, nothing};
use super::{Arguments, Kind};
use crate::device::instructions::{
    acquire, block, blocks, count_arrival, lane, load_partial, of_first_lane, opaque, round,
    store_global_4, threads, warp, warp_barrier,
};
use crate::device::unrolled;
use fused_rans_layout::{LANES, Partition, Run, SLAB_ROWS, SLABS, TILE, sum_bytes};

/// A warp's place in the grid.
pub struct Place {
    pub partition: Partition,
    pub block: u32,
    pub group: u32,
    pub slab: u32,
}

impl Place {
    /// This warp's, in a grid of `blocks` blocks.
    #[inline(always)]
    pub fn new(arguments: &Arguments, blocks: u32) -> Self {
        let across = arguments.cols.div_ceil(TILE as u32);
        let tiles = across * arguments.rows.div_ceil(TILE as u32);
        let groups_log2 = (threads() / (LANES * SLABS) as u32).ilog2();
        Self {
            partition: Partition::divide(across, tiles, blocks, groups_log2),
            block: block() as u32,
            group: warp() as u32 / SLABS as u32,
            slab: warp() as u32 % SLABS as u32,
        }
    }

    /// Where worker `worker` leaves its sums for part `part` of a row of tiles: a worker has at most
    /// one part that is the row's first, and one that is not.
    #[inline(always)]
    fn slot<const B: usize>(&self, partials: *mut f32, worker: u32, first: bool) -> *mut f32 {
        let slot = 2 * (worker * SLABS as u32 + self.slab) + u32::from(first);
        partials.wrapping_add(slot as usize * (sum_bytes(B) / 4) + 4 * lane())
    }
}

/// Finishes the tiles `part` of row `row`.
///
/// # Safety
/// As the kernels'; all lanes of the warp are here.
#[inline(always)]
pub unsafe fn finish<const B: usize>(
    kind: Kind,
    arguments: &Arguments,
    row: u32,
    part: Run,
    mut sums: Sums<B>,
) {
    // Worked out anew, so that the mainloop need not keep it in registers.
    let place = &Place::new(arguments, opaque(blocks()));
    let all = place.partition.row(row);
    if part != all {
        // SAFETY: the caller's promise.
        let Some(total) = (unsafe { add_up(arguments, place, row, part, &sums) }) else { return };
        sums = total;
    }
    // SAFETY: the caller's promise.
    unsafe { store(kind, arguments, row * TILE as u32 + place.slab * SLAB_ROWS as u32, &sums) };
}

/// Leaves this warp's sums; if all others are there, adds them up.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn add_up<const B: usize>(
    arguments: &Arguments,
    place: &Place,
    row: u32,
    part: Run,
    sums: &Sums<B>,
) -> Option<Sums<B>> {
    let partition = &place.partition;
    let first = partition.row(row).start;
    let worker = place.block << partition.groups_log2 | place.group;
    let own = place.slot::<B>(arguments.partials, worker, part.start == first);
    for_each_tile::<B>(
        #[inline(always)]
        |strip, tile| {
            let to = own.wrapping_add(4 * LANES * (B * strip + tile));
            let [a, b, c, d] = sums[strip][tile];
            // SAFETY: the slot is as large as the sums of a warp.
            unsafe { store_global_4(to.cast(), [a, b, c, d].map(f32::to_bits)) };
        },
    );
    // What the others of the warp have written, the first lane's count releases, too.
    warp_barrier();
    let mut workers = 0;
    partition.for_each_worker(row, place.slab, |_, _| workers += 1);
    let counter = arguments.counters.wrapping_add((row * SLABS as u32 + place.slab) as usize);
    let mut before = 0;
    if lane() == 0 {
        // SAFETY: there is a counter for every row of tiles and slab.
        before = unsafe { count_arrival(counter) };
    }
    if of_first_lane(before) != workers - 1 {
        return None;
    }
    acquire();
    if lane() == 0 {
        // SAFETY: as above; nobody else will come.
        unsafe { *counter = 0 };
    }
    let mut total = nothing();
    partition.for_each_worker(row, place.slab, |worker, part| {
        let slot = place.slot::<B>(arguments.partials, worker, part.start == first);
        for_each_tile::<B>(
            #[inline(always)]
            |strip, tile| {
                let from = slot.wrapping_add(4 * LANES * (B * strip + tile));
                // SAFETY: a slot of the same size.
                let sums = unsafe { load_partial(from) };
                unrolled::<4>(
                    #[inline(always)]
                    |i| total[strip][tile][i] += sums[i],
                );
            },
        );
    });
    Some(total)
}

/// Scales, adds the bias and stores the outputs of the slab whose first row is `row`.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn store<const B: usize>(kind: Kind, arguments: &Arguments, row: u32, sums: &Sums<B>) {
    let (g, t) = (lane() as u32 / 4, lane() as u32 % 4);
    unrolled::<4>(
        #[inline(always)]
        |eight| {
            // Rows g, g + 8, g + 16, g + 24.
            let n = row + 8 * eight as u32 + g;
            if n >= arguments.rows {
                return;
            }
            // SAFETY: there are as many as rows of W, or none.
            let (scale, bias) =
                unsafe { (of_row(arguments.scale, n, 1.0), of_row(arguments.bias, n, 0.0)) };
            unrolled::<B>(
                #[inline(always)]
                |tile| {
                    let sums = sums[eight / 2][tile];
                    for (low, sum) in
                        [sums[eight % 2 * 2], sums[eight % 2 * 2 + 1]].into_iter().enumerate()
                    {
                        let m = (8 * tile + low) as u32 + 2 * t;
                        if m < arguments.m {
                            let at = m as usize * arguments.leading_y as usize + n as usize;
                            // SAFETY: row and column of y exist.
                            unsafe { store_output(kind, arguments, at, sum * scale + bias) };
                        }
                    }
                },
            );
        },
    );
}

/// Number `row` of `numbers`; `default` if there are none.
///
/// # Safety
/// `numbers` is null, or has such a number.
#[inline(always)]
unsafe fn of_row(numbers: *const f32, row: u32, default: f32) -> f32 {
    if numbers.is_null() {
        default
    } else {
        // SAFETY: the caller's promise.
        unsafe { *numbers.add(row as usize) }
    }
}

/// # Safety
/// Element `at` of y exists.
#[inline(always)]
unsafe fn store_output(kind: Kind, arguments: &Arguments, at: usize, value: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        if arguments.output_f32() {
            *arguments.y.cast::<f32>().add(at) = value;
        } else {
            *arguments.y.cast::<u16>().add(at) = round(kind.operand, value);
        }
    }
}
