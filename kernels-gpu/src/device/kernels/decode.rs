//! The kernels that decode a layer to row-major weights.

use super::output::Output;
use crate::device::payload::{Record, Rows, SlabPayload, copy_table};
use crate::device::ptx::{
    async_copy_wait, barrier, block, lane, shared_memory, thread, warp, warp_barrier,
};
use crate::{WeightFormat, decode_slab};
use core::arch::global_asm;
use fused_rans_layout::{
    Dtype, FRAGMENT, LANES, LINE, SLAB_STRIPS, SlabShape, TABLE, TILE_THREADS, TableKind,
    TileEntry, TileGrid, TileKind, TileShape,
};

/// What a decode kernel is launched with.
struct Arguments {
    blob: *const u8,
    index: *const TileEntry,
    table: *const u32,
    out: *mut u8,
    grid: TileGrid,
    /// Exponent field that the coded bits 0 stand for.
    base: u32,
    /// 1 if the coded bits 0 stand for exponent field 0.
    zero: u32,
    /// Raw bits of an I8 weight.
    raw_bits: u32,
    group_bytes: u32,
    row_capacity: u32,
}

/// A decode kernel: tile `blockIdx.x` of a layer, from the blob to row-major weights.
///
/// `index` is the blob's, one record a tile; `table` is the expanded decode table; `rows` x `cols`
/// is the matrix; `group_bytes` are those of a slab's scales and zero points; `row_capacity` are the
/// rows of words that a warp has room for in shared memory, `LOOK_AHEAD` more than any slab of the
/// layer has. Blocks of [`TILE_THREADS`] threads; shared memory for the table, `row_capacity` rows for
/// each slab, and as many behind them as a stream can take.
macro_rules! decode_kernel {
    ($name:ident, $dtype:expr, $table:ident) => {
        global_asm!(
            concat!("// entry-directives ", stringify!($name), ": .maxntid {} .minnctapersm 2"),
            const TILE_THREADS
        );

        /// Decodes a tile; see [`decode_kernel`].
        ///
        /// # Safety
        /// The host has checked the blob's structure, and every buffer is as large as it says.
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(
            blob: *const u8,
            index: *const TileEntry,
            table: *const u32,
            out: *mut u8,
            rows: u64,
            cols: u64,
            base: u32,
            zero: u32,
            raw_bits: u32,
            group_bytes: u32,
            row_capacity: u32,
        ) {
            let grid = TileGrid { rows: rows as usize, cols: cols as usize };
            #[rustfmt::skip]
            let arguments = Arguments {
                blob, index, table, out, grid, base, zero, raw_bits, group_bytes, row_capacity,
            };
            // SAFETY: there is a block for each record; the rest is the caller's promise.
            unsafe { decode_tile($dtype, TableKind::$table, &arguments) };
        }
    };
}

decode_kernel!(decode_bf16, Dtype::Bf16, Plain);
decode_kernel!(decode_f16, Dtype::F16, Plain);
decode_kernel!(decode_f8_e4m3, Dtype::F8E4M3, Plain);
decode_kernel!(decode_i8, Dtype::I8, Plain);
decode_kernel!(decode_i8_quads, Dtype::I8, FourWeight);

/// # Safety
/// As the kernels'.
#[inline(always)]
unsafe fn decode_tile(dtype: Dtype, table: TableKind, arguments: &Arguments) {
    let &Arguments { blob, grid, .. } = arguments;
    let shape = grid.shape(block());
    let out = Output::new(dtype, arguments.out, grid, block());
    // SAFETY: there is a block for each record.
    let entry = unsafe { &*arguments.index.add(block()) };
    if entry.kind == TileKind::Raw as u8 {
        // SAFETY: the payload lies in the blob, and is the tile, row by row.
        return unsafe { out.copy(blob.add(entry.offset as usize * LINE)) };
    }
    let (raw_bits, base, zero) = (arguments.raw_bits, arguments.base, arguments.zero != 0);
    let format = WeightFormat::new(dtype, table, raw_bits, base, zero);
    let slab = warp();
    let rows = 4 * TABLE + slab * arguments.row_capacity as usize * LINE;
    let rows = Rows { first: shared_memory() + rows as u32, stride: LINE as u32 };
    // SAFETY: the table is whole; the payload is what the entry describes; the warp has
    // `row_capacity` rows there.
    let payload = unsafe {
        copy_table(arguments.table, thread(), TILE_THREADS);
        (slab < shape.slabs()).then(|| {
            let (raw_bits, group_bytes) = (format.raw_bits(), arguments.group_bytes);
            // No words come to the last rows, which a decoder only looks ahead at.
            let spare = rows.first + (arguments.row_capacity - 1) * LINE as u32;
            Record::fetch(entry, spare);
            async_copy_wait();
            warp_barrier();
            let record = Record::load(spare, slab as u32);
            let whole = shape.is_whole();
            let payload = SlabPayload::new(blob, &record, whole, || shape, raw_bits, group_bytes);
            // Before anything is copied that it would wait for.
            let length = payload.load_tail_length();
            payload.prefetch_raw(shape.slab(slab).raw_bytes(raw_bits as u8) as u32);
            payload.fetch_full(rows, [0, u32::MAX], [lane() as u32, LANES as u32]);
            SlabPayload::fetch_tails([payload], [rows], [length]);
            payload
        })
    };
    async_copy_wait();
    barrier();
    if let Some(payload) = payload {
        decode_warp(format, &payload, rows, shape, &out);
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
        // The same with constants, and no edge to look out for.
        decode_slab(&memory, lane(), SlabShape::WHOLE, format, |strip, step, registers| {
            slab.store_whole(strip, step, registers);
        });
    } else {
        decode_slab(&memory, lane(), shape, format, |strip, step, registers| {
            slab.store(strip, step, registers);
        });
    }
    // The exceptions overwrite what stood in for them. The warp alone stores to the slab.
    warp_barrier();
    let (exceptions, count) = payload.exceptions();
    for i in (lane()..count as usize).step_by(LANES) {
        // SAFETY: below the count.
        let (place, weight) = TileEntry::exception_fields(unsafe { *exceptions.add(i) });
        let (row, col) = shape.position(place);
        out.store_weight(SLAB_STRIPS * FRAGMENT * number + row, col, weight.into());
    }
}
