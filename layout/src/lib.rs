//! The stored layout of fused-rans, once, for the CPU codecs and the GPU kernels.
//!
//! A matrix is cut into [`TILE`] x [`TILE`] tiles; a tile into slabs of two 16-row strips; a slab is
//! what one warp decodes: 32 lane-private rANS streams of up to [`MAX_SYMBOLS`] symbols. A symbol is
//! the coded bits of two weights, four each, or of four, two each ([`WeightsPerSymbol`]); the rest of each weight
//! lies in the raw planes.
//! Symbols and raw bits stand in the order in which `mma.sync.m16n8k16` wants its A operand.
//!
//! `docs/format.md` in the repository is the specification; every item here names its part of it.
#![no_std]
#![forbid(unsafe_code)]

mod launch;
mod stored;
mod table;

pub use launch::{
    ActivationType, ChecksumArgs, DecodeArgs, DenseArgs, KernelFamily, KernelId, LayerArgs,
    LayerFlags, MatmulArgs, MatmulFlags, Partition, REGION_SHARED_MEMORY, REGION_THREADS,
    RING_STAGES, Region, Run, SLAB_BYTES, WeightCoding, max_warps, record_bytes, ring_bytes,
    ring_raw_bytes, ring_stage_bytes, slabs_at_once, slabs_bytes, sum_bytes,
};
pub use stored::{
    Dtype, GROUP, GROUPS, GroupPlane, MAX_TAIL_ROWS, Place, Plane, SlabShape, Split,
    TAIL_LENGTH_BYTES, TileEntry, TileGrid, TileKind, TileShape, UnknownDtype, WeightsPerSymbol,
    exchange_signs, fragment_column, matrix_column, planes, register_position,
};
pub use table::{Entry, ExponentEntry, FourWeightEntry, TableKind};

/// log2 of the decode table's size; the rANS state lives in `[TABLE, 2 * TABLE)`.
pub const PROB_BITS: u32 = 12;
const _: () = assert!(2 * PROB_BITS <= 32, "two symbols must fit one window");

/// Slots of the decode table, and the sum of a table's frequencies.
pub const TABLE: usize = 1 << PROB_BITS;

/// Size of the alphabet: the coded bits of a symbol's weights are eight.
pub const SYMBOLS: usize = 256;

/// Rows and columns of a whole tile.
pub const TILE: usize = 256;

/// Rows and columns of an MMA A fragment.
pub const FRAGMENT: usize = 16;

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Strips (of 16 rows) that one slab spans, except the last of a tile with an odd number of strips.
pub const SLAB_STRIPS: usize = 2;

/// Rows of a slab of two strips.
pub const SLAB_ROWS: usize = SLAB_STRIPS * FRAGMENT;

/// Slabs of a whole tile.
pub const SLABS: usize = TILE / SLAB_ROWS;

/// Symbols of a lane's stream in a whole slab, at most.
pub const MAX_SYMBOLS: usize = SlabShape::WHOLE.symbols(WeightsPerSymbol::Two);

/// Upper bound on a stream's length in bits: the initial index and `PROB_BITS` bits a symbol.
pub const MAX_STREAM_BITS: usize = PROB_BITS as usize * (1 + MAX_SYMBOLS);

/// Upper bound on a stream's length in 32-bit words, so on a slab's rows of words.
pub const MAX_WORD_ROWS: usize = MAX_STREAM_BITS.div_ceil(32);
const _: () = assert!(MAX_WORD_ROWS <= u8::MAX as usize, "row counts are stored in bytes");

/// Rows after a slab's last that a decoder may look at, whatever is there: it holds the word that it reads from
/// and the one after it.
pub const LOOK_AHEAD: usize = 2;

/// Threads that decode a tile on a GPU: a warp for each slab.
pub const TILE_THREADS: usize = SLABS * LANES;

/// Bytes of a row of words; tiles and blobs start at multiples of it.
pub const LINE: usize = 128;
const _: () = assert!(LINE == 4 * LANES);
