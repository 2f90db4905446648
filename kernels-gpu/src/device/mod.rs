//! The kernels.

mod instructions;
mod output;
mod payload;

use crate::{Format, decode_slab};
use core::arch::{global_asm, nvptx};
use fused_rans_layout::{
    Dtype, FRAGMENT, LINE, SLAB_STRIPS, SlabShape, TABLE, TILE_THREADS, TileEntry, TileGrid,
    TileKind,
};
use instructions::{
    async_copy_16, async_copy_wait, barrier, block, lane, shared_memory, thread, warp,
};
use output::Output;
use payload::Payload;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: ends the kernel with an error.
    unsafe { nvptx::trap() }
}

/// How the weights of a layer split, as a launch gives it.
struct SplitArguments {
    /// Exponent field of nibble 0.
    base: u32,
    /// 1 if nibble 0 stands for exponent field 0.
    zero: u32,
    /// Raw bits of an I8 weight.
    raw_bits: u32,
}

/// A decode kernel: tile `blockIdx.x` of a layer, from the blob to row-major weights.
///
/// `index` is the blob's, one record a tile; `table` is the expanded decode table; `rows` x `cols`
/// is the matrix; `row_capacity` are the rows of words that a warp has room for in shared memory,
/// [`LOOK_AHEAD`](fused_rans_layout::LOOK_AHEAD) more than any slab of the layer has. Blocks of [`TILE_THREADS`] threads; shared memory for the
/// table and `SLABS * row_capacity` rows.
macro_rules! decode_kernel {
    ($name:ident, $dtype:expr) => {
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
            row_capacity: u32,
        ) {
            let grid = TileGrid { rows: rows as usize, cols: cols as usize };
            let split = SplitArguments { base, zero, raw_bits };
            // SAFETY: there is a block for each record; the rest is the caller's promise.
            unsafe {
                let entry = &*index.add(block());
                let payload = blob.add(entry.offset as usize * LINE);
                decode_tile($dtype, &split, entry, payload, table, out, grid, row_capacity);
            }
        }
    };
}

decode_kernel!(decode_bf16, Dtype::Bf16);
decode_kernel!(decode_f16, Dtype::F16);
decode_kernel!(decode_f8_e4m3, Dtype::F8E4M3);
decode_kernel!(decode_i8, Dtype::I8);

/// # Safety
/// As the kernels'.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a kernel's parameters")]
unsafe fn decode_tile(
    dtype: Dtype,
    split: &SplitArguments,
    entry: &TileEntry,
    payload: *const u8,
    table: *const u32,
    out: *mut u8,
    grid: TileGrid,
    row_capacity: u32,
) {
    let shape = grid.shape(block());
    let out = Output::new(dtype, out, grid, block());
    if entry.kind == TileKind::Raw as u8 {
        // SAFETY: the payload is the tile, row by row.
        return unsafe { out.copy(payload) };
    }
    let format = Format::new(dtype, split.raw_bits, split.base, split.zero != 0);
    // SAFETY: the payload is what the entry describes.
    let payload = unsafe { Payload::new(entry, shape, format.raw_bits(), payload) };
    let slab = warp();
    let has_slab = slab < shape.slabs();
    // SAFETY: the table is whole; the warp has `row_capacity` rows behind it.
    let memory = unsafe {
        copy_table(table);
        let rows = (4 * TABLE + slab * row_capacity as usize * LINE) as u32;
        has_slab.then(|| payload.expand(slab, shared_memory() + rows, row_capacity))
    };
    async_copy_wait();
    barrier();
    if let Some(memory) = memory {
        let out = out.slab(slab * SLAB_STRIPS * FRAGMENT);
        if out.whole {
            // The same with constants, and no edge to look out for.
            decode_slab(&memory, lane(), SlabShape::WHOLE, format, |strip, step, registers| {
                out.store_whole(strip, step, registers);
            });
        } else {
            decode_slab(&memory, lane(), shape.slab(slab), format, |strip, step, registers| {
                out.store(strip, step, registers);
            });
        }
    }
    // The exceptions overwrite what stood in for them, so they must come after it.
    barrier();
    for i in (thread()..usize::from(entry.exceptions)).step_by(TILE_THREADS) {
        let (row, col, weight) = payload.exception(i);
        out.store_weight(row, col, weight.into());
    }
}

/// Starts copying the decode table to the front of shared memory.
///
/// # Safety
/// `table` has [`TABLE`] entries and is aligned to 16 bytes.
#[inline(always)]
unsafe fn copy_table(table: *const u32) {
    let mut i = thread();
    while i < TABLE / 4 {
        // SAFETY: `i` is below a quarter of the table, and shared memory starts with room for it.
        unsafe { async_copy_16(shared_memory() + 16 * i as u32, table.add(4 * i).cast()) };
        i += TILE_THREADS;
    }
}
