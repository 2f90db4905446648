//! Loads and stores of global memory.
//!
//! Kernels receive addresses as integers, so the compiler does not know which address space they are in. These functions
//! say so; an ordinary load or store through a pointer would be a generic one.

use core::arch::asm;

/// Loads `N` words (1, 2 or 4) that no kernel writes.
///
/// # PTX
/// `ld.global.nc.b32`, `.v2`, `.v4`
///
/// # Safety
/// The words exist and are aligned to `4 * N` bytes.
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

/// Loads 16 bits that no kernel writes.
///
/// # PTX
/// `ld.global.nc.u16`
///
/// # Safety
/// They exist and are aligned to 2 bytes.
#[inline(always)]
pub unsafe fn load_global_u16(from: *const u16) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.global.nc.u16 {}, [{}];", out(reg32) value, in(reg64) from,
            options(pure, readonly, nostack));
    }
    value
}

/// Loads `N` words (1, 2 or 4) that no kernel writes, to be used much later and once: the load is not moved to where they are
/// used, and they are not kept in the L1 cache.
///
/// # PTX
/// `ld.global.nc.L1::no_allocate.b32`, `.v2`, `.v4`
///
/// # Safety
/// As for [`load_global`].
#[cfg(feature = "lean")]
#[inline(always)]
pub unsafe fn load_ahead<const N: usize>(from: *const u32) -> [u32; N] {
    let mut words = [0; 4];
    let [a, b, c, d] = &mut words;
    // SAFETY: the caller's promise.
    unsafe {
        match N {
            4 => asm!("ld.global.nc.L1::no_allocate.v4.b32 {{{}, {}, {}, {}}}, [{}];",
                out(reg32) *a, out(reg32) *b, out(reg32) *c, out(reg32) *d, in(reg64) from,
                options(nostack)),
            2 => asm!("ld.global.nc.L1::no_allocate.v2.b32 {{{}, {}}}, [{}];", out(reg32) *a,
                out(reg32) *b, in(reg64) from, options(nostack)),
            _ => asm!("ld.global.nc.L1::no_allocate.b32 {}, [{}];", out(reg32) *a,
                in(reg64) from, options(nostack)),
        }
    }
    core::array::from_fn(|i| words[i % 4])
}

/// Loads eight activations that follow each other. See [`load_activation`].
///
/// # PTX
/// `ld.global.v4.b32`
///
/// # Safety
/// They exist and are aligned to 16 bytes.
#[cfg(feature = "lean")]
#[inline(always)]
pub unsafe fn load_activations_8(from: *const u16) -> [u32; 4] {
    let [a, b, c, d]: [u32; 4];
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.global.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
    }
    [a, b, c, d]
}

/// Loads an activation. Unlike `ld.global.nc`, this sees what an earlier kernel has written even if this kernel started before
/// that one ended.
///
/// # PTX
/// `ld.global.u16`
///
/// # Safety
/// It exists and is aligned to 2 bytes.
#[cfg(feature = "lean")]
#[inline(always)]
pub unsafe fn load_activation(from: *const u16) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe { asm!("ld.global.u16 {}, [{}];", out(reg32) value, in(reg64) from, options(nostack)) };
    value
}

/// Loads a byte that no kernel writes.
///
/// # PTX
/// `ld.global.nc.u8`
///
/// # Safety
/// It exists.
#[inline(always)]
pub unsafe fn load_global_u8(from: *const u8) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.global.nc.u8 {}, [{}];", out(reg32) value, in(reg64) from,
            options(pure, readonly, nostack));
    }
    value
}

/// Stores a word.
///
/// # PTX
/// `st.global.b32`
///
/// # Safety
/// `to` has room for it and is aligned to 4 bytes.
#[inline(always)]
pub unsafe fn store_global(to: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("st.global.b32 [{}], {};", in(reg64) to, in(reg32) value, options(nostack)) };
}

/// Stores the low 16 bits of `value`.
///
/// # PTX
/// `st.global.u16`
///
/// # Safety
/// `to` has room for them and is aligned to 2 bytes.
#[inline(always)]
pub unsafe fn store_global_u16(to: *mut u16, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("st.global.u16 [{}], {};", in(reg64) to, in(reg32) value, options(nostack)) };
}

/// Stores the low byte of `value`.
///
/// # PTX
/// `st.global.u8`
///
/// # Safety
/// `to` has room for it.
#[inline(always)]
pub unsafe fn store_global_u8(to: *mut u8, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("st.global.u8 [{}], {};", in(reg64) to, in(reg32) value, options(nostack)) };
}

/// Stores four words.
///
/// # PTX
/// `st.global.v4.b32`
///
/// # Safety
/// `to` has room for the words and is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn store_global_4(to: *mut u8, [a, b, c, d]: [u32; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("st.global.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg64) to, in(reg32) a,
            in(reg32) b, in(reg32) c, in(reg32) d, options(nostack));
    }
}

/// Stores two words.
///
/// # PTX
/// `st.global.v2.b32`
///
/// # Safety
/// `to` has room for both words and is aligned to 8 bytes.
#[inline(always)]
pub unsafe fn store_global_2(to: *mut u8, [a, b]: [u32; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("st.global.v2.b32 [{}], {{{}, {}}};", in(reg64) to, in(reg32) a, in(reg32) b,
            options(nostack));
    }
}

/// Loads four numbers that other blocks have stored before a [`count_arrival`](super::count_arrival) that this block has
/// seen. Bypasses the L1 cache, which is not coherent between multiprocessors.
///
/// # PTX
/// `ld.global.cg.v4.f32`
///
/// # Safety
/// The numbers exist and are aligned to 16 bytes.
#[inline(always)]
pub unsafe fn load_partial(from: *const f32) -> [f32; 4] {
    let (a, b, c, d);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.global.cg.v4.f32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
    }
    [a, b, c, d]
}
