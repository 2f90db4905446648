//! Asynchronous copies from global to shared memory.

use core::arch::asm;

/// Starts a copy of 16 bytes to shared memory. [`async_copy_wait`] waits for it.
///
/// # PTX
/// `cp.async.cg.shared.global`
///
/// # Safety
/// Source and target exist and are aligned to 16 bytes.
#[inline(always)]
pub unsafe fn async_copy_16(to: u32, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("cp.async.cg.shared.global [{}], [{}], 16;", in(reg32) to, in(reg64) from,
            options(nostack));
    }
}

/// Starts a copy of a word to shared memory, or if not `present`, of a zero.
///
/// # PTX
/// `cp.async.ca.shared.global` with the number of bytes to read
///
/// # Safety
/// Source and target are aligned to 4 bytes; the target exists, and if `present`, the source does.
#[inline(always)]
pub unsafe fn async_copy_word(to: u32, from: *const u32, present: bool) {
    let bytes = if present { 4 } else { 0 };
    // SAFETY: the caller's promise; with 0 bytes to read, nothing is read.
    unsafe {
        asm!("cp.async.ca.shared.global [{}], [{}], 4, {};", in(reg32) to, in(reg64) from,
            in(reg32) bytes, options(nostack));
    }
}

/// Loads the line at `at` into the L2 cache.
///
/// # PTX
/// `prefetch.global.L2`
#[inline(always)]
pub fn prefetch(at: *const u8) {
    // SAFETY: a hint, which cannot fault.
    unsafe { asm!("prefetch.global.L2 [{}];", in(reg64) at, options(nostack)) };
}

/// Starts a copy of `N` words (1, 2 or 4) to shared memory. [`async_copy_wait`] waits for it.
///
/// # PTX
/// `cp.async.cg.shared.global`, `cp.async.ca.shared.global`
///
/// # Safety
/// Source and target exist and are aligned to `4 * N` bytes.
#[inline(always)]
pub unsafe fn async_copy<const N: usize>(to: u32, from: *const u32) {
    // SAFETY: the caller's promise.
    unsafe {
        match N {
            4 => async_copy_16(to, from.cast()),
            2 => asm!("cp.async.ca.shared.global [{}], [{}], 8;", in(reg32) to, in(reg64) from,
                options(nostack)),
            _ => asm!("cp.async.ca.shared.global [{}], [{}], 4;", in(reg32) to, in(reg64) from,
                options(nostack)),
        }
    }
}

/// Ends a group of copies: those that this thread has started since the last group.
///
/// # PTX
/// `cp.async.commit_group`
#[inline(always)]
pub fn async_copy_commit() {
    // SAFETY: has no operands.
    unsafe { asm!("cp.async.commit_group;", options(nostack)) };
}

/// Waits for the groups of copies that this thread has ended, except the last `PENDING`.
///
/// # PTX
/// `cp.async.wait_group`
#[inline(always)]
pub fn async_copy_wait_but<const PENDING: usize>() {
    // SAFETY: has no operands.
    unsafe { asm!("cp.async.wait_group {};", const PENDING, options(nostack)) };
}

/// Waits for all copies that this thread has started.
///
/// # PTX
/// `cp.async.wait_all`
#[inline(always)]
pub fn async_copy_wait() {
    // SAFETY: has no operands.
    unsafe { asm!("cp.async.wait_all;", options(nostack)) };
}
