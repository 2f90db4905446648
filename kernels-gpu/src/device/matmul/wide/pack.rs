//! The kernel that packs activations.

use crate::device::ptx::{
    block, blocks, load_activation, load_activations_8, start_next_launch, store_global_4, thread,
    wait_for_last_launch,
};
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use fused_rans_layout::{
    CHUNK_COLUMNS, FRAGMENT, MatmulFlags, PACK_THREADS, PIECE_COLUMNS, PIECES, PackArgs, TILE,
    activation_piece_bytes, piece_offset,
};

/// Packs activations, with all threads of the grid: a chunk, 16 bytes, at a time.
///
/// # Safety
/// The arguments are those of a launch that the host has checked.
#[inline(always)]
pub unsafe fn pack(args: &PackArgs) {
    start_next_launch();
    wait_for_last_launch();
    let rows = 8 * args.octets;
    let row_chunks =
        args.cols.div_ceil(TILE as u32) * (PIECES * PIECE_COLUMNS / CHUNK_COLUMNS) as u32;
    let in_piece = (PIECE_COLUMNS / CHUNK_COLUMNS) as u32;
    let mut number = (block() * PACK_THREADS + thread()) as u32;
    while number < rows * row_chunks {
        let (row, chunk) = (number / row_chunks, number % row_chunks);
        let (piece, in_row) = (chunk / in_piece, chunk % in_piece);
        // SAFETY: the caller's promise.
        unsafe {
            let words = load_chunk(args, row, chunk * CHUNK_COLUMNS as u32);
            let at = piece as usize * activation_piece_bytes(1) as usize * args.octets as usize;
            let to = args.packed as usize + at + piece_offset(row, in_row) as usize;
            store_global_4(with_exposed_provenance_mut(to), words);
        }
        number += blocks() * PACK_THREADS as u32;
    }
}

/// Loads the chunk of a row of x that starts with column `col`; zeros where x has nothing. In a last step without a partner, a
/// lane of the decoder has four columns in place of eight: its chunk has these, and four zeros.
///
/// # Safety
/// As for [`pack`].
#[inline(always)]
unsafe fn load_chunk(args: &PackArgs, row: u32, col: u32) -> [u32; 4] {
    let PackArgs { cols, x_rows, x_row_stride, flags, .. } = *args;
    if row >= x_rows {
        return [0; 4];
    }
    let x: *const u16 = with_exposed_provenance(args.x as usize);
    let at = |col: u32| x.wrapping_add(row as usize * x_row_stride as usize + col as usize);
    let single = single_step(cols);
    if flags.contains(MatmulFlags::ALIGNED_X) && col + CHUNK_COLUMNS as u32 <= cols.min(single) {
        // SAFETY: the columns exist; rows start at multiples of 16 bytes.
        return unsafe { load_activations_8(at(col)) };
    }
    let alone = col >= single;
    let first = if alone { single + (col - single) / 2 } else { col };
    let end = if alone { cols.min(first + CHUNK_COLUMNS as u32 / 2) } else { cols };
    let load = |col: u32| {
        // SAFETY: row and column of x exist.
        if col < end { unsafe { load_activation(at(col)) } } else { 0 }
    };
    let mut words = [0; 4];
    for (i, word) in words.iter_mut().enumerate() {
        let col = first + 2 * i as u32;
        *word = load(col) | load(col + 1) << 16;
    }
    words
}

/// Returns the first column of the step that has no partner; one that no layer has if there is no such step.
#[inline(always)]
fn single_step(cols: u32) -> u32 {
    let (fragment, tile) = (FRAGMENT as u32, TILE as u32);
    let last_tile = (cols - 1) / tile * tile;
    let steps = (cols - last_tile).div_ceil(fragment);
    if steps % 2 == 1 { last_tile + (steps - 1) * fragment } else { u32::MAX }
}
