//! Loads and stores of shared memory.

use crate::Words;
use core::arch::{asm, global_asm};

global_asm!(".extern .shared .align 128 .b8 dynamic_shared_memory[];");

/// Returns the address of the block's dynamic shared memory, which is aligned to 128 bytes.
#[inline(always)]
pub fn shared_memory() -> u32 {
    let base: u32;
    // SAFETY: reads an address.
    unsafe {
        asm!("mov.u32 {}, dynamic_shared_memory;", out(reg32) base, options(pure, nomem, nostack));
    }
    base
}

/// Loads a word that the block's threads have stored.
///
/// # PTX
/// `ld.volatile.shared.b32`
///
/// # Safety
/// `at` is the address of a word of the block's shared memory.
#[inline(always)]
pub unsafe fn load_shared(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld.volatile.shared.b32 {}, [{}];", out(reg32) value, in(reg32) at,
            options(readonly, nostack));
    }
    value
}

/// Loads a word that no thread writes while the kernel multiplies, so that compilers may move the load.
///
/// # PTX
/// `ld.shared.b32`
///
/// # Safety
/// `at` is the address of a word of the block's shared memory, which was written before a barrier that all threads
/// have passed, and is not written again.
#[cfg(feature = "lean")]
#[inline(always)]
pub unsafe fn load_constant(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. `nomem`, since the memory does not change.
    unsafe {
        asm!("ld.shared.b32 {}, [{}];", out(reg32) value, in(reg32) at,
            options(pure, nomem, nostack));
    }
    value
}

/// Stores a word.
///
/// # PTX
/// `st.shared.b32`
///
/// # Safety
/// `at` is the address of a word of the block's shared memory.
#[inline(always)]
pub unsafe fn store_shared(at: u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("st.shared.b32 [{}], {};", in(reg32) at, in(reg32) value, options(nostack)) };
}

/// Stores four words.
///
/// # PTX
/// `st.shared.v4.b32`
///
/// # Safety
/// `at` is the address of four words of the block's shared memory, aligned to 16 bytes.
#[inline(always)]
pub unsafe fn store_shared_4(at: u32, [a, b, c, d]: [u32; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("st.shared.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg32) at, in(reg32) a,
            in(reg32) b, in(reg32) c, in(reg32) d, options(nostack));
    }
}

/// Stores the low half of `value`.
///
/// # PTX
/// `st.shared.b16`
///
/// # Safety
/// `at` is the address of two bytes of the block's shared memory, aligned to 2.
#[cfg(feature = "lean")]
#[inline(always)]
pub unsafe fn store_shared_u16(at: u32, value: u16) {
    // SAFETY: the caller's promise.
    unsafe { asm!("st.shared.b16 [{}], {};", in(reg32) at, in(reg16) value, options(nostack)) };
}

/// Loads `N` words (1, 2 or 4) that something else than this thread's stores may have written, such as copies.
///
/// # PTX
/// `ld.shared.b32`, `.v2`, `.v4`
///
/// # Safety
/// `at` is the address of so many words of the block's shared memory, aligned to `4 * N` bytes.
#[inline(always)]
pub unsafe fn load_shared_words<const N: usize>(at: u32) -> [u32; N] {
    let mut words = [0; 4];
    let [a, b, c, d] = &mut words;
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe {
        match N {
            4 => asm!("ld.shared.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) *a, out(reg32) *b,
                out(reg32) *c, out(reg32) *d, in(reg32) at, options(nostack)),
            2 => asm!("ld.shared.v2.b32 {{{}, {}}}, [{}];", out(reg32) *a, out(reg32) *b,
                in(reg32) at, options(nostack)),
            _ => asm!("ld.shared.b32 {}, [{}];", out(reg32) *a, in(reg32) at, options(nostack)),
        }
    }
    core::array::from_fn(|i| words[i % 4])
}

/// Loads 16 bits.
///
/// # PTX
/// `ld.shared.u16`
///
/// # Safety
/// `at` is the address of 16 bits of the block's shared memory, aligned to 2 bytes.
#[inline(always)]
pub unsafe fn load_shared_u16(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe {
        asm!("ld.shared.u16 {}, [{}];", out(reg32) value, in(reg32) at, options(nostack));
    }
    value
}

/// Loads a byte.
///
/// # PTX
/// `ld.shared.u8`
///
/// # Safety
/// `at` is the address of a byte of the block's shared memory.
#[inline(always)]
pub unsafe fn load_shared_u8(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`: the memory changes.
    unsafe {
        asm!("ld.shared.u8 {}, [{}];", out(reg32) value, in(reg32) at, options(nostack));
    }
    value
}

/// Moves a lane's window on by one word if `step` is not 0; the word after that is `stride` bytes further. See
/// [`SlabMemory::advance`](crate::SlabMemory::advance).
///
/// # PTX
/// `ld.shared.b32` under a predicate, with a move and an addition
///
/// # Safety
/// If `step` is not 0, `words.next` is the address of a word of the block's shared memory.
#[inline(always)]
pub unsafe fn advance(step: u32, stride: u32, words: &mut Words) {
    let [first, second] = &mut words.window;
    // SAFETY: the caller's promise. One piece of assembly, so that no branch arises that other code could be moved into.
    unsafe {
        asm!(
            "{{ .reg .pred step; setp.ne.u32 step, {step}, 0;",
            "@step mov.b32 {first}, {second};",
            "@step ld.shared.b32 {second}, [{next}];",
            "@step add.u32 {next}, {next}, {stride}; }}",
            step = in(reg32) step, first = inout(reg32) *first, second = inout(reg32) *second,
            next = inout(reg32) words.next, stride = in(reg32) stride,
            options(readonly, nostack)
        );
    }
}
