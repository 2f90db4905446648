//! Decodes a layer to row-major weights.

use super::output::Output;
use crate::device::payload::{Record, Rows, SlabPayload, copy_table};
use crate::device::ptx::{
    async_copy_wait, barrier, block, lane, load_global, shared_memory, thread, warp, warp_barrier,
};
use crate::{WeightFormat, decode_slab};
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{
    DecodeArgs, Dtype, LANES, LINE, LayerFlags, SLAB_ROWS, SlabShape, TABLE, TILE_THREADS,
    TableKind, TileEntry, TileGrid, TileKind, TileShape,
};

/// Decodes tile `blockIdx.x` of a layer, from the blob to row-major weights. Blocks of [`TILE_THREADS`] threads, a warp
/// for each slab; shared memory for the table, `buffer_rows` rows of words for each slab, and behind them as many rows
/// as a stream can read.
///
/// # Safety
/// The host has checked the blob's structure, and buffers are as large as the arguments say; there is a block for
/// each tile.
#[inline(always)]
pub unsafe fn decode_tile(dtype: Dtype, table: TableKind, arguments: &DecodeArgs) {
    let grid = TileGrid { rows: arguments.rows as usize, cols: arguments.cols as usize };
    let (tile, shape) = (block(), grid.shape(block()));
    let blob: *const u8 = with_exposed_provenance(arguments.blob as usize);
    let index: *const TileEntry = with_exposed_provenance(arguments.index as usize);
    let to: *mut u8 = with_exposed_provenance_mut(arguments.out as usize);
    let out = Output::new(dtype, to, grid, tile);
    // SAFETY: there is a block for each record.
    let [offset, _, _, kind] = unsafe { load_global(index.wrapping_add(tile).cast()) };
    if kind as u8 == TileKind::Raw as u8 {
        // SAFETY: the payload lies in the blob, and is the tile, row by row.
        return unsafe { out.copy(blob.wrapping_add(offset as usize * LINE)) };
    }
    let (raw_bits, base) = (arguments.raw_bits, arguments.exponent_base);
    let zero = arguments.flags.contains(LayerFlags::ZERO_EXPONENT);
    let format = WeightFormat::new(dtype, table, raw_bits, base, zero);
    let rows = 4 * TABLE + warp() * arguments.buffer_rows as usize * LINE;
    let rows = Rows { first: shared_memory() + rows as u32, stride: LINE as u32 };
    // SAFETY: the table is whole; the tile is coded, and the warp has `buffer_rows` rows there.
    let payload = unsafe {
        let table = with_exposed_provenance(arguments.table as usize);
        copy_table(table, thread(), TILE_THREADS);
        (warp() < shape.slabs())
            .then(|| request(blob, index.wrapping_add(tile), format, rows, shape, arguments))
    };
    async_copy_wait();
    barrier();
    if let Some(payload) = payload {
        decode_warp(format, &payload, rows, shape, &out);
    }
}

/// Locates the warp's slab and requests its words, to `rows`.
///
/// # Safety
/// The tile is coded and has the slab; `rows` has as many rows as the slab and more, and only this warp uses them.
#[inline(always)]
unsafe fn request(
    blob: *const u8,
    entry: *const TileEntry,
    format: WeightFormat,
    rows: Rows,
    shape: TileShape,
    arguments: &DecodeArgs,
) -> SlabPayload {
    let (slab, raw_bits, group_bytes) = (warp(), format.raw_bits(), arguments.group_bytes);
    // No words are copied to the last rows, which a decoder only looks ahead at.
    let spare = rows.first + (arguments.buffer_rows - 1) * LINE as u32;
    // SAFETY: the caller's promise.
    unsafe {
        Record::request(entry, spare);
        async_copy_wait();
        warp_barrier();
        let record = Record::load(spare, slab as u32);
        let whole = shape.is_whole();
        let payload = SlabPayload::locate(blob, &record, whole, || shape, raw_bits, group_bytes);
        // Loaded before copies are started that it would wait for.
        let length = payload.load_tail_length();
        payload.prefetch_raw(shape.slab(slab).raw_bytes(raw_bits as u8) as u32);
        payload.request_full_rows(rows, [0, u32::MAX], [lane() as u32, LANES as u32]);
        SlabPayload::request_tail_rows([payload], [rows], [length]);
        payload
    }
}

/// Decodes the warp's slab, whose words are at `rows`.
#[inline(always)]
fn decode_warp(
    format: WeightFormat,
    payload: &SlabPayload,
    rows: Rows,
    shape: TileShape,
    out: &Output,
) {
    let memory = payload.memory(rows);
    let (number, shape) = (warp(), shape.slab(warp()));
    let mut slab = out.slab(number);
    if slab.whole {
        // The same with constants, and without checks for edges.
        decode_slab(&memory, lane(), SlabShape::WHOLE, format, |strip, step, registers| {
            slab.store_whole(strip, step, registers);
        });
    } else {
        decode_slab(&memory, lane(), shape, format, |strip, step, registers| {
            slab.store(strip, step, registers);
        });
    }
    // Exceptions overwrite the weights that were decoded in their place. No other warp stores to the slab.
    warp_barrier();
    let (exceptions, count) = payload.exceptions();
    for i in (lane()..count as usize).step_by(LANES) {
        // SAFETY: below the count.
        let [record] = unsafe { load_global(exceptions.wrapping_add(i)) };
        let (place, weight) = TileEntry::exception_fields(record);
        let (row, col) = shape.position(place);
        out.store_weight(SLAB_ROWS * number + row, col, weight.into());
    }
}
