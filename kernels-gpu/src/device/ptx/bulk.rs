//! Bulk copies, the barriers in shared memory that tell when they are done, and launches that overlap.
//!
//! These instructions wait for other threads, or elect one, and are `asm!` all the same: LLVM has no intrinsics for most of
//! them. None is `pure`, so LLVM neither copies nor moves them, and kernels reach them with whole warps only.

use core::arch::asm;

/// Makes a barrier for `count` arrivals a phase. One lane of the warp calls this; [`barriers_made`] comes before others
/// use it.
///
/// # PTX
/// `mbarrier.init`
///
/// # Safety
/// `barrier` is the address of 8 bytes of the block's shared memory, aligned to 8, that are no barrier yet.
#[inline(always)]
pub unsafe fn make_barrier(barrier: u32, count: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("mbarrier.init.shared::cta.b64 [{}], {};", in(reg32) barrier, in(reg32) count,
            options(nostack));
    }
}

/// Makes this thread's new barriers visible to bulk copies; other threads see them after a [`barrier`](super::barrier).
///
/// # PTX
/// `fence.mbarrier_init.release.cluster`
#[inline(always)]
pub fn barriers_made() {
    // SAFETY: has no operands.
    unsafe { asm!("fence.mbarrier_init.release.cluster;", options(nostack)) };
}

/// Waits until the phase of `barrier` with parity `parity` is complete. What arrived there is visible then.
///
/// # PTX
/// `mbarrier.try_wait.parity`, in a loop
///
/// # Safety
/// It is a barrier.
#[inline(always)]
#[allow(named_asm_labels, reason = "PTX labels are local to the braces")]
pub unsafe fn wait_barrier(barrier: u32, parity: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("{{ .reg .pred done; WAIT: mbarrier.try_wait.parity.shared::cta.b64 done, [{}], {};",
            "@done bra DONE; bra WAIT; DONE: }}",
            in(reg32) barrier, in(reg32) parity, options(nostack));
    }
}

/// Arrives at a barrier, once for the warp, whose lanes must all be here.
///
/// # PTX
/// `elect.sync`, `mbarrier.arrive`
///
/// # Safety
/// It is a barrier.
#[inline(always)]
pub unsafe fn arrive_once(barrier: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("{{ .reg .pred one; elect.sync _|one, 0xffffffff;",
            "@one mbarrier.arrive.shared::cta.b64 _, [{}]; }}",
            in(reg32) barrier, options(nostack));
    }
}

/// Arrives at a barrier, for this thread.
///
/// # PTX
/// `mbarrier.arrive`
///
/// # Safety
/// It is a barrier.
#[inline(always)]
pub unsafe fn arrive(barrier: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("mbarrier.arrive.shared::cta.b64 _, [{}];", in(reg32) barrier, options(nostack));
    }
}

/// Arrives at a barrier when all of this thread's [`async_copy_16`](super::async_copy_16) so far are done.
///
/// # PTX
/// `cp.async.mbarrier.arrive.noinc`
///
/// # Safety
/// It is a barrier.
#[inline(always)]
pub unsafe fn arrive_after_copies(barrier: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [{}];", in(reg32) barrier,
            options(nostack));
    }
}

/// Expects `bytes` more at a barrier in this phase, and arrives; once for the warp, whose lanes must all be here.
///
/// # PTX
/// `elect.sync`, `mbarrier.arrive.expect_tx`
///
/// # Safety
/// It is a barrier; copies of so many bytes follow.
#[inline(always)]
pub unsafe fn expect_once(barrier: u32, bytes: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("{{ .reg .pred one; elect.sync _|one, 0xffffffff;",
            "@one mbarrier.arrive.expect_tx.shared::cta.b64 _, [{}], {}; }}",
            in(reg32) barrier, in(reg32) bytes, options(nostack));
    }
}

/// A bulk copy to shared memory, whose bytes count at a barrier when they are there.
#[derive(Clone, Copy)]
pub struct BulkCopy {
    pub to: u32,
    pub from: *const u8,
    pub bytes: u32,
    pub barrier: u32,
    /// A number that depends on loads of the warp from the target that may still be on their way; 0 if there are none. Nothing
    /// else orders a load before a bulk copy, which would overtake it. So the copy's predicate depends on `seen`, though by a
    /// condition that never holds: `seen` would have to be both dimensions of the block, of which one is 1 and the other at least
    /// 32. A fence (`fence.proxy.async`) orders both, too, but takes 1 % more time.
    pub seen: u32,
}

/// Computes the predicate `one` of the lane that starts a copy.
macro_rules! elect_after {
    () => {
        "{{ .reg .pred one, never, always; .reg .b32 x, y; mov.u32 x, %ntid.x; mov.u32 y, %ntid.y;
        setp.eq.u32 never, {seen}, x; setp.eq.and.u32 never, {seen}, y, never; not.pred always, never;
        elect.sync _|one, 0xffffffff; and.pred one, one, always;"
    };
}

/// Starts a copy under the predicate `one`.
macro_rules! copy {
    () => {
        "@one cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{to}], [{from}], {bytes}, [{barrier}]; }}"
    };
}

impl BulkCopy {
    /// Starts the copy, once for the warp, whose lanes must all be here with the same operands but `seen`.
    ///
    /// # PTX
    /// `elect.sync`, `cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes`
    ///
    /// # Safety
    /// Source and target exist and are, like `bytes`, multiples of 16; nothing reads or writes the target until then. The
    /// barrier expects the bytes.
    #[inline(always)]
    pub unsafe fn start_once(self) {
        let Self { to, from, bytes, barrier, seen } = self;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(elect_after!(), copy!(), to = in(reg32) to, from = in(reg64) from,
                bytes = in(reg32) bytes, barrier = in(reg32) barrier, seen = in(reg32) seen,
                options(nostack));
        }
    }

    /// Expects the bytes at the barrier, arrives there, and starts the copy; once for the warp, whose lanes must all be here with
    /// the same operands but `seen`.
    ///
    /// # PTX
    /// `elect.sync`, `mbarrier.arrive.expect_tx`, `cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes`
    ///
    /// # Safety
    /// As for [`start_once`](Self::start_once); the barrier needs not expect the bytes.
    #[inline(always)]
    pub unsafe fn expect_and_start_once(self) {
        let Self { to, from, bytes, barrier, seen } = self;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(elect_after!(),
                "@one mbarrier.arrive.expect_tx.shared::cta.b64 _, [{barrier}], {bytes};", copy!(),
                to = in(reg32) to, from = in(reg64) from, bytes = in(reg32) bytes,
                barrier = in(reg32) barrier, seen = in(reg32) seen, options(nostack));
        }
    }
}

/// Returns whether this lane is the one that the warp, all of whose lanes are here, elects.
///
/// # PTX
/// `elect.sync`
#[inline(always)]
pub fn is_elected() -> bool {
    let one: u32;
    // SAFETY: register arithmetic of the whole warp.
    unsafe {
        asm!("{{ .reg .pred one; elect.sync _|one, 0xffffffff; selp.u32 {}, 1, 0, one; }}",
            out(reg32) one, options(nomem, nostack));
    }
    one != 0
}

/// Lets the next launch of the CUDA stream start, if it may overlap with this one.
///
/// # PTX
/// `griddepcontrol.launch_dependents`
#[inline(always)]
pub fn start_next_launch() {
    // SAFETY: has no operands.
    unsafe { asm!("griddepcontrol.launch_dependents;", options(nostack)) };
}

/// Waits until the launches before this one are done and what they have written is visible. Only memory that none of
/// them writes may be used before.
///
/// # PTX
/// `griddepcontrol.wait`
#[inline(always)]
pub fn wait_for_last_launch() {
    // SAFETY: has no operands.
    unsafe { asm!("griddepcontrol.wait;", options(nostack)) };
}
