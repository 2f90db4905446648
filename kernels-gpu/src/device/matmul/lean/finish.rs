//! The sums of a row of slabs: the parts of several blocks, and outputs.

use super::Arguments;
use crate::device::matmul::Kind;
use crate::device::matmul::shared::epilogue::{arrive, for_row, store_output};
use crate::device::matmul::shared::sums::{Sums, add, for_each_fragment, zero};
use crate::device::ptx::{block, lane, load_partial, reread_lane, store_global_4};
use crate::unrolled;
use fused_rans_layout::{FRAGMENT, LANES, LeanPartition, SLAB_ROWS, SLAB_STRIPS, lean_sum_bytes};

/// A row of slabs, and the columns of tiles that a block has of it.
#[derive(Clone, Copy)]
pub struct Part {
    pub row_block: u32,
    /// Row in the row block: the warp.
    pub row: u32,
    pub from: u32,
    pub to: u32,
}

impl Part {
    /// Returns the number of the row of slabs in the layer.
    #[inline(always)]
    pub fn slab_row(self, partition: LeanPartition) -> u32 {
        self.row_block * partition.warps + self.row
    }
}

/// The rows of W that a warp has sums of.
#[derive(Clone, Copy)]
pub struct OwnRows {
    /// Number of their counter.
    pub number: u32,
    /// The warp's number among those of the block that have sums, and how many these are.
    pub place: (u32, u32),
    /// The first row, and the distance to that of the second strip.
    pub first: u32,
    pub to_next_strip: u32,
}

/// Ends a part: stores the outputs if it is all of its row of slabs. If not, saves its sums; the block that comes last
/// adds all up, in the order of the columns.
///
/// # Safety
/// The buffers are as large as the arguments say; all lanes are here.
#[inline(always)]
pub unsafe fn finish<const B: usize>(
    kind: Kind,
    arguments: &Arguments,
    partition: LeanPartition,
    part: Part,
    own: OwnRows,
    mut sums: Sums<B>,
) {
    if part.from != 0 || part.to != partition.across {
        // SAFETY: the caller's promise.
        unsafe {
            store_slot(slot::<B>(arguments, partition, part, own, block() as u32), &sums);
            let counter = arguments.counters.wrapping_add(own.number as usize);
            let (first, last) = partition.owners(part.row_block, part.row);
            if !arrive(counter, last - first) {
                return;
            }
            // As many loads at once as there are registers for.
            sums = match B {
                1 => add_up::<B, 8>(arguments, partition, part, own, (first, last)),
                2 => add_up::<B, 4>(arguments, partition, part, own, (first, last)),
                _ => add_up_each::<B>(arguments, partition, part, own, (first, last)),
            };
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store::<B>(kind, arguments, own, &sums) };
}

/// Returns the address of this lane's numbers in a block's slot. A block shares at most two parts of each row of a row block
/// with others: one in its first row block, one in its last.
#[inline(always)]
fn slot<const B: usize>(
    arguments: &Arguments,
    partition: LeanPartition,
    part: Part,
    own: OwnRows,
    block: u32,
) -> *mut f32 {
    let is_last = partition.run(block).start < partition.first(part.row_block);
    let (place, warps) = own.place;
    let slot = (2 * block + u32::from(is_last)) * warps + place;
    arguments.partials.wrapping_add(slot as usize * (lean_sum_bytes(B) / 4) + 4 * lane())
}

/// Returns the sum of what blocks `first` to `last` have saved of a row of slabs. `N` of them are loaded at once.
///
/// # Safety
/// They have saved it.
#[inline(always)]
unsafe fn add_up<const B: usize, const N: usize>(
    arguments: &Arguments,
    partition: LeanPartition,
    part: Part,
    own: OwnRows,
    (first, last): (u32, u32),
) -> Sums<B> {
    let mut sums = zero();
    let mut block = first;
    while block <= last {
        let mut loaded = [zero(); N];
        unrolled::<N>(
            #[inline(always)]
            |i| {
                let block = block + i as u32;
                if block <= last {
                    // SAFETY: the caller's promise.
                    loaded[i] =
                        unsafe { load_slot(slot::<B>(arguments, partition, part, own, block)) };
                }
            },
        );
        unrolled::<N>(
            #[inline(always)]
            |i| add(&mut sums, &mut loaded[i], &[[1.0; 2]; SLAB_STRIPS]),
        );
        block += N as u32;
    }
    sums
}

/// Returns the same, for so many octets that there are no registers for a second set of sums.
///
/// # Safety
/// As for [`add_up`].
#[inline(always)]
unsafe fn add_up_each<const B: usize>(
    arguments: &Arguments,
    partition: LeanPartition,
    part: Part,
    own: OwnRows,
    (first, last): (u32, u32),
) -> Sums<B> {
    let mut sums = zero();
    let mut block = first;
    while block <= last {
        let slot = slot::<B>(arguments, partition, part, own, block);
        for_each_fragment::<B>(
            #[inline(always)]
            |strip, octet| {
                let from = slot.wrapping_add((strip * B + octet) * 4 * LANES);
                // SAFETY: the caller's promise.
                let loaded = unsafe { load_partial(from) };
                unrolled::<4>(
                    #[inline(always)]
                    |i| sums[strip][octet][i] += loaded[i],
                );
            },
        );
        block += 1;
    }
    sums
}

/// # Safety
/// The slot exists.
#[inline(always)]
unsafe fn store_slot<const B: usize>(slot: *mut f32, sums: &Sums<B>) {
    for_each_fragment::<B>(
        #[inline(always)]
        |strip, octet| {
            let to = slot.wrapping_add((strip * B + octet) * 4 * LANES);
            // SAFETY: the caller's promise.
            unsafe { store_global_4(to.cast(), sums[strip][octet].map(f32::to_bits)) };
        },
    );
}

/// # Safety
/// The slot exists, and was stored before.
#[inline(always)]
unsafe fn load_slot<const B: usize>(slot: *mut f32) -> Sums<B> {
    let mut sums = zero();
    for_each_fragment::<B>(
        #[inline(always)]
        |strip, octet| {
            let from = slot.wrapping_add((strip * B + octet) * 4 * LANES);
            // SAFETY: the caller's promise.
            sums[strip][octet] = unsafe { load_partial(from) };
        },
    );
    sums
}

/// Scales the sums of a row of slabs, adds the bias and stores the outputs.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn store<const B: usize>(kind: Kind, arguments: &Arguments, own: OwnRows, sums: &Sums<B>) {
    let (g, t) = (reread_lane() as u32 / 4, reread_lane() as u32 % 4);
    unrolled::<4>(
        #[inline(always)]
        |i| {
            let (strip, half) = (i / 2, i % 2);
            let n = own.first + own.to_next_strip * strip as u32 + 8 * half as u32 + g;
            if n >= arguments.layer.rows {
                return;
            }
            // SAFETY: there is one for each row of W, or none.
            let (scale, bias) = unsafe {
                (for_row(arguments.layer.scale, n, 1.0), for_row(arguments.layer.bias, n, 0.0))
            };
            unrolled::<B>(
                #[inline(always)]
                |octet| {
                    unrolled::<2>(
                        #[inline(always)]
                        |low| {
                            let m = 8 * octet as u32 + 2 * t + low as u32;
                            if m < arguments.x_rows {
                                let at = m as usize * arguments.y_row_stride as usize + n as usize;
                                let value = sums[strip][octet][2 * half + low] * scale + bias;
                                let f32 = arguments
                                    .flags
                                    .contains(fused_rans_layout::MatmulFlags::OUTPUT_F32);
                                // SAFETY: row and column of y exist.
                                unsafe { store_output(kind.mma_type, arguments.y, f32, at, value) };
                            }
                        },
                    );
                },
            );
        },
    );
}
