//! A block: roles of its warps, barriers.

use super::decoder::Decoder;
use super::multiplier::{XPanels, multiply};
use crate::device::matmul::Kind;
use crate::device::matmul::lean::Arguments;
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, barriers_made, block, broadcast_first_lane, give_registers,
    is_elected, make_barrier, reread_warp, shared_memory, start_next_launch, take_registers,
    thread, threads, wait_for_last_launch,
};
use fused_rans_layout::{
    LeanMatmulArgs, LeanPartition, TILE, WARPGROUP, WIDE_ROWS, WideMemory, activation_stages,
};

/// Registers of a thread that decodes, and of one that multiplies. Together they are what a block of
/// 640 threads has.
const DECODER_REGISTERS: u32 = 80;
const MULTIPLIER_REGISTERS: u32 = 160;

/// Multiplies, with all threads of a block; the activations are packed.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn run<const B: usize>(kind: Kind, args: &LeanMatmulArgs) {
    start_next_launch();
    let arguments = &Arguments::new(args);
    // SAFETY: the table is whole.
    unsafe { copy_table(arguments.layer.table, thread(), threads() as usize) };
    let layer = &arguments.layer;
    let format = layer.format(kind.dtype, kind.table, kind.raw_bits);
    let groups = arguments.groups;
    let memory = WideMemory::new(B, kind.grouped, groups, layer.buffer_rows);
    let memory = memory.at(shared_memory());
    let partition = LeanPartition {
        across: layer.cols.div_ceil(TILE as u32),
        slab_rows: layer.rows.div_ceil(WIDE_ROWS as u32),
        warps: 1,
        each: arguments.each,
        longer: arguments.longer,
    };
    let run = partition.run(block() as u32);
    let warp = broadcast_first_lane(reread_warp());
    if warp == 0 && is_elected() {
        make_barriers::<B>(&memory, groups);
    }
    if warp >= WARPGROUP {
        give_registers::<DECODER_REGISTERS>();
        let mut decoder = Decoder::new(kind, format, layer, memory, run, groups, warp - WARPGROUP);
        decoder.start();
        async_copy_wait();
        barrier();
        decoder.all();
    } else {
        take_registers::<MULTIPLIER_REGISTERS>();
        async_copy_wait();
        barrier();
        wait_for_last_launch();
        let x = XPanels::<B>::new(arguments, memory, partition, run, groups);
        // SAFETY: the caller's promise.
        unsafe { multiply::<B>(kind, arguments, &memory, partition, (run, groups), warp, x) };
    }
}

/// Makes the barriers of panels.
#[inline(always)]
fn make_barriers<const B: usize>(memory: &WideMemory, groups: u32) {
    let mut number = 0;
    while number < groups + activation_stages(B) {
        let at = memory.barriers + 16 * number;
        // A panel of activations comes by one copy; weights are written, and both are read, by the warps of a warpgroup.
        let arrivals = if number < groups { WARPGROUP } else { 1 };
        // SAFETY: the barriers' places, which nothing uses yet.
        unsafe {
            make_barrier(at, arrivals);
            make_barrier(at + 8, WARPGROUP);
        }
        number += 1;
    }
    barriers_made();
}
