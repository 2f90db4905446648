//! Loads and stores of global memory.

use core::arch::asm;

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

/// Four numbers that other blocks have written before a [`count_arrival`] that this one has come
/// after; past the L1 cache, which does not see them.
///
/// # PTX
/// `ld.global.cg.v4.f32`
///
/// # Safety
/// They are there, and aligned to 16 bytes.
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
