//! Special registers, and values that the optimizer must not look through.

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

/// 4, of which no compiler knows: blocks are one thread high. Multiplied with it, an index becomes an
/// address on the pipe of multiplications, which has time; 4 as a constant would be a shift on the pipe
/// that has none.
#[inline(always)]
pub fn four() -> u32 {
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

/// `value`, of which the optimizer knows nothing.
#[inline(always)]
pub fn opaque(mut value: u32) -> u32 {
    // SAFETY: does nothing.
    unsafe { asm!("// {}", inout(reg32) value, options(nomem, nostack)) };
    value
}

/// Likewise, a pointer.
#[inline(always)]
pub fn opaque_pointer<T>(mut value: *const T) -> *const T {
    // SAFETY: does nothing.
    unsafe { asm!("// {}", inout(reg64) value, options(nomem, nostack)) };
    value
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

/// The thread's place in its block, read anew each time, so that what is computed from it need not be kept in
/// registers: for what is seldom needed.
#[inline(always)]
fn thread_anew() -> u32 {
    let thread: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %tid.x;", out(reg32) thread, options(nomem, nostack)) };
    thread
}

/// As [`lane`], anew.
#[inline(always)]
pub fn lane_anew() -> usize {
    thread_anew() as usize % LANES
}

/// As [`warp`], anew.
#[inline(always)]
pub fn warp_anew() -> u32 {
    thread_anew() / LANES as u32
}

/// Warps of the block, likewise.
#[inline(always)]
pub fn warps_anew() -> u32 {
    let threads: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %ntid.x;", out(reg32) threads, options(nomem, nostack)) };
    threads / LANES as u32
}

/// As [`block`], likewise.
#[inline(always)]
pub fn block_anew() -> u32 {
    let block: u32;
    // SAFETY: reads a special register.
    unsafe { asm!("mov.u32 {}, %ctaid.x;", out(reg32) block, options(nomem, nostack)) };
    block
}
