//! Decodes a resident layer to row-major weights.

use super::output::Output;
use crate::WeightFormat;
use crate::device::payload::copy_table;
use crate::device::ptx::{
    async_copy_wait, barrier, block, blocks, broadcast_first_lane, reread_warp, shared_memory,
    thread, threads, warp_barrier,
};
use crate::device::resident::{
    Exception, Exceptions, LaneStream, ResidentLayer, Slab, Slabs, load_raw, load_raw_after,
    plain_fragment,
};
use crate::unrolled;
use core::ptr::with_exposed_provenance_mut;
use fused_rans_layout::{
    Dtype, LEAN_DECODE_WARPS, LeanDecodeArgs, LeanMemory, PANEL_FRAGMENTS, PANEL_STEPS, PANELS,
    SLAB_ROWS, SLAB_STRIPS, SLABS, TILE, TableKind, TileGrid, activation_column,
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
    slabs.make_barriers();
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
    // The entry of the next slab is loaded while the one before is decoded, whether there is one or not.
    let mut ahead = slabs.load_entry((number + step).min(count - 1));
    loop {
        let next = number + step;
        let next = (next < count).then(|| slabs.located(next, next % across, ahead));
        ahead = slabs.load_entry((number + 2 * step).min(count - 1));
        let (row, col) = (number / across, number % across);
        let tile = row as usize / SLABS * across as usize + col as usize;
        let to = with_exposed_provenance_mut(args.out as usize);
        let out = Output::new(dtype, to, grid, tile);
        let in_tile = row as usize % SLABS;
        let (words, _) = slabs.begin(slab);
        decode_slab(layer, &format, &mut slabs, (slab, words), next, (&out, in_tile));
        // Exceptions overwrite the weights that were decoded in their place. No other warp stores to the slab.
        warp_barrier();
        if let Some(exceptions) = slabs.exceptions(slab, words) {
            store_exceptions(exceptions, &out, in_tile);
        }
        let Some(located) = next else { return };
        (slab, number) = (located, number + step);
    }
}

/// Decodes a slab, number `in_tile` of its tile, whose words are at address `words`.
#[inline(always)]
fn decode_slab(
    layer: &ResidentLayer,
    format: &WeightFormat,
    slabs: &mut Slabs<'_>,
    (slab, words): (Slab, u32),
    next: Option<Slab>,
    (out, in_tile): (&Output, usize),
) {
    let mut to = out.slab(in_tile);
    if to.whole && slab.is_whole() {
        let (mut stream, mut panel) = (LaneStream::new(words), 0);
        while panel < PANELS {
            let store = |fragment: usize, registers| {
                let step = PANEL_STEPS * panel + fragment / SLAB_STRIPS;
                to.store_whole(fragment % SLAB_STRIPS, step, registers);
            };
            let seen = coded_panel(format, slabs, (slab, words), &mut stream, panel, store);
            slabs.after_panel(slab, panel, next, seen);
            panel += 1;
        }
        return;
    }
    let mut stream = if slab.is_plain() { None } else { Some(LaneStream::new(words)) };
    // Of all panels: where the slab lacks one, the copy into its stage replaces an earlier panel of this slab.
    let (mut panel, mut seen) = (0, 0);
    while panel < PANELS {
        let mut store = |fragment: usize, registers| {
            let step = PANEL_STEPS * panel + fragment / SLAB_STRIPS;
            if step < out.steps() {
                to.store(fragment % SLAB_STRIPS, step, registers);
            }
        };
        if panel >= slab.panels as usize {
        } else if let Some(stream) = &mut stream {
            seen |= coded_panel(format, slabs, (slab, words), stream, panel, store);
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
        slabs.after_panel(slab, panel, next, seen);
        panel += 1;
    }
}

/// Decodes a panel, and calls `store` with each fragment. Returns a number that depends on all raw planes that were loaded.
#[inline(always)]
fn coded_panel(
    format: &WeightFormat,
    slabs: &Slabs<'_>,
    (slab, words): (Slab, u32),
    stream: &mut LaneStream,
    panel: usize,
    mut store: impl FnMut(usize, [u32; 4]),
) -> u32 {
    let planes = slabs.begin_raw(slab, words, panel);
    let mut seen = 0;
    unrolled::<2>(
        #[inline(always)]
        |half| {
            let raw = planes.half(half);
            seen |= planes.seen(&raw);
            unrolled::<4>(
                #[inline(always)]
                |f| {
                    let entries = stream.fragment(format.table());
                    store(4 * half + f, format.registers(entries, &raw, f));
                },
            );
        },
    );
    seen
}

/// Stores exceptions of slab number `in_tile` of a tile: each lane some of them.
#[inline(always)]
fn store_exceptions(exceptions: Exceptions, out: &Output, in_tile: usize) {
    exceptions.for_each_in_one_lane(
        #[inline(always)]
        |Exception { place, row, weight, .. }| {
            let col = activation_column(out.steps(), place as usize);
            out.store_weight(in_tile * SLAB_ROWS + row as usize, col, weight);
        },
    );
}
