//! The kernels.

mod decode;
mod dense;
mod instructions;
mod matmul;
mod output;
mod payload;

use core::arch::nvptx;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: ends the kernel with an error.
    unsafe { nvptx::trap() }
}

/// Calls `f` with 0 to `N - 1`, at most 8 numbers. Not a loop, so that arrays that `f` indexes
/// stay in registers, whatever the optimizer thinks of unrolling.
#[inline(always)]
fn unrolled<const N: usize>(mut f: impl FnMut(usize)) {
    const { assert!(N <= 8) };
    if N > 0 {
        f(0);
    }
    if N > 1 {
        f(1);
    }
    if N > 2 {
        f(2);
    }
    if N > 3 {
        f(3);
    }
    if N > 4 {
        f(4);
    }
    if N > 5 {
        f(5);
    }
    if N > 6 {
        f(6);
    }
    if N > 7 {
        f(7);
    }
}
