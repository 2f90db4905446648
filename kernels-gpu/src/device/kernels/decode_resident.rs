//! Decodes a resident layer to row-major weights.

use super::output::Output;
use crate::WeightFormat;
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, barriers_made, block, blocks, broadcast_first_lane, is_elected, lane,
    load_global, make_barrier, reread_warp, shared_memory, thread, threads, warp_barrier,
};
use crate::device::resident::{LaneStream, ResidentLayer, Slab, Slabs, plain_fragment};
use crate::unrolled;
use core::ptr::with_exposed_provenance_mut;
use fused_rans_layout::{
    Dtype, LEAN_DECODE_WARPS, LeanDecodeArgs, LeanMemory, PANEL_FRAGMENTS, PANEL_STEPS, PANELS,
    SLAB_ROWS, SLAB_STRIPS, SLABS, SPAN, TILE, TableKind, TileGrid,
};

/// Decodes a layer's slabs, which the warps of the grid take in turns. Blocks of [`LEAN_DECODE_WARPS`] warps, with the
/// shared memory of a [`LeanMemory`] without octets.
///
/// # Safety
/// The host has made the layer, and buffers are as large as the arguments say.
#[inline(always)]
pub unsafe fn decode_slabs(dtype: Dtype, table: TableKind, args: &LeanDecodeArgs) {
    let layer = &ResidentLayer::new(&args.layer);
    // SAFETY: the table is whole.
    unsafe { copy_table(layer.table, thread(), threads() as usize) };
    let format = layer.format(dtype, table, args.raw_bits);
    let warps = LEAN_DECODE_WARPS as u32;
    let memory = LeanMemory::new(0, format.raw_bits(), false, warps, layer.buffer_rows);
    let memory = memory.at(shared_memory());
    let warp = broadcast_first_lane(reread_warp());
    let mut slabs = Slabs::new(layer, format.raw_bits(), false, memory, warp);
    if is_elected() {
        for i in 0..Slabs::BARRIERS {
            // SAFETY: the barrier's place, which nothing uses yet.
            unsafe { make_barrier(slabs.barriers() + 8 * i, 1) };
        }
        barriers_made();
    }
    async_copy_wait();
    barrier();
    let across = layer.cols.div_ceil(TILE as u32);
    let count = layer.rows.div_ceil(SLAB_ROWS as u32) * across;
    let (mut number, step) = (block() as u32 * warps + warp, blocks() * warps);
    if number >= count {
        return;
    }
    let mut slab = slabs.locate(number, number % across);
    slabs.start(slab);
    let grid = TileGrid { rows: layer.rows as usize, cols: layer.cols as usize };
    loop {
        let next = number + step;
        let next = (next < count).then(|| slabs.locate(next, next % across));
        let (row, col) = (number / across, number % across);
        let tile = row as usize / SLABS * across as usize + col as usize;
        let to = with_exposed_provenance_mut(args.out as usize);
        let out = Output::new(dtype, to, grid, tile);
        decode_slab(layer, &format, &mut slabs, slab, next, &out, row as usize % SLABS);
        // Exceptions overwrite the weights that were decoded in their place. No other warp stores to the slab.
        warp_barrier();
        store_exceptions(layer, &out, row, col);
        let Some(located) = next else { return };
        (slab, number) = (located, number + step);
    }
}

/// Decodes a slab, number `in_tile` of its tile.
#[inline(always)]
fn decode_slab(
    layer: &ResidentLayer,
    format: &WeightFormat,
    slabs: &mut Slabs<'_>,
    slab: Slab,
    next: Option<Slab>,
    out: &Output,
    in_tile: usize,
) {
    let (words, _) = slabs.begin(slab);
    let mut to = out.slab(in_tile);
    let mut stream = if slab.is_plain() { None } else { Some(LaneStream::new(words)) };
    let whole = to.whole && slab.is_whole();
    let mut panel = 0;
    while panel < PANELS {
        let mut store = |fragment: usize, registers| {
            let step = PANEL_STEPS * panel + fragment / SLAB_STRIPS;
            if whole {
                to.store_whole(fragment % SLAB_STRIPS, step, registers);
            } else if step < out.steps() {
                to.store(fragment % SLAB_STRIPS, step, registers);
            }
        };
        if panel >= slab.panels as usize {
        } else if let Some(stream) = &mut stream {
            let planes = slabs.begin_raw(panel);
            unrolled::<2>(
                #[inline(always)]
                |half| {
                    let raw = planes.half(half);
                    unrolled::<4>(
                        #[inline(always)]
                        |f| {
                            let entries = stream.fragment(format.table());
                            store(4 * half + f, format.registers(entries, &raw, f));
                        },
                    );
                },
            );
        } else {
            unrolled::<PANEL_FRAGMENTS>(
                #[inline(always)]
                |fragment| {
                    let byte_len = format.dtype().byte_len();
                    // SAFETY: the slab has the panel.
                    let registers =
                        unsafe { plain_fragment(layer, slab, byte_len, panel, fragment) };
                    store(fragment, registers);
                },
            );
        }
        slabs.after_panel(slab, panel, next);
        panel += 1;
    }
}

/// Stores the exceptions of the slab in row `row` of slabs and column `col` of tiles: each lane those of one row.
#[inline(always)]
fn store_exceptions(layer: &ResidentLayer, out: &Output, row: u32, col: u32) {
    let in_slab = lane() as u32;
    let matrix_row = row * SLAB_ROWS as u32 + in_slab;
    if layer.exception_starts.is_null() || matrix_row >= layer.rows {
        return;
    }
    // A tile lies in one span.
    let (first, tile) = (col * TILE as u32, TILE as u32);
    let start = (first / SPAN as u32) as usize * layer.rows as usize + matrix_row as usize;
    let starts = layer.exception_starts.wrapping_add(start);
    let first = first % SPAN as u32;
    // SAFETY: there is a number for each row of each span, and one more; numbers below the last are those of exceptions.
    unsafe {
        let ([mut at], [end]) = (load_global(starts), load_global(starts.wrapping_add(1)));
        let place = |at: u32| {
            let [_, place] = load_global(layer.exceptions.wrapping_add(at as usize).cast());
            place
        };
        // The first exception that is not in a column before the tile.
        let mut after = end;
        while at < after {
            let middle = at + (after - at) / 2;
            if place(middle) & 0xFFFF < first {
                at = middle + 1;
            } else {
                after = middle;
            }
        }
        while at < end {
            let place = place(at);
            if (place & 0xFFFF) >= first + tile {
                break;
            }
            let (row, col) =
                (row as usize % SLABS * SLAB_ROWS + in_slab as usize, (place & 0xFFFF) - first);
            out.store_weight(row, col as usize, place >> 16);
            at += 1;
        }
    }
}
