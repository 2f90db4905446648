//! From accumulators to outputs.
//!
//! A warp that has a whole band stores its outputs. Otherwise it saves its sums, and when all warps of the block have
//! finished, they add these up. If several blocks share a band, each saves its sum in a slot of the workspace and
//! increments a counter; the block that comes last adds all slots. Sums are always added in the order of K, so
//! the result does not depend on which block comes last.

use super::sums::{Sums, for_each_fragment};
use crate::device::matmul::{Arguments, Kind};
use crate::device::ptx::{
    acquire, barrier, blocks, broadcast_first_lane, count_arrival, load_global, load_partial,
    load_shared_words, opaque, reread_block, reread_lane, reread_warp, reread_warps, round,
    shared_memory, store_global, store_global_4, store_global_u16, store_shared_4, warp_barrier,
};
use crate::{MmaType, unrolled};
use fused_rans_layout::{
    FRAGMENT, LANES, Partition, Run, SLAB_ROWS, SLAB_STRIPS, TABLE, TILE, ring_bytes,
};

/// Sums of a fragment: 16 rows of W times an octet, four for each lane.
const FRAGMENT_SUMS: usize = 4 * LANES;

/// Returns the partition of a launch in which a warp decodes `S` slabs at a time.
#[inline(always)]
pub fn partition<const S: usize>(arguments: &Arguments, blocks: u32) -> Partition {
    // Opaque, so that the epilogue computes it again instead of holding it in registers through the mainloop.
    let (rows, cols) = (opaque(arguments.rows), opaque(arguments.cols));
    Partition::divide(rows, cols, S, blocks, reread_warps())
}

/// D fragments of a band: of every slab, strip and octet.
const fn fragments(octets: usize, slabs: usize) -> usize {
    slabs * SLAB_STRIPS * octets
}

/// Returns where fragment `fragment` of the workspace's slot `number` is. Every warp has a slot, and after these, every
/// block has two.
#[inline(always)]
fn slot<const B: usize, const S: usize>(
    arguments: &Arguments,
    number: u32,
    fragment: usize,
) -> *mut f32 {
    let at = number as usize * fragments(B, S) + fragment;
    arguments.partials.wrapping_add(at * FRAGMENT_SUMS + 4 * reread_lane())
}

/// Returns where a block saves fragment `fragment` of its part of a band. `first` says whether the part is the band's
/// first. A block shares at most one first part and one other part, so two slots are enough.
#[inline(always)]
fn block_slot<const B: usize, const S: usize>(
    arguments: &Arguments,
    blocks: u32,
    block: u32,
    first: bool,
    fragment: usize,
) -> *mut f32 {
    let number = blocks * reread_warps() + 2 * block + u32::from(first);
    slot::<B, S>(arguments, number, fragment)
}

/// Returns the address in shared memory where a warp saves sums when its run ends.
#[inline(always)]
fn saved<const B: usize>(raw_bits: u32, warp: u32, fragment: usize) -> u32 {
    let rings = shared_memory() + 4 * TABLE as u32;
    rings
        + warp * ring_bytes(B, raw_bits) as u32
        + (4 * (fragment * FRAGMENT_SUMS + 4 * reread_lane())) as u32
}

/// Stores the outputs of band `band`, or if the warp has only `part` of it, saves its sums for [`finish_block`]: in
/// shared memory if its run `ends` here, because its ring is not used any more, else in its slot. The latter
/// happens at most once, since a run that goes on can miss a part of its first band only.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn finish<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    raw_bits: u32,
    band: u32,
    part: Run,
    ends: bool,
    sums: &[Sums<B>; S],
) {
    let whole = part.len() == arguments.cols.div_ceil(TILE as u32);
    let number = reread_block() * reread_warps() + reread_warp();
    unrolled::<S>(
        #[inline(always)]
        |s| {
            for_each_fragment::<B>(
                #[inline(always)]
                |strip, octet| {
                    let (fragment, sums) =
                        ((s * SLAB_STRIPS + strip) * B + octet, sums[s][strip][octet]);
                    // SAFETY: the caller's promise; ring and slot have room for all fragments.
                    unsafe {
                        if whole {
                            store::<B, S>(kind, arguments, band, fragment, sums);
                        } else if ends {
                            let to = saved::<B>(raw_bits, reread_warp(), fragment);
                            store_shared_4(to, sums.map(f32::to_bits));
                        } else {
                            store_slot(slot::<B, S>(arguments, number, fragment), sums);
                        }
                    }
                },
            );
        },
    );
}

/// Adds up the sums that the block's warps have saved, a fragment for each warp in turn, and stores the outputs of
/// complete bands.
///
/// # Safety
/// As for [`finish`]; all threads of the block are here and have finished their segments.
#[inline(always)]
pub unsafe fn finish_block<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    raw_bits: u32,
) {
    barrier();
    // Opaque, so that the mainloop does not hold it in registers.
    let blocks = opaque(blocks());
    let partition = partition::<S>(arguments, blocks);
    let own = partition.block(reread_block());
    if own.is_empty() || partition.across == 1 {
        return;
    }
    let fragments = fragments(B, S) as u32;
    let (first, last) = (own.start / partition.across, (own.end - 1) / partition.across);
    let mut item = reread_warp();
    while item < (last - first + 1) * fragments {
        let (band, fragment) = (first + item / fragments, (item % fragments) as usize);
        item += reread_warps();
        let all = partition.band(band);
        let part = all.intersect(own);
        let (from, to) = partition.warps_of(own, part);
        if part == all && from == to {
            continue;
        }
        let goes_on = partition.warp(own, to).end > all.end;
        // SAFETY: these warps have saved their sums before the barrier.
        let mut sums =
            unsafe { add_warps::<B, S>(arguments, raw_bits, from, to, goes_on, fragment) };
        if part != all {
            let (from, to) = partition.blocks_of(all);
            let starts = part.start == all.start;
            let slot = block_slot::<B, S>(arguments, blocks, reread_block(), starts, fragment);
            // SAFETY: the slot is the block's; there is a counter for every fragment of a band.
            let comes_last = unsafe {
                store_slot(slot, sums);
                let counter = band * fragments + fragment as u32;
                arrive(arguments.counters.wrapping_add(counter as usize), to - from)
            };
            if !comes_last {
                continue;
            }
            // SAFETY: all blocks that have a part of the band have saved it.
            sums = unsafe { add_blocks::<B, S>(arguments, blocks, from, to, fragment) };
        }
        // SAFETY: the caller's promise.
        unsafe { store::<B, S>(kind, arguments, band, fragment, sums) };
    }
}

/// Adds up the sums that warps `from` to `to` of the block have saved of a band, in this order. All their runs end in the
/// band, except that the last one may go on (`goes_on`).
///
/// # Safety
/// They have saved them.
#[inline(always)]
unsafe fn add_warps<const B: usize, const S: usize>(
    arguments: &Arguments,
    raw_bits: u32,
    from: u32,
    to: u32,
    goes_on: bool,
    fragment: usize,
) -> [f32; 4] {
    let mut last = [0.0; 4];
    if goes_on {
        let number = reread_block() * reread_warps() + to;
        // SAFETY: the caller's promise.
        last = unsafe { load_partial(slot::<B, S>(arguments, number, fragment)) };
    }
    let mut total = [0.0; 4];
    for warp in from..to + u32::from(!goes_on) {
        // SAFETY: the caller's promise.
        let sums = unsafe { load_shared_words(saved::<B>(raw_bits, warp, fragment)) };
        add(&mut total, sums.map(f32::from_bits));
    }
    add(&mut total, last);
    total
}

#[inline(always)]
fn add(total: &mut [f32; 4], sums: [f32; 4]) {
    unrolled::<4>(
        #[inline(always)]
        |i| total[i] += sums[i],
    );
}

/// Increments a counter, and returns whether `others` have done so before. If so, what they have stored is visible, and
/// the counter is 0 again.
///
/// # Safety
/// There is such a counter.
#[inline(always)]
pub unsafe fn arrive(counter: *mut u32, others: u32) -> bool {
    // The first lane's increment releases what the other lanes have written, too.
    warp_barrier();
    let mut before = 0;
    if reread_lane() == 0 {
        // SAFETY: the caller's promise.
        before = unsafe { count_arrival(counter) };
    }
    if broadcast_first_lane(before) != others {
        return false;
    }
    acquire();
    if reread_lane() == 0 {
        // SAFETY: the caller's promise; all others have incremented it.
        unsafe { store_global(counter, 0) };
    }
    true
}

/// Slots that are loaded at once.
const LOADS: usize = 4;

/// Adds up the sums that blocks `from` to `to` have saved of a band, in this order.
///
/// # Safety
/// They have saved them.
#[inline(always)]
unsafe fn add_blocks<const B: usize, const S: usize>(
    arguments: &Arguments,
    blocks: u32,
    from: u32,
    to: u32,
    fragment: usize,
) -> [f32; 4] {
    let mut total = [0.0; 4];
    let mut first = from;
    while first <= to {
        let mut loaded = [[0.0; 4]; LOADS];
        unrolled::<LOADS>(
            #[inline(always)]
            |i| {
                let number = first + i as u32;
                if number <= to {
                    let slot =
                        block_slot::<B, S>(arguments, blocks, number, number == from, fragment);
                    // SAFETY: the caller's promise.
                    loaded[i] = unsafe { load_partial(slot) };
                }
            },
        );
        unrolled::<LOADS>(
            #[inline(always)]
            |i| add(&mut total, loaded[i]),
        );
        first += LOADS as u32;
    }
    total
}

/// Saves a lane's sums of a fragment.
///
/// # Safety
/// `slot` has room for them.
#[inline(always)]
unsafe fn store_slot(slot: *mut f32, sums: [f32; 4]) {
    // SAFETY: the caller's promise.
    unsafe { store_global_4(slot.cast(), sums.map(f32::to_bits)) };
}

/// Scales the sums of fragment `fragment` of a band, adds the bias and stores the outputs.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn store<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    band: u32,
    fragment: usize,
    sums: [f32; 4],
) {
    let (g, t) = (reread_lane() as u32 / 4, reread_lane() as u32 % 4);
    let (strip, octet) = ((fragment / B) as u32, (fragment % B) as u32);
    let row = band * (S * SLAB_ROWS) as u32 + FRAGMENT as u32 * strip;
    unrolled::<2>(
        #[inline(always)]
        |half| {
            // Rows g and g + 8.
            let n = row + 8 * half as u32 + g;
            if n >= arguments.rows {
                return;
            }
            // SAFETY: there is one for each row of W, or none.
            let (scale, bias) =
                unsafe { (for_row(arguments.scale, n, 1.0), for_row(arguments.bias, n, 0.0)) };
            unrolled::<2>(
                #[inline(always)]
                |low| {
                    let m = 8 * octet + 2 * t + low as u32;
                    if m < arguments.x_rows {
                        let at = m as usize * arguments.y_row_stride as usize + n as usize;
                        let value = sums[2 * half + low] * scale + bias;
                        // SAFETY: row and column of y exist.
                        unsafe {
                            store_output(
                                kind.mma_type,
                                arguments.y,
                                arguments.outputs_are_f32(),
                                at,
                                value,
                            )
                        };
                    }
                },
            );
        },
    );
}

/// Loads element `row` of `numbers`; returns `default` if there are none.
///
/// # Safety
/// `numbers` is null, or has such an element.
#[inline(always)]
pub unsafe fn for_row(numbers: *const f32, row: u32, default: f32) -> f32 {
    if numbers.is_null() {
        default
    } else {
        // SAFETY: the caller's promise.
        let [bits] = unsafe { load_global(numbers.wrapping_add(row as usize).cast()) };
        f32::from_bits(bits)
    }
}

/// Stores element `at` of y: an F32, or a number of the activations' type.
///
/// # Safety
/// The element exists.
#[inline(always)]
pub unsafe fn store_output(mma_type: MmaType, y: *mut u8, is_f32: bool, at: usize, value: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_f32 {
            store_global(y.cast::<u32>().wrapping_add(at), value.to_bits());
        } else {
            let value = u32::from(round(mma_type, value));
            store_global_u16(y.cast::<u16>().wrapping_add(at), value);
        }
    }
}
