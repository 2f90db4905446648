//! The instructions that only a device has, one function each.

use crate::{MmaType, Words, unrolled};
use core::arch::{asm, global_asm, nvptx};
use fused_rans_layout::LANES;

global_asm!(".extern .shared .align 128 .b8 dynamic_shared_memory[];");

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

/// Address of the block's dynamic shared memory, aligned to 128 bytes.
#[inline(always)]
pub fn shared_memory() -> u32 {
    let base: u32;
    // SAFETY: reads an address.
    unsafe {
        asm!("mov.u32 {}, dynamic_shared_memory;", out(reg32) base, options(pure, nomem, nostack));
    }
    base
}

/// # PTX
/// `ld.shared.b32`
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

/// Starts a copy of 16 bytes to shared memory; see [`async_copy_wait`].
///
/// # PTX
/// `cp.async.cg.shared.global`
///
/// # Safety
/// Both sides are there and aligned to 16 bytes.
#[inline(always)]
pub unsafe fn async_copy_16(to: u32, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("cp.async.cg.shared.global [{}], [{}], 16;", in(reg32) to, in(reg64) from,
            options(nostack));
    }
}

/// Starts a copy of a word to shared memory, or of a zero if not `present`.
///
/// # PTX
/// `cp.async.ca.shared.global` with the number of bytes to read
///
/// # Safety
/// Both sides are aligned to 4 bytes; the target is there, and if `present`, so is the source.
#[inline(always)]
pub unsafe fn async_copy_word(to: u32, from: *const u32, present: bool) {
    let bytes = if present { 4 } else { 0 };
    // SAFETY: the caller's promise; nothing is read where there are 0 bytes to read.
    unsafe {
        asm!("cp.async.ca.shared.global [{}], [{}], 4, {};", in(reg32) to, in(reg64) from,
            in(reg32) bytes, options(nostack));
    }
}

/// Brings the line at `at` into the L2 cache.
///
/// # PTX
/// `prefetch.global.L2`
#[inline(always)]
pub fn prefetch(at: *const u8) {
    // SAFETY: a hint; it does not fault.
    unsafe { asm!("prefetch.global.L2 [{}];", in(reg64) at, options(nostack)) };
}

/// As [`async_copy_16`], of `N` words (1, 2 or 4), each to its lane.
///
/// # PTX
/// `cp.async.cg.shared.global`, `cp.async.ca.shared.global`
///
/// # Safety
/// Both sides are there and aligned to `4 * N` bytes.
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

/// Ends a group of copies: those that this thread has started since the last one ended.
///
/// # PTX
/// `cp.async.commit_group`
#[inline(always)]
pub fn async_copy_commit() {
    // SAFETY: has no operands.
    unsafe { asm!("cp.async.commit_group;", options(nostack)) };
}

/// Waits for the groups of copies that this thread has ended, but for the last `PENDING`.
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

/// `N` words (1, 2 or 4) of shared memory that other instructions than this thread's stores have written.
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
    // SAFETY: the caller's promise. Not `pure`: what is there changes.
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

/// # PTX
/// `ld.shared.u16`
///
/// # Safety
/// `at` is the address of 16 bits of the block's shared memory, aligned to 2 bytes.
#[inline(always)]
pub unsafe fn load_shared_u16(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`, as above.
    unsafe {
        asm!("ld.shared.u16 {}, [{}];", out(reg32) value, in(reg32) at, options(nostack));
    }
    value
}

/// # PTX
/// `ld.shared.u8`
///
/// # Safety
/// `at` is the address of a byte of the block's shared memory.
#[inline(always)]
pub unsafe fn load_shared_u8(at: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Not `pure`, as above.
    unsafe {
        asm!("ld.shared.u8 {}, [{}];", out(reg32) value, in(reg32) at, options(nostack));
    }
    value
}

/// Words that a lane takes from shared memory, `stride` bytes further each time: see
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
    // SAFETY: the caller's promise. In one piece, so that there is no branch to draw others into.
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

/// All lanes of a warp.
const ALL: u32 = u32::MAX;

// What waits for other threads is an intrinsic of LLVM, not `asm!`: only so LLVM knows that it must
// not be moved or copied into branches that not all of these threads take.
unsafe extern "C" {
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    fn shfl_sync_idx(lanes: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    fn shfl_sync_bfly(lanes: u32, value: u32, mask: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    fn vote_ballot_sync(lanes: u32, value: bool) -> u32;
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    fn bar_warp_sync(lanes: u32);
}

type Accumulator = (f32, f32, f32, f32);

#[allow(improper_ctypes, reason = "the intrinsics' own types")]
unsafe extern "unadjusted" {
    #[link_name = "llvm.nvvm.mma.m16n8k16.row.col.bf16"]
    fn mma_bf16(
        a0: u32,
        a1: u32,
        a2: u32,
        a3: u32,
        b0: u32,
        b1: u32,
        c0: f32,
        c1: f32,
        c2: f32,
        c3: f32,
    ) -> Accumulator;
}

/// `c + a * b` for A fragment `a`, B fragment `b` and accumulators `c`. All lanes of the warp must come here
/// together.
///
/// # PTX
/// `mma.sync.aligned.m16n8k16.row.col.f32.{bf16.bf16, f16.f16}.f32`
#[inline(always)]
pub fn mma(operand: MmaType, a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = c;
    // SAFETY: register arithmetic of the whole warp.
    unsafe {
        match operand {
            MmaType::Bf16 => {
                let d = mma_bf16(a[0], a[1], a[2], a[3], b[0], b[1], c0, c1, c2, c3);
                (c0, c1, c2, c3) = d;
            }
            // The intrinsic's operands are pairs of halves, which rustc passes to nobody. Without
            // `pure` nothing moves it into a branch.
            MmaType::F16 => asm!(
                "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{{c0}, {c1}, {c2}, {c3}}}, \
                 {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
                c0 = inout(reg32) c0, c1 = inout(reg32) c1, c2 = inout(reg32) c2,
                c3 = inout(reg32) c3, a0 = in(reg32) a[0], a1 = in(reg32) a[1],
                a2 = in(reg32) a[2], a3 = in(reg32) a[3], b0 = in(reg32) b[0], b1 = in(reg32) b[1],
                options(nomem, nostack)
            ),
        }
    }
    [c0, c1, c2, c3]
}

/// Lets the warp's lanes come together; what they have written is visible to each other after it.
///
/// # PTX
/// `bar.warp.sync`
#[inline(always)]
pub fn warp_barrier() {
    // SAFETY: all lanes come here.
    unsafe { bar_warp_sync(ALL) };
}

/// The lanes for which `value` is true, lane 0 lowest. All lanes of the warp must come here together.
///
/// # PTX
/// `vote.sync.ballot.b32`
#[inline(always)]
pub fn ballot(value: bool) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { vote_ballot_sync(ALL, value) }
}

/// The value of lane 0. All lanes of the warp must come here together.
///
/// # PTX
/// `shfl.sync.idx.b32`
#[inline(always)]
pub fn of_first_lane(value: u32) -> u32 {
    // SAFETY: reads registers of the warp.
    unsafe { shfl_sync_idx(ALL, value, 0, LANES as u32 - 1) }
}

/// The exclusive or of all lanes' values. All lanes of the warp must come here together.
///
/// # PTX
/// `shfl.sync.bfly.b32`, five times
#[inline(always)]
pub fn xor_of_lanes(mut value: u32) -> u32 {
    unrolled::<5>(
        #[inline(always)]
        |i| {
            // SAFETY: reads registers of the warp.
            value ^= unsafe { shfl_sync_bfly(ALL, value, 16 >> i, LANES as u32 - 1) };
        },
    );
    value
}

/// Waits for all threads of the block; what they have written is visible after it.
///
/// # PTX
/// `bar.sync`
#[inline(always)]
pub fn barrier() {
    // SAFETY: kernels come here with all threads or none.
    unsafe { nvptx::_syncthreads() };
}

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

/// Adds 1 to a counter and returns what it was. What this thread has seen written is visible to those
/// that count later and then [`acquire`].
///
/// # PTX
/// `atom.add.release.gpu.global.u32`
///
/// # Safety
/// The counter is there.
#[inline(always)]
pub unsafe fn count_arrival(counter: *mut u32) -> u32 {
    let before: u32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("atom.add.release.gpu.global.u32 {}, [{}], 1;", out(reg32) before,
            in(reg64) counter, options(nostack));
    }
    before
}

/// Lowers the number at `at` to `value`, if it is larger.
///
/// # PTX
/// `red.relaxed.gpu.global.min.u32`
///
/// # Safety
/// It is there.
#[inline(always)]
pub unsafe fn minimum(at: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("red.relaxed.gpu.global.min.u32 [{}], {};", in(reg64) at, in(reg32) value,
            options(nostack));
    }
}

/// Makes visible to this thread what those have released whose counts it has seen.
///
/// # PTX
/// `fence.acq_rel.gpu`
#[inline(always)]
pub fn acquire() {
    // SAFETY: has no operands.
    unsafe { asm!("fence.acq_rel.gpu;", options(nostack)) };
}

/// `value` as BF16 or FP16, rounded to nearest even.
///
/// # PTX
/// `cvt.rn.bf16.f32`, `cvt.rn.f16.f32`
#[inline(always)]
pub fn round(operand: MmaType, value: f32) -> u16 {
    let result: u16;
    // SAFETY: register arithmetic.
    unsafe {
        match operand {
            MmaType::Bf16 => asm!("cvt.rn.bf16.f32 {}, {};", out(reg16) result, in(reg32) value,
                options(pure, nomem, nostack)),
            MmaType::F16 => asm!("cvt.rn.f16.f32 {}, {};", out(reg16) result, in(reg32) value,
                options(pure, nomem, nostack)),
        }
    }
    result
}

/// The number that is an FP16's bits.
///
/// # PTX
/// `cvt.f32.f16`
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let result: f32;
    // SAFETY: register arithmetic.
    unsafe {
        asm!("cvt.f32.f16 {}, {};", out(reg32) result, in(reg16) bits,
            options(pure, nomem, nostack));
    }
    result
}
