//! Barriers, exchanges between lanes, and counters that blocks share.

use crate::unrolled;
use core::arch::{asm, nvptx};
use fused_rans_layout::LANES;

/// All lanes of a warp.
const ALL: u32 = u32::MAX;

// Instructions that wait for other threads are LLVM intrinsics, not `asm!`, so that LLVM knows that it must not move or
// copy them into branches that only some of these threads take.
unsafe extern "C" {
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    fn shfl_sync_idx(lanes: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    fn shfl_sync_bfly(lanes: u32, value: u32, mask: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    fn vote_ballot_sync(lanes: u32, value: bool) -> u32;
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    fn bar_warp_sync(lanes: u32);
}

/// Waits for all lanes of the warp; what they have written is visible to each other afterwards.
///
/// # PTX
/// `bar.warp.sync`
#[inline(always)]
pub fn warp_barrier() {
    // SAFETY: all lanes come here.
    unsafe { bar_warp_sync(ALL) };
}

/// Returns the mask of the lanes for which `value` is true, lane 0 lowest. All lanes of the warp must call this together.
///
/// # PTX
/// `vote.sync.ballot.b32`
#[inline(always)]
pub fn ballot(value: bool) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { vote_ballot_sync(ALL, value) }
}

/// Returns the value of lane 0. All lanes of the warp must call this together.
///
/// # PTX
/// `shfl.sync.idx.b32`
#[inline(always)]
pub fn broadcast_first_lane(value: u32) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { shfl_sync_idx(ALL, value, 0, LANES as u32 - 1) }
}

/// Returns the exclusive or of all lanes' values. All lanes of the warp must call this together.
///
/// # PTX
/// `shfl.sync.bfly.b32`, five times
#[inline(always)]
pub fn xor_of_lanes(mut value: u32) -> u32 {
    unrolled::<5>(
        #[inline(always)]
        |i| {
            // SAFETY: reads registers of the warp.
            value ^= unsafe { shfl_sync_bfly(ALL, value, 16 >> i, LANES as u32 - 1) };
        },
    );
    value
}

/// Waits for all threads of the block; what they have written is visible to each other afterwards.
///
/// # PTX
/// `bar.sync`
#[inline(always)]
pub fn barrier() {
    // SAFETY: kernels call this with all threads or none.
    unsafe { nvptx::_syncthreads() };
}

/// Increments a counter and returns its value before. Writes that this thread has seen are visible to threads that
/// increment it later and then [`acquire`].
///
/// # PTX
/// `atom.add.release.gpu.global.u32`
///
/// # Safety
/// The counter exists.
#[inline(always)]
pub unsafe fn count_arrival(counter: *mut u32) -> u32 {
    let before: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("atom.add.release.gpu.global.u32 {}, [{}], 1;", out(reg32) before,
            in(reg64) counter, options(nostack));
    }
    before
}

/// Lowers the number at `at` to `value` if it is larger.
///
/// # PTX
/// `red.relaxed.gpu.global.min.u32`
///
/// # Safety
/// The number exists.
#[inline(always)]
pub unsafe fn atomic_minimum(at: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("red.relaxed.gpu.global.min.u32 [{}], {};", in(reg64) at, in(reg32) value,
            options(nostack));
    }
}

/// Makes visible to this thread what other threads released with increments that it has seen.
///
/// # PTX
/// `fence.acq_rel.gpu`
#[inline(always)]
pub fn acquire() {
    // SAFETY: has no operands.
    unsafe { asm!("fence.acq_rel.gpu;", options(nostack)) };
}
