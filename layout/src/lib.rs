//! Definitions that the CPU codec, the host and the GPU kernels of fused-rans share: stored layout and launch contract.
//!
//! A matrix is divided into tiles of [`TILE`] x [`TILE`] weights, a tile into slabs of two strips of 16 rows. A slab has 32
//! rANS streams, one for each lane of a warp, of up to [`MAX_SYMBOLS`] symbols. A symbol is the coded bits of two weights
//! (four bits each) or of four weights (two bits each): see [`WeightsPerSymbol`]. The other bits of the weights are in
//! the raw planes. Symbols and raw bits are stored in the order in which `mma.sync.m16n8k16` reads its A operand.
//!
//! `stored` is what the bytes of a compressed matrix mean, specified by `docs/format.md` in the repository; `table` has the
//! entries of decode tables, which exist in memory only; `launch` is what host and kernels agree on; `resident` is
//! how a layer lies in device memory.
//!
//! This crate makes no promises of its own: use `fused-rans`.
#![no_std]
#![deny(unsafe_code)]

mod launch;
mod resident;
mod stored;
mod table;

pub use launch::{
    ActivationType, CHUNK_COLUMNS, ChecksumArgs, DENSE_THREADS, DecodeArgs, DenseArgs,
    KernelFamily, KernelId, LEAN_DECODE_WARPS, LayerArgs, LayerFlags, LeanDecodeArgs, LeanLayer,
    LeanMatmulArgs, LeanMemory, MAX_BUFFER_ROWS, MAX_DECODER_GROUPS, MAX_LEAN_OCTETS,
    MAX_LEAN_WARPS, MatmulArgs, MatmulFlags, PACK_THREADS, PIECE_COLUMNS, PIECES, PackArgs,
    Partition, RAW_STAGES, REGION_SHARED_MEMORY, REGION_THREADS, RING_STAGES, Region, Run,
    SLAB_BYTES, WARP_BARRIER_BYTES, WARPGROUP, WEIGHT_PIECE_BYTES, WIDE_ROWS, WeightCoding,
    WideMemory, activation_piece_bytes, activation_stages, lean_sum_bytes, max_resident_warps,
    max_warps, packed_bytes, piece_offset, raw_comes_with_words, record_bytes, ring_bytes,
    ring_raw_bytes, ring_stage_bytes, slabs_at_once, slabs_bytes, sum_bytes, x_row_bytes,
    x_stage_columns, x_stages,
};
pub use resident::{
    ExceptionEnds, LeanPartition, MAX_COPIED_UNITS, PANEL_COLUMNS, PANEL_FRAGMENTS, PANEL_STEPS,
    PANELS, PanelOrder, PanelStep, ROW_CLASSES, SlabEntry, SlabException, SlabPlace, SlabRun, UNIT,
    activation_column, activation_place, exception_units, panel_plain_bytes, panel_plane_start,
    panel_plane_words, panel_raw_bytes, panel_word_offset, panels, slab_bytes,
};
pub use stored::{
    Dtype, GROUP, GROUPS, GroupPlane, MAX_TAIL_ROWS, Place, Plane, SlabShape, Split,
    TAIL_LENGTH_BYTES, TileEntry, TileGrid, TileKind, TileShape, UnknownDtype, WeightsPerSymbol,
    e4m3_to_f32, exchange_signs, fragment_column, matrix_column, planes, register_position,
};
pub use table::{Entry, ExponentEntry, FourWeightEntry, TableKind};

/// log2 of the decode table's size; the rANS state lives in `[TABLE, 2 * TABLE)`.
pub const PROB_BITS: u32 = 12;
const _: () = assert!(2 * PROB_BITS <= 32, "two symbols must fit one window");

/// Entries of the decode table, and the sum of a table's frequencies.
pub const TABLE: usize = 1 << PROB_BITS;

/// Size of the alphabet: a symbol has eight coded bits.
pub const SYMBOLS: usize = 256;

/// Rows and columns of a whole tile.
pub const TILE: usize = 256;

/// Rows and columns of an MMA A fragment.
pub const FRAGMENT: usize = 16;

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Strips of 16 rows in a slab. The last slab of a tile with an odd number of strips has one.
pub const SLAB_STRIPS: usize = 2;

/// Rows of a slab of two strips.
pub const SLAB_ROWS: usize = SLAB_STRIPS * FRAGMENT;

/// Slabs of a whole tile.
pub const SLABS: usize = TILE / SLAB_ROWS;

/// Symbols of a lane's stream in a whole slab, at most.
pub const MAX_SYMBOLS: usize = SlabShape::WHOLE.symbols(WeightsPerSymbol::Two);

/// Upper bound on a stream's length in bits: the initial index, and `PROB_BITS` bits per symbol.
pub const MAX_STREAM_BITS: usize = PROB_BITS as usize * (1 + MAX_SYMBOLS);

/// Upper bound on a stream's length in 32-bit words, and so on a slab's rows of words.
pub const MAX_WORD_ROWS: usize = MAX_STREAM_BITS.div_ceil(32);
const _: () = assert!(MAX_WORD_ROWS <= u8::MAX as usize, "row counts are stored in bytes");

/// Rows behind a slab's last row that a decoder may load without using them: it holds the word that it reads from and the
/// word after it.
pub const LOOK_AHEAD: usize = 2;

/// Threads of a block that decodes a tile: a warp for each slab.
pub const TILE_THREADS: usize = SLABS * LANES;

/// Bytes of a row of words. Tiles and blobs start at multiples of it.
pub const LINE: usize = 128;
const _: () = assert!(LINE == 4 * LANES);
