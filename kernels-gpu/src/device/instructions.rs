//! The instructions that only a device has, one function each.

use core::arch::{asm, global_asm, nvptx};
use fused_rans_layout::LANES;

global_asm!(".extern .shared .align 128 .b8 dynamic_shared_memory[];");

/// `blockIdx.x`
#[inline(always)]
pub fn block() -> usize {
    // SAFETY: reads a special register.
    unsafe { nvptx::_block_idx_x() as u32 as usize }
}

/// `threadIdx.x`
#[inline(always)]
pub fn thread() -> usize {
    // SAFETY: reads a special register.
    unsafe { nvptx::_thread_idx_x() as u32 as usize }
}

/// The thread's place in its warp.
#[inline(always)]
pub fn lane() -> usize {
    thread() % LANES
}

/// The warp's place in its block.
#[inline(always)]
pub fn warp() -> usize {
    thread() / LANES
}

/// Address of the block's dynamic shared memory, aligned to 128 bytes.
#[inline(always)]
pub fn shared_memory() -> u32 {
    let base: u32;
    // SAFETY: reads an address.
    unsafe {
        asm!("mov.u32 {}, dynamic_shared_memory;", out(reg32) base, options(pure, nomem, nostack));
    }
    base
}

/// # PTX
/// `ld.shared.b32`
///
/// # Safety
/// `at` is the address of a word of the block's shared memory.
#[inline(always)]
pub unsafe fn load_shared(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.shared.b32 {}, [{}];", out(reg32) value, in(reg32) at,
            options(pure, readonly, nostack));
    }
    value
}

/// # PTX
/// `st.shared.b32`
///
/// # Safety
/// `at` is the address of a word of the block's shared memory that no other thread uses.
#[inline(always)]
pub unsafe fn store_shared(at: u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("st.shared.b32 [{}], {};", in(reg32) at, in(reg32) value, options(nostack));
    }
}

/// Starts a copy of 16 bytes to shared memory; see [`async_copy_wait`].
///
/// # PTX
/// `cp.async.cg.shared.global`
///
/// # Safety
/// Both sides are there and aligned to 16 bytes.
#[inline(always)]
pub unsafe fn async_copy_16(to: u32, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("cp.async.cg.shared.global [{}], [{}], 16;", in(reg32) to, in(reg64) from,
            options(nostack));
    }
}

/// Waits for the copies that this thread has started.
///
/// # PTX
/// `cp.async.wait_all`
#[inline(always)]
pub fn async_copy_wait() {
    // SAFETY: has no operands.
    unsafe { asm!("cp.async.wait_all;", options(nostack)) };
}

// What waits for other threads is an intrinsic of LLVM, not `asm!`: only so LLVM knows that it must
// not be moved or copied into branches that not all of these threads take.
unsafe extern "C" {
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    fn shfl_sync_bfly(lanes: u32, value: u32, mask: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.add"]
    fn redux_sync_add(value: u32, lanes: u32) -> u32;
}

/// All lanes of a warp.
const ALL: u32 = u32::MAX;

/// Waits for all threads of the block; what they have written is visible after it.
///
/// # PTX
/// `bar.sync`
#[inline(always)]
pub fn barrier() {
    // SAFETY: kernels come here with all threads or none.
    unsafe { nvptx::_syncthreads() };
}

/// The value of the lane whose number differs in the bits of `MASK`. All lanes of the warp must come
/// here together.
///
/// # PTX
/// `shfl.sync.bfly.b32`
#[inline(always)]
pub fn shuffle_xor<const MASK: u32>(value: u32) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { shfl_sync_bfly(ALL, value, MASK, LANES as u32 - 1) }
}

/// Sum over the warp. All its lanes must come here together.
///
/// # PTX
/// `redux.sync.add.s32`, which for sums is that of unsigned numbers
#[inline(always)]
pub fn warp_sum(value: u32) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { redux_sync_add(value, ALL) }
}

/// `N` words (1, 2 or 4) that no kernel writes.
///
/// # PTX
/// `ld.global.nc.b32`, `.v2`, `.v4`
///
/// # Safety
/// The words are there, and aligned to `4 * N` bytes.
#[inline(always)]
pub unsafe fn load_global<const N: usize>(from: *const u32) -> [u32; N] {
    let mut words = [0; 4];
    let [a, b, c, d] = &mut words;
    // SAFETY: the caller's promise.
    unsafe {
        match N {
            4 => {
                asm!("ld.global.nc.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) *a, out(reg32) *b,
                out(reg32) *c, out(reg32) *d, in(reg64) from, options(pure, readonly, nostack))
            }
            2 => asm!("ld.global.nc.v2.b32 {{{}, {}}}, [{}];", out(reg32) *a, out(reg32) *b,
                in(reg64) from, options(pure, readonly, nostack)),
            _ => asm!("ld.global.nc.b32 {}, [{}];", out(reg32) *a, in(reg64) from,
                options(pure, readonly, nostack)),
        }
    }
    core::array::from_fn(|i| words[i % 4])
}

/// # PTX
/// `st.global.v2.b32`
///
/// # Safety
/// `to` has room for both words and is aligned to 8 bytes.
#[inline(always)]
pub unsafe fn store_global_2(to: *mut u8, a: u32, b: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("st.global.v2.b32 [{}], {{{}, {}}};", in(reg64) to, in(reg32) a, in(reg32) b,
            options(nostack));
    }
}
