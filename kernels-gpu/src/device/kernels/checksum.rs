//! The kernel that finds out whether memory is what it was.

use crate::device::ptx::{
    barrier, block, lane, load_global, load_shared, minimum, shared_memory, store_shared, thread,
    warp, xor_of_lanes,
};
use crate::portable::crc::{entry, of_sums, sum_of_thread};
use core::arch::global_asm;
use fused_rans_layout::{LANES, REGION_THREADS, Region};

/// Entries of the table.
const ENTRIES: u32 = 4 * 256;

global_asm!("// entry-directives checksum: .maxntid {} .minnctapersm 4", const REGION_THREADS);

/// Compares the CRC of region `blockIdx.x` with what it should be, and lowers `first` to the region's number if it is
/// another. Blocks of [`REGION_THREADS`] threads; shared memory for the table and a word for each warp.
///
/// # Safety
/// There are as many regions as blocks, and each lies in memory of the device.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn checksum(regions: *const Region, first: *mut u32) {
    // SAFETY: there is a region for each block.
    let region = unsafe { &*regions.add(block()) };
    let (thread, table) = (thread() as u32, shared_memory());
    let at = |byte: u32, number: u32| table + 4 * (256 * number + byte);
    for number in 0..4 {
        // SAFETY: the table has room for it; there are as many threads as values of a byte.
        unsafe { store_shared(at(thread, number), entry(thread, number)) };
    }
    barrier();
    let words = region.address as *const u32;
    // SAFETY: inside the region, and the table.
    let word = |at: u32| unsafe { load_global::<1>(words.wrapping_add(at as usize)) }[0];
    let entry = |byte, number| unsafe { load_shared(at(byte, number)) };
    let sums = xor_of_lanes(sum_of_thread(region.words, thread, word, entry));
    let sums_at = |warp: u32| table + 4 * (ENTRIES + warp);
    if lane() == 0 {
        // SAFETY: there is a word for each warp.
        unsafe { store_shared(sums_at(warp() as u32), sums) };
    }
    barrier();
    if thread == 0 {
        // SAFETY: all warps have left their sums.
        let all = (0..REGION_THREADS / LANES as u32)
            .fold(0, |all, w| all ^ unsafe { load_shared(sums_at(w)) });
        if of_sums(all) != region.crc {
            // SAFETY: the caller's promise.
            unsafe { minimum(first, block() as u32) };
        }
    }
}
