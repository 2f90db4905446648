//! Kernel arguments: each kernel takes one of these structures, by value.
//!
//! The host fills a structure and passes its address as the only kernel parameter; the kernel reads the same
//! structure. Addresses are device addresses. No structure has implicit padding, and the assertions below
//! are evaluated in both builds, so host and kernels cannot disagree about an offset.

use super::flags::{LayerFlags, MatmulFlags};

/// A layer as the matmul kernels read it. A launch over several layers would take an array of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LayerArgs {
    /// Address of the compressed layer.
    pub blob: u64,
    /// Address of its index: one [`TileEntry`](crate::TileEntry) per tile.
    pub index: u64,
    /// Address of its expanded decode table, of the [`TableKind`](crate::TableKind) that the kernel reads.
    pub table: u64,
    /// Address of an F32 factor for every row of W, or 0.
    pub scale: u64,
    /// Address of an F32 summand for every row of W, or 0.
    pub bias: u64,
    /// Rows of W: N.
    pub rows: u32,
    /// Columns of W: K.
    pub cols: u32,
    /// Exponent field that the coded bits 0 mean.
    pub exponent_base: u32,
    /// Properties of the layer.
    pub flags: LayerFlags,
}

/// Arguments of the matmul kernels and of the kernels that write A fragments for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MatmulArgs {
    /// The layer W.
    pub layer: LayerArgs,
    /// Address of the activations, M x K.
    pub x: u64,
    /// Address of the outputs, M x N. For tests, of the A fragments: four registers for each tile, slab, fragment
    /// and lane.
    pub y: u64,
    /// Address of the partial sums of bands that several warps share.
    pub partials: u64,
    /// Address of the counters of those bands, one per fragment of y of a band; 0 before and after a launch.
    pub counters: u64,
    /// Rows of x: M, at most those that the kernel takes.
    pub x_rows: u32,
    /// Elements from a row of x to the next.
    pub x_row_stride: u32,
    /// Elements from a row of y to the next.
    pub y_row_stride: u32,
    /// Rows of words that a warp's buffer holds for each slab that the warp decodes at a time: at least those of the
    /// layer's longest slab plus [`LOOK_AHEAD`](crate::LOOK_AHEAD).
    pub buffer_rows: u32,
    /// Properties of the launch.
    pub flags: MatmulFlags,
    /// Zero.
    pub reserved: u32,
}

/// Arguments of the kernels that decode a layer to row-major weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DecodeArgs {
    /// Address of the compressed layer.
    pub blob: u64,
    /// Address of its index: one [`TileEntry`](crate::TileEntry) per tile, so per block.
    pub index: u64,
    /// Address of its expanded decode table.
    pub table: u64,
    /// Address of the weights to write.
    pub out: u64,
    /// Rows of the matrix.
    pub rows: u64,
    /// Columns of the matrix.
    pub cols: u64,
    /// Exponent field that the coded bits 0 mean.
    pub exponent_base: u32,
    /// Raw bits of a weight; read for I8 only.
    pub raw_bits: u32,
    /// Bytes of a slab's scales and zero points.
    pub group_bytes: u32,
    /// Rows of words that a warp's buffer holds: those of the layer's longest slab plus
    /// [`LOOK_AHEAD`](crate::LOOK_AHEAD).
    pub buffer_rows: u32,
    /// Properties of the layer.
    pub flags: LayerFlags,
    /// Zero.
    pub reserved: u32,
}

/// Arguments of the kernels that multiply with weights that are not compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DenseArgs {
    /// Address of the weights, N x K, without gaps.
    pub w: u64,
    /// Address of the activations, M x K, without gaps.
    pub x: u64,
    /// Address of the outputs, M x N, F32, without gaps.
    pub y: u64,
    /// Rows of W: N.
    pub rows: u32,
    /// Columns of W: K.
    pub cols: u32,
    /// Rows of x: M.
    pub x_rows: u32,
    /// Zero.
    pub reserved: u32,
}

/// Threads of a block of the kernels that take [`DenseArgs`]: a warp for each of 8 rows of W.
pub const DENSE_THREADS: usize = 256;

/// Arguments of the kernel that verifies checksums in device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ChecksumArgs {
    /// Address of the [`Region`](crate::Region)s, one per block.
    pub regions: u64,
    /// Address of the u32 that is lowered to the number of the first region with a wrong checksum.
    pub first_damaged: u64,
}

/// Asserts that the fields of a structure follow each other without gaps and fill it.
macro_rules! assert_packed {
    ($name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        const _: () = {
            let mut end = 0;
            $(
                assert!(core::mem::offset_of!($name, $field) == end, stringify!($field));
                end += size_of::<$type>();
            )+
            assert!(size_of::<$name>() == end, "trailing padding");
            assert!(align_of::<$name>() == 8);
        };
    };
}

assert_packed!(LayerArgs {
    blob: u64,
    index: u64,
    table: u64,
    scale: u64,
    bias: u64,
    rows: u32,
    cols: u32,
    exponent_base: u32,
    flags: u32,
});
assert_packed!(MatmulArgs {
    layer: LayerArgs,
    x: u64,
    y: u64,
    partials: u64,
    counters: u64,
    x_rows: u32,
    x_row_stride: u32,
    y_row_stride: u32,
    buffer_rows: u32,
    flags: u32,
    reserved: u32,
});
assert_packed!(DecodeArgs {
    blob: u64,
    index: u64,
    table: u64,
    out: u64,
    rows: u64,
    cols: u64,
    exponent_base: u32,
    raw_bits: u32,
    group_bytes: u32,
    buffer_rows: u32,
    flags: u32,
    reserved: u32,
});
assert_packed!(DenseArgs {
    w: u64,
    x: u64,
    y: u64,
    rows: u32,
    cols: u32,
    x_rows: u32,
    reserved: u32
});
assert_packed!(ChecksumArgs { regions: u64, first_damaged: u64 });

const _: () = assert!(
    size_of::<LayerArgs>() == 56
        && size_of::<MatmulArgs>() == 112
        && size_of::<DecodeArgs>() == 72
        && size_of::<DenseArgs>() == 40
        && size_of::<ChecksumArgs>() == 16
);
