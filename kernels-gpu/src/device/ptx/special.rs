//! Special registers, and values that the optimizer must not see through.

use core::arch::{asm, nvptx};
use fused_rans_layout::LANES;

/// `blockIdx.x`
#[inline(always)]
pub fn block() -> usize {
    // SAFETY: reads a special register.
    unsafe { nvptx::_block_idx_x() as u32 as usize }
}

/// `gridDim.x`
#[inline(always)]
pub fn blocks() -> u32 {
    // SAFETY: reads a special register.
    unsafe { nvptx::_grid_dim_x() as u32 }
}

/// `blockDim.x`
#[inline(always)]
pub fn threads() -> u32 {
    // SAFETY: reads a special register.
    unsafe { nvptx::_block_dim_x() as u32 }
}

/// `threadIdx.x`
#[inline(always)]
pub fn thread() -> usize {
    // SAFETY: reads a special register.
    unsafe { nvptx::_thread_idx_x() as u32 as usize }
}

/// Returns 4, which the compilers do not know: blocks are one thread high. Multiplied with it, an index becomes an address
/// on the pipe for multiplications, which is idle; with a constant 4 it would be a shift on the pipe that is busy.
#[inline(always)]
pub fn opaque_four() -> u32 {
    // SAFETY: reads a special register.
    unsafe { nvptx::_block_dim_y() as u32 + 3 }
}

/// `a * b + c`
///
/// # PTX
/// `mad.lo.u32`
#[inline(always)]
pub fn multiply_add(a: u32, b: u32, c: u32) -> u32 {
    let result: u32;
    // SAFETY: register arithmetic.
    unsafe {
        asm!("mad.lo.u32 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b,
            in(reg32) c, options(pure, nomem, nostack));
    }
    result
}

/// Returns `value`, about which the optimizer then knows nothing. What is computed from it is not moved or shared.
#[inline(always)]
pub fn opaque(mut value: u32) -> u32 {
    // SAFETY: does nothing.
    unsafe { asm!("// {}", inout(reg32) value, options(nomem, nostack)) };
    value
}

/// Returns a pointer about which the optimizer then knows nothing.
#[inline(always)]
pub fn opaque_pointer<T>(mut value: *const T) -> *const T {
    // SAFETY: does nothing.
    unsafe { asm!("// {}", inout(reg64) value, options(nomem, nostack)) };
    value
}

/// Returns the thread's number in its warp.
#[inline(always)]
pub fn lane() -> usize {
    thread() % LANES
}

/// Returns the warp's number in its block.
#[inline(always)]
pub fn warp() -> usize {
    thread() / LANES
}

/// Returns the thread's number in its block, and reads it again in every call, so that it does not occupy a register in
/// between. The functions named `reread_*` are for values that are seldom needed.
#[inline(always)]
fn reread_thread() -> u32 {
    let thread: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %tid.x;", out(reg32) thread, options(nomem, nostack)) };
    thread
}

/// Returns what [`lane`] does, read again.
#[inline(always)]
pub fn reread_lane() -> usize {
    reread_thread() as usize % LANES
}

/// Returns what [`warp`] does, read again.
#[inline(always)]
pub fn reread_warp() -> u32 {
    reread_thread() / LANES as u32
}

/// Returns the number of warps of the block, read again.
#[inline(always)]
pub fn reread_warps() -> u32 {
    let threads: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %ntid.x;", out(reg32) threads, options(nomem, nostack)) };
    threads / LANES as u32
}

/// Returns what [`block`] does, read again.
#[inline(always)]
pub fn reread_block() -> u32 {
    let block: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %ctaid.x;", out(reg32) block, options(nomem, nostack)) };
    block
}
