//! A warp's loop over its segments.

use super::mainloop::Mainloop;
use super::memory::WarpMemory;
use super::prefetch::{Phase, Prefetch, Prefetcher};
use super::ring::Ring;
use super::segment::{Segment, SegmentInput, across};
use crate::WeightFormat;
use crate::device::matmul::shared::epilogue::{finish, finish_block, partition};
use crate::device::matmul::shared::groups::HasZeroPoints;
use crate::device::matmul::shared::sums::{Sums, zero};
use crate::device::matmul::{Arguments, Kind};
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, blocks, reread_block, reread_warp, thread, threads, warp_barrier,
};
use fused_rans_layout::{GroupPlane, Run};

/// Multiplies, or writes fragments, with all threads of a block.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn run<const B: usize, const S: usize>(kind: Kind, arguments: &Arguments) {
    let run = segments::<S>(arguments);
    let format = format(kind, arguments);
    let memory = WarpMemory::new::<B, S>(format.raw_bits(), kind.grouped, arguments);
    let group_bytes = group_bytes(kind, arguments);
    let prefetcher = Prefetcher { arguments, memory: &memory, format, group_bytes };
    let mut segment = Segment::<S>::new(run.start, across(arguments));
    // SAFETY: the first segment's record, if there is a segment, and the table, which is whole.
    unsafe {
        if !run.is_empty() {
            prefetcher.request_record(segment);
        }
        copy_table(arguments.table, thread(), threads() as usize);
    }
    let ring = Ring::<B, S>::new(memory.ring(), format.raw_bits());
    let mut mainloop = Mainloop::<B, S>::new(kind, arguments, format, ring);
    let mut input = SegmentInput::new(segment, arguments, &memory, 0);
    // Table and records are there, for all warps; those without work come here, too.
    async_copy_wait();
    barrier();
    let mut done = Prefetch::Record;
    let mut sums: [Sums<B>; S] = [zero(); S];
    while segment.number(across(arguments)) < run.end {
        // SAFETY: the slots and rows of other segments are not read any more; all lanes of the warp are here.
        unsafe { prefetcher.complete(done, &input, || mainloop.prime(&input)) };
        let next = segment.next(across(arguments));
        let has_next = next.number(across(arguments)) < run.end;
        let parity = input.parity ^ 1;
        done = Prefetch::Nothing;
        let prepare = |phase: Phase, room: bool| {
            if has_next {
                // SAFETY: slots of the other parity, and if there is room, rows, are not read any more; between the
                // phases the mainloop waits for what was requested.
                let advanced = unsafe { prefetcher.advance(next, parity, phase, room) };
                done = advanced.unwrap_or(done);
            }
            has_next && next.is_whole(arguments)
        };
        mainloop.segment(&input, prepare, &mut sums);
        // The words of this segment are not read any more.
        warp_barrier();
        if next.band != segment.band || !has_next {
            // SAFETY: the caller's promise.
            unsafe { finish_band(kind, arguments, format, run, segment, &sums) };
            sums = [zero(); S];
        }
        segment = next;
        input = SegmentInput::new(segment, arguments, &memory, parity);
    }
    if !kind.fragments {
        // SAFETY: the caller's promise.
        unsafe { finish_block::<B, S>(kind, arguments, format.raw_bits()) };
    }
}

/// Stores or saves the sums of the band of `segment`, the warp's last one in this band.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn finish_band<const B: usize, const S: usize>(
    kind: Kind,
    arguments: &Arguments,
    format: WeightFormat,
    run: Run,
    segment: Segment<S>,
    sums: &[Sums<B>; S],
) {
    if !kind.fragments {
        let across = across(arguments);
        let (start, end) = (segment.band * across, segment.number(across) + 1);
        let part = Run { start: start.max(run.start), end };
        let (raw_bits, is_last) = (format.raw_bits(), end >= run.end);
        // SAFETY: the caller's promise.
        unsafe { finish::<B, S>(kind, arguments, raw_bits, segment.band, part, is_last, sums) };
    }
}

/// Returns the warp's segments.
#[inline(always)]
fn segments<const S: usize>(arguments: &Arguments) -> Run {
    let partition = partition::<S>(arguments, blocks());
    partition.warp(partition.block(reread_block()), reread_warp())
}

#[inline(always)]
fn format(kind: Kind, arguments: &Arguments) -> WeightFormat {
    let Kind { dtype, table, raw_bits, .. } = kind;
    let (base, zero) = (arguments.exponent_base, arguments.has_zero_exponent());
    WeightFormat::new(dtype, table, raw_bits, base, zero)
}

/// Returns the bytes of a slab's scales and zero points.
#[inline(always)]
fn group_bytes(kind: Kind, arguments: &Arguments) -> u32 {
    let plane = GroupPlane { zeros: arguments.has_zero_points() };
    if kind.grouped { plane.bytes() as u32 } else { 0 }
}
