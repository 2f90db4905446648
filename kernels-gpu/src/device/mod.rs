//! The kernels.

#[cfg(feature = "bf16")]
mod decode;
#[cfg(feature = "bf16")]
mod dense;
mod instructions;
mod matmul;
#[cfg(feature = "bf16")]
mod output;
mod payload;

use core::arch::nvptx;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: ends the kernel with an error.
    unsafe { nvptx::trap() }
}
