//! Arguments and shared memory of the wide kernels, which multiply resident layers with many rows of x.

use super::lean::{MAX_LEAN_OCTETS, MAX_LEAN_WARPS};
use crate::{LINE, LeanMemory, SLAB_ROWS};

/// Warps of a warpgroup.
pub const WARPGROUP: u32 = 4;

/// Rows of W that a block of a wide kernel takes at a time: a slab for each warp of a warpgroup.
pub const WIDE_ROWS: usize = SLAB_ROWS * WARPGROUP as usize;

/// Columns of a piece of weights or activations, half a panel.
pub const PIECE_COLUMNS: usize = 32;

/// Pieces of a tile's columns.
pub const PIECES: usize = crate::TILE / PIECE_COLUMNS;

/// Bytes from a row of a piece to the next.
const PIECE_ROW_BYTES: usize = 2 * PIECE_COLUMNS;

/// Bytes of a piece of weights. Each warpgroup of decoders has two, which hold a panel.
pub const WEIGHT_PIECE_BYTES: u32 = (WIDE_ROWS * PIECE_ROW_BYTES) as u32;

/// Returns the panels of activations of a block: as many as fit beside three warpgroups of decoders.
#[inline(always)]
#[must_use]
pub const fn activation_stages(octets: usize) -> u32 {
    if octets > 8 { 2 } else { 4 }
}

/// Columns of a chunk, 16 bytes of a row of a piece.
pub const CHUNK_COLUMNS: usize = 8;

/// Most warpgroups that decode for one that multiplies.
pub const MAX_DECODER_GROUPS: u32 = 4;

/// Returns the most warps of a block of a kernel that multiplies a resident layer with so many octets.
#[must_use]
pub const fn max_resident_warps(octets: usize) -> usize {
    match octets {
        0..=MAX_LEAN_OCTETS => MAX_LEAN_WARPS,
        _ => ((1 + MAX_DECODER_GROUPS) * WARPGROUP) as usize,
    }
}

/// Returns the offset of chunk `chunk` of row `row` in a piece. Tensor cores read eight rows of a chunk at once, and chunks of
/// rows that follow each other lie in different banks ("64-byte swizzle").
#[inline(always)]
#[must_use]
pub const fn piece_offset(row: u32, chunk: u32) -> u32 {
    row * PIECE_ROW_BYTES as u32 + (CHUNK_COLUMNS * 2) as u32 * (chunk ^ (row >> 1 & 3))
}

/// Returns the bytes of a piece of so many octets of x.
#[inline(always)]
#[must_use]
pub const fn activation_piece_bytes(octets: usize) -> u32 {
    (8 * octets * PIECE_ROW_BYTES) as u32
}

/// Returns the bytes of the packed activations of `octets` octets for a layer of `across` columns of tiles.
#[inline(always)]
#[must_use]
pub const fn packed_bytes(octets: usize, across: usize) -> usize {
    across * PIECES * activation_piece_bytes(octets) as usize
}

/// Arguments of the kernel that packs activations for the wide kernels: in pieces, with zeros beyond the last row and column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PackArgs {
    /// Address of the activations.
    pub x: u64,
    /// Address of the pieces to write.
    pub packed: u64,
    /// Columns of x.
    pub cols: u32,
    /// Rows of x.
    pub x_rows: u32,
    /// Elements from a row of x to the next.
    pub x_row_stride: u32,
    /// Octets of a piece.
    pub octets: u32,
    /// Properties of the launch.
    pub flags: crate::MatmulFlags,
    /// Zero.
    pub reserved: u32,
}

/// Threads of a block that packs.
pub const PACK_THREADS: usize = 256;

/// Offsets of the parts of a block's shared memory, which starts with the decode table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideMemory {
    /// The decoders' parts.
    pub decoders: LeanMemory,
    /// Panels of weights, one for each warpgroup of decoders.
    pub weights: u32,
    /// Scales of the rows of each panel of weights, if groups have scales.
    pub scales: u32,
    /// Panels of activations.
    pub x: u32,
    /// Barriers: two for each panel of weights, two for each panel of activations.
    pub barriers: u32,
    /// Bytes in all.
    pub bytes: u32,
}

impl WideMemory {
    /// Bytes of the scales of a panel.
    pub const SCALE_BYTES: u32 = 4 * WIDE_ROWS as u32;

    /// Returns the parts for blocks with `groups` warpgroups of decoders.
    #[inline(always)]
    #[must_use]
    pub const fn new(octets: usize, grouped: bool, groups: u32, buffer_rows: u32) -> Self {
        // Raw planes are loaded to registers.
        let decoders = LeanMemory::new(0, 0, grouped, groups * WARPGROUP, buffer_rows);
        // Swizzled pieces start at multiples of eight rows.
        let weights = decoders.x.next_multiple_of(8 * PIECE_ROW_BYTES as u32);
        let x = weights + groups * 2 * WEIGHT_PIECE_BYTES;
        let stages = activation_stages(octets);
        let scales = x + stages * 2 * activation_piece_bytes(octets);
        let barriers = scales + if grouped { groups * Self::SCALE_BYTES } else { 0 };
        let end = barriers + 16 * (groups + stages);
        let end = end.next_multiple_of(LINE as u32);
        let bytes = if end > decoders.bytes { end } else { decoders.bytes };
        Self { decoders, weights, scales, x, barriers, bytes }
    }

    /// Returns the addresses of the parts in shared memory that starts at `base`.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, base: u32) -> Self {
        Self {
            decoders: self.decoders.at(base),
            weights: base + self.weights,
            scales: base + self.scales,
            x: base + self.x,
            barriers: base + self.barriers,
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_piece_do_not_overlap_and_meet_no_bank_twice() {
        let mut seen = [false; WEIGHT_PIECE_BYTES as usize / 16];
        for row in 0..WIDE_ROWS as u32 {
            for chunk in 0..4 {
                let offset = piece_offset(row, chunk);
                assert!(offset.is_multiple_of(16));
                assert!(!core::mem::replace(&mut seen[offset as usize / 16], true));
            }
        }
        // Eight lanes store at once: two rows of four chunks. Eight rows of a chunk are loaded at once.
        for first in (0..WIDE_ROWS as u32).step_by(8) {
            let banks = |places: [(u32, u32); 8]| {
                places
                    .map(|(row, chunk)| 1 << (piece_offset(row, chunk) / 16 % 8))
                    .iter()
                    .sum::<u32>()
            };
            for pair in 0..4 {
                let places =
                    core::array::from_fn(|i| (first + 2 * pair + i as u32 / 4, i as u32 % 4));
                assert_eq!(banks(places), 0xFF);
            }
            for chunk in 0..4 {
                assert_eq!(banks(core::array::from_fn(|i| (first + i as u32, chunk))), 0xFF);
            }
        }
    }
}
