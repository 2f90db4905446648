//! Verifies checksums of regions of device memory.

use crate::device::ptx::{
    atomic_minimum, barrier, block, lane, load_global, load_shared, shared_memory, store_shared,
    thread, warp, xor_of_lanes,
};
use crate::portable::crc::{crc_of_sums, sum_of_thread, table_entry};
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{ChecksumArgs, LANES, REGION_THREADS, Region};

/// Entries of the table.
const ENTRIES: u32 = 4 * 256;

/// Compares the CRC of region `blockIdx.x` with the expected one, and if they differ, lowers `first_damaged` to the
/// region's number. Blocks of [`REGION_THREADS`] threads; shared memory for the table and a word for each warp.
///
/// # Safety
/// There are as many regions as blocks, and each lies in device memory.
#[inline(always)]
pub unsafe fn verify_region(arguments: &ChecksumArgs) {
    let regions: *const Region = with_exposed_provenance(arguments.regions as usize);
    // SAFETY: there is a region for each block, and the host aligns regions to their size.
    let [low, high, region_words, crc] =
        unsafe { load_global(regions.wrapping_add(block()).cast()) };
    let address = u64::from(high) << 32 | u64::from(low);
    let (thread, table) = (thread() as u32, shared_memory());
    let at = |byte: u32, number: u32| table + 4 * (256 * number + byte);
    for number in 0..4 {
        // SAFETY: the table has room for it; there are as many threads as values of a byte.
        unsafe { store_shared(at(thread, number), table_entry(thread, number)) };
    }
    barrier();
    let words: *const u32 = with_exposed_provenance(address as usize);
    // SAFETY: inside the region.
    let word = |at: u32| unsafe { load_global::<1>(words.wrapping_add(at as usize)) }[0];
    // SAFETY: inside the table.
    let entry = |byte, number| unsafe { load_shared(at(byte, number)) };
    let sums = xor_of_lanes(sum_of_thread(region_words, thread, word, entry));
    let sums_at = |warp: u32| table + 4 * (ENTRIES + warp);
    if lane() == 0 {
        // SAFETY: there is a word for each warp.
        unsafe { store_shared(sums_at(warp() as u32), sums) };
    }
    barrier();
    if thread == 0 {
        // SAFETY: all warps have stored their sums.
        let all = (0..REGION_THREADS / LANES as u32)
            .fold(0, |all, w| all ^ unsafe { load_shared(sums_at(w)) });
        if crc_of_sums(all) != crc {
            let first = with_exposed_provenance_mut(arguments.first_damaged as usize);
            // SAFETY: the host has allocated it.
            unsafe { atomic_minimum(first, block() as u32) };
        }
    }
}
