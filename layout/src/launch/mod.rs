//! The launch contract: what host and kernels agree on beside the stored bytes. Arguments, names of kernels, shared memory,
//! and how a layer is divided among warps.

mod args;
mod budget;
mod flags;
mod kernel_id;
mod lean;
mod partition;
mod region;
mod wide;

pub use args::{ChecksumArgs, DENSE_THREADS, DecodeArgs, DenseArgs, LayerArgs, MatmulArgs};
pub use budget::{
    RING_STAGES, SLAB_BYTES, max_warps, record_bytes, ring_bytes, ring_raw_bytes, ring_stage_bytes,
    slabs_at_once, slabs_bytes, sum_bytes,
};
pub use flags::{LayerFlags, MatmulFlags};
pub use kernel_id::{ActivationType, KernelFamily, KernelId, WeightCoding};
pub use lean::{
    LEAN_DECODE_WARPS, LeanDecodeArgs, LeanLayer, LeanMatmulArgs, LeanMemory, MAX_BUFFER_ROWS,
    MAX_LEAN_OCTETS, MAX_LEAN_WARPS, RAW_STAGES, WARP_BARRIER_BYTES, lean_sum_bytes,
    raw_comes_with_words, x_row_bytes, x_stage_columns, x_stages,
};
pub use partition::{Partition, Run};
pub use region::{REGION_SHARED_MEMORY, REGION_THREADS, Region};
pub use wide::{
    CHUNK_COLUMNS, MAX_DECODER_GROUPS, PACK_THREADS, PIECE_COLUMNS, PIECES, PackArgs, WARPGROUP,
    WEIGHT_PIECE_BYTES, WIDE_ROWS, WideMemory, activation_piece_bytes, activation_stages,
    max_resident_warps, packed_bytes, piece_offset,
};
