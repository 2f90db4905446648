//! From accumulators to outputs.
//!
//! A warp that has a whole band stores its outputs. Else it leaves its sums, and when all warps of the
//! block are done, they add them up; where a band is shared by several blocks, each leaves what it
//! has in a slot, counts itself, and the one that comes last adds all of them. All this in the order of
//! K, so that the result does not depend on who comes last.

use super::sums::{Sums, for_each_tile};
use crate::device::matmul::{Arguments, Kind};
use crate::device::ptx::{
    acquire, barrier, block_anew, blocks, count_arrival, lane_anew, load_partial,
    load_shared_words, of_first_lane, opaque, round, shared_memory, store_global_4, store_shared_4,
    warp_anew, warp_barrier, warps_anew,
};
use crate::unrolled;
use fused_rans_layout::{
    FRAGMENT, LANES, Partition, Run, SLAB_ROWS, SLAB_STRIPS, TABLE, TILE, ring_bytes,
};

/// Numbers of a slot: a lane's sums of 16 rows of W and 8 of x, of all lanes.
const SLOT: usize = 4 * LANES;

/// The partition of a launch in which a warp decodes `S` slabs at a time.
#[inline(always)]
pub fn partition<const S: usize>(arguments: &Arguments, blocks: u32) -> Partition {
    // Worked out anew in the end, rather than kept all the way.
    let (rows, cols) = (opaque(arguments.rows), opaque(arguments.cols));
    Partition::divide(rows, cols, S, blocks, warps_anew())
}

/// D fragments of a unit's rows: of every slab, strip and 8 rows of x.
const fn fragments(octets: usize, slabs: usize) -> usize {
    slabs * SLAB_STRIPS * octets
}

/// Where a warp or a block leaves fragment `fragment` of its sums in the workspace: of the warps of all
/// blocks a slot each, of the blocks, after them, two.
#[inline(always)]
fn slot<const B: usize, const S: usize>(
    arguments: &Arguments,
    number: u32,
    fragment: usize,
) -> *mut f32 {
    let at = number as usize * fragments(B, S) + fragment;
    arguments.partials.wrapping_add(at * SLOT + 4 * lane_anew())
}

/// The slot in which a block leaves its part of a band, `first` if that is the band's first: a block has
/// at most one such part that it shares, and one other.
#[inline(always)]
fn block_slot<const B: usize, const S: usize>(
    arguments: &Arguments,
    blocks: u32,
    block: u32,
    first: bool,
    fragment: usize,
) -> *mut f32 {
    let number = blocks * warps_anew() + 2 * block + u32::from(first);
    slot::<B, S>(arguments, number, fragment)
}

/// Where, in shared memory, a warp leaves sums when its run ends.
#[inline(always)]
fn left<const B: usize>(raw_bits: u32, warp: u32, fragment: usize) -> u32 {
    let rings = shared_memory() + 4 * TABLE as u32;
    rings + warp * ring_bytes(B, raw_bits) as u32 + (4 * (fragment * SLOT + 4 * lane_anew())) as u32
}

/// Stores the outputs of band `band`, or, if the warp has but `part` of it, leaves its sums for
/// [`finish_block`]: in shared memory if its run `ends` there, since nothing else needs its ring
/// any more, else in its slot. That happens once, for only at the start of its run it can have
/// less than a whole band and go on.
///
/// # Safety
/// As the kernels'.
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
    let number = block_anew() * warps_anew() + warp_anew();
    unrolled::<S>(
        #[inline(always)]
        |s| {
            for_each_tile::<B>(
                #[inline(always)]
                |strip, tile| {
                    let (fragment, sums) =
                        ((s * SLAB_STRIPS + strip) * B + tile, sums[s][strip][tile]);
                    // SAFETY: the caller's promise; ring and slot have room for all fragments.
                    unsafe {
                        if whole {
                            store::<B, S>(kind, arguments, band, fragment, sums);
                        } else if ends {
                            let to = left::<B>(raw_bits, warp_anew(), fragment);
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

/// Adds up what the block's warps have left, each fragment one of them, and stores what is complete.
///
/// # Safety
/// As the kernels'; all threads of the block are here, and have finished their units.
#[inline(always)]
pub unsafe fn finish_block<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    raw_bits: u32,
) {
    barrier();
    // Worked out anew, so that the mainloop need not keep it in registers.
    let blocks = opaque(blocks());
    let partition = partition::<S>(arguments, blocks);
    let own = partition.block(block_anew());
    if own.is_empty() || partition.across == 1 {
        return;
    }
    let fragments = fragments(B, S) as u32;
    let (first, last) = (own.start / partition.across, (own.end - 1) / partition.across);
    let mut item = warp_anew();
    while item < (last - first + 1) * fragments {
        let (band, fragment) = (first + item / fragments, (item % fragments) as usize);
        item += warps_anew();
        let all = partition.band(band);
        let part = all.intersect(own);
        let (from, to) = partition.warps_of(own, part);
        if part == all && from == to {
            continue;
        }
        let goes_on = partition.warp(own, to).end > all.end;
        // SAFETY: these warps have left their sums before the barrier.
        let mut sums =
            unsafe { add_left::<B, S>(arguments, raw_bits, from, to, goes_on, fragment) };
        if part != all {
            let (from, to) = partition.blocks_of(all);
            let starts = part.start == all.start;
            let slot = block_slot::<B, S>(arguments, blocks, block_anew(), starts, fragment);
            // SAFETY: the slot is the block's; there is a counter for every fragment of a band.
            let comes_last = unsafe {
                store_slot(slot, sums);
                let counter = band * fragments + fragment as u32;
                arrive(arguments.counters.wrapping_add(counter as usize), to - from)
            };
            if !comes_last {
                continue;
            }
            // SAFETY: all blocks that have a part of the band have counted themselves.
            sums = unsafe { add_blocks::<B, S>(arguments, blocks, from, to, fragment) };
        }
        // SAFETY: the caller's promise.
        unsafe { store::<B, S>(kind, arguments, band, fragment, sums) };
    }
}

/// Sum of what warps `from` to `to` of the block have left, in that order. All runs end there, but the last one
/// may `go on`.
///
/// # Safety
/// They have left them.
#[inline(always)]
unsafe fn add_left<const B: usize, const S: usize>(
    arguments: &Arguments,
    raw_bits: u32,
    from: u32,
    to: u32,
    goes_on: bool,
    fragment: usize,
) -> [f32; 4] {
    let mut last = [0.0; 4];
    if goes_on {
        let number = block_anew() * warps_anew() + to;
        // SAFETY: the caller's promise.
        last = unsafe { load_partial(slot::<B, S>(arguments, number, fragment)) };
    }
    let mut total = [0.0; 4];
    for warp in from..to + u32::from(!goes_on) {
        // SAFETY: the caller's promise.
        let sums = unsafe { load_shared_words(left::<B>(raw_bits, warp, fragment)) };
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

/// Counts this warp, and says whether `others` have done so before it. Then what they have stored is visible,
/// and the counter is 0 again.
///
/// # Safety
/// There is such a counter.
#[inline(always)]
unsafe fn arrive(counter: *mut u32, others: u32) -> bool {
    // What the others of the warp have written, the first lane's count releases, too.
    warp_barrier();
    let mut before = 0;
    if lane_anew() == 0 {
        // SAFETY: the caller's promise.
        before = unsafe { count_arrival(counter) };
    }
    if of_first_lane(before) != others {
        return false;
    }
    acquire();
    if lane_anew() == 0 {
        // SAFETY: the caller's promise; nobody else will come.
        unsafe { *counter = 0 };
    }
    true
}

/// Slots that are loaded at a time.
const LOADS: usize = 4;

/// Sum of what blocks `from` to `to` have left of a band, in that order.
///
/// # Safety
/// They have left them.
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

/// # Safety
/// The slot is there.
#[inline(always)]
unsafe fn store_slot(slot: *mut f32, sums: [f32; 4]) {
    // SAFETY: the caller's promise.
    unsafe { store_global_4(slot.cast(), sums.map(f32::to_bits)) };
}

/// Scales, adds the bias and stores the outputs of fragment `fragment` of a band.
///
/// # Safety
/// As the kernels'.
#[inline(always)]
unsafe fn store<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    band: u32,
    fragment: usize,
    sums: [f32; 4],
) {
    let (g, t) = (lane_anew() as u32 / 4, lane_anew() as u32 % 4);
    let (strip, tile) = ((fragment / B) as u32, (fragment % B) as u32);
    let row = band * (S * SLAB_ROWS) as u32 + FRAGMENT as u32 * strip;
    unrolled::<2>(
        #[inline(always)]
        |half| {
            // Rows g and g + 8.
            let n = row + 8 * half as u32 + g;
            if n >= arguments.rows {
                return;
            }
            // SAFETY: there are as many as rows of W, or none.
            let (scale, bias) =
                unsafe { (of_row(arguments.scale, n, 1.0), of_row(arguments.bias, n, 0.0)) };
            unrolled::<2>(
                #[inline(always)]
                |low| {
                    let m = 8 * tile + 2 * t + low as u32;
                    if m < arguments.m {
                        let at = m as usize * arguments.leading_y as usize + n as usize;
                        let value = sums[2 * half + low] * scale + bias;
                        // SAFETY: row and column of y exist.
                        unsafe { store_output(kind, arguments, at, value) };
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
