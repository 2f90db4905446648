//! Loads by generic address, which may be of global or of shared memory. Unlike `ld.global.nc`, they see what earlier kernels
//! have written even if this one started before they ended.

use core::arch::asm;
use core::ptr::with_exposed_provenance;

/// Returns the generic address of the block's shared memory at `at`.
///
/// # PTX
/// `cvta.shared.u64`
#[inline(always)]
pub fn shared_as_generic(at: u32) -> *const u8 {
    let generic: u64;
    // SAFETY: arithmetic.
    unsafe {
        asm!("cvta.shared.u64 {}, {};", out(reg64) generic, in(reg64) u64::from(at),
            options(pure, nomem, nostack));
    }
    with_exposed_provenance(generic as usize)
}

/// Loads two words.
///
/// # PTX
/// `ld.v2.b32`
///
/// # Safety
/// The words exist and are aligned to 8 bytes.
#[inline(always)]
pub unsafe fn load_generic_2(from: *const u32) -> [u32; 2] {
    let (a, b);
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe {
        asm!("ld.v2.b32 {{{}, {}}}, [{}];", out(reg32) a, out(reg32) b, in(reg64) from,
            options(nostack));
    }
    [a, b]
}

/// Loads 16 bits.
///
/// # PTX
/// `ld.u16`
///
/// # Safety
/// They exist and are aligned to 2 bytes.
#[inline(always)]
pub unsafe fn load_generic_u16(from: *const u16) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe { asm!("ld.u16 {}, [{}];", out(reg32) value, in(reg64) from, options(nostack)) };
    value
}
