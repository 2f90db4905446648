//! Device functions of fused-rans, for two machines.
//!
//! For `nvptx64-nvidia-cuda` this crate compiles to the kernels. For the CPU it is an ordinary library with software twins
//! of the PTX instructions, so property tests and sanitizers run the same steps as the GPU. Lanes share nothing while
//! they decode, so a CPU test runs a warp's lanes one after the other.
//!
//! `portable` compiles for both: [`ptx`] has the instructions, [`Lane`] the decode step, [`WeightFormat`] joins coded and raw
//! bits to MMA registers, [`decode_slab`] decodes a lane's part of a slab, [`crc`] computes checksums. `device` has the
//! kernels and what only they need.
#![no_std]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features))]
#![cfg_attr(
    all(target_arch = "nvptx64", not(feature = "bf16")),
    allow(dead_code, reason = "needed by the kernels of the other part")
)]
#![cfg_attr(
    all(target_arch = "nvptx64", feature = "lean"),
    allow(dead_code, unused_imports, reason = "needed by the kernels of the other set")
)]
#![cfg_attr(
    target_arch = "nvptx64",
    feature(abi_ptx, abi_unadjusted, stdarch_nvptx, asm_experimental_arch, link_llvm_intrinsics)
)]

#[cfg(target_arch = "nvptx64")]
mod device;
mod portable;

pub use portable::crc;
pub use portable::format::{RawWords, WeightFormat};
pub use portable::lane::{Lane, Words};
pub use portable::operand::{IntegerOffset, MmaType};
pub use portable::slab::{SlabMemory, SliceMemory, decode_slab};
pub use portable::twins as ptx;

/// Calls `f` with 0 to `N - 1`, at most 16 numbers. Not a loop, so that arrays that `f` indexes stay in registers, whether
/// the optimizer would unroll a loop or not.
#[inline(always)]
fn unrolled<const N: usize>(mut f: impl FnMut(usize)) {
    const { assert!(N <= 16) };
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
    if N > 8 {
        f(8);
    }
    if N > 9 {
        f(9);
    }
    if N > 10 {
        f(10);
    }
    if N > 11 {
        f(11);
    }
    if N > 12 {
        f(12);
    }
    if N > 13 {
        f(13);
    }
    if N > 14 {
        f(14);
    }
    if N > 15 {
        f(15);
    }
}
