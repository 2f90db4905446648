//! What exists on the device only.
//!
//! - `ptx`: instructions, a function each.
//! - `resident`: slabs of resident layers, on their way to shared memory and decoded panel by panel.
//! - `payload`: a tile's record, its slabs and their words.
//! - `kernels`: the kernels, and what decodes, verifies and multiplies without fusing.
//! - `matmul`: the fused kernels.

mod kernels;
mod matmul;
mod payload;
mod ptx;
#[cfg(feature = "lean")]
mod resident;

use core::arch::nvptx;

#[cfg(not(any(feature = "bf16", feature = "f16")))]
compile_error!("no kernels: build with the feature `bf16` or `f16`, or both");

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: ends the kernel with an error.
    unsafe { nvptx::trap() }
}
