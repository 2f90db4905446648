//! The kernels that multiply: `y = x W^T` from compressed W, decoded in registers.
//!
//! W's fragments are the A operand of `mma.sync`, x's the B operand: 16 rows of W times 8 rows of x.
//! A warp decodes two slabs at a time, one under the other, and goes along K, with the words of the next
//! ones and the raw planes ahead on their way to shared memory; warps have nothing to do with each
//! other until all of a block are done.

mod shared;
mod sm80;

use crate::MmaType;
use fused_rans_layout::{Dtype, TableKind, TileEntry};

/// What a kernel is compiled for, beside the rows of x that it takes.
#[derive(Clone, Copy)]
struct Kind {
    dtype: Dtype,
    /// Raw bits of I8 weights.
    raw_bits: u32,
    table: TableKind,
    operand: MmaType,
    /// Whether there are scales, and zero points, for groups of weights.
    grouped: bool,
    /// Whether the A fragments are written out, for tests, instead of multiplied.
    fragments: bool,
}

/// What a kernel is launched with.
#[derive(Clone, Copy)]
struct Arguments {
    /// The compressed layer.
    blob: *const u8,
    /// Its index, a record for every tile.
    index: *const TileEntry,
    /// Its decode table, expanded.
    table: *const u32,
    /// Activations, M x K.
    x: *const u16,
    /// Outputs, M x N; for tests, A registers: of every tile, slab, fragment and lane, four.
    y: *mut u8,
    /// A factor for every row of W, or null.
    scale: *const f32,
    /// A summand for every row of W, or null.
    bias: *const f32,
    /// Sums of warps that have not got a whole row of tiles: see [`epilogue`].
    partials: *mut f32,
    /// A counter for every fragment of y of a band, 0 between launches.
    counters: *mut u32,
    /// N.
    rows: u32,
    /// K.
    cols: u32,
    /// M.
    m: u32,
    /// Elements from a row of x to the next.
    leading_x: u32,
    /// Elements from a row of y to the next.
    leading_y: u32,
    /// Exponent field that the coded bits 0 stand for.
    base: u32,
    /// Rows of words that a warp has room for, for each slab that it decodes at a time; at least those of the longest
    /// slab and those that a decoder looks ahead.
    buffer_rows: u32,
    /// Bit 0: y is F32; bit 1: rows of x are aligned to 16 bytes; bit 2: there are zero points; bit 3: the coded bits 0
    /// stand for exponent field 0 (which a table of `ExponentEntry`s knows by itself).
    flags: u32,
}

impl Arguments {
    fn output_f32(&self) -> bool {
        self.flags & 1 != 0
    }

    fn aligned_x(&self) -> bool {
        self.flags & 2 != 0
    }

    fn zero(&self) -> bool {
        self.flags & 8 != 0
    }

    fn zero_points(&self) -> bool {
        self.flags & 4 != 0
    }
}

/// A kernel for `kind` and x of at most 8 times `octets` rows, launched with [`Arguments`] and blocks of up
/// to [`max_warps`] warps. Shared memory for the table, and for every warp a [`Ring`], scales if
/// there are groups, and `buffer_rows` rows of words for each of [`slabs_at_once`], and behind the
/// last one's as many rows as a stream can take.
macro_rules! kernel {
    ($name:ident, $octets:expr, $kind:expr) => {
        global_asm!(
            concat!("// entry-directives ", stringify!($name), ": .maxntid {} .minnctapersm 1"),
            const LANES * max_warps($octets)
        );

        /// See [`kernel`].
        ///
        /// # Safety
        /// The host has checked the blob's structure and all sizes.
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(
            blob: *const u8,
            index: *const TileEntry,
            table: *const u32,
            x: *const u16,
            y: *mut u8,
            scale: *const f32,
            bias: *const f32,
            partials: *mut f32,
            counters: *mut u32,
            rows: u32,
            cols: u32,
            m: u32,
            leading_x: u32,
            leading_y: u32,
            base: u32,
            buffer_rows: u32,
            flags: u32,
        ) {
            const KIND: Kind = $kind;
            #[rustfmt::skip]
            let arguments = Arguments {
                blob, index, table, x, y, scale, bias, partials, counters, rows, cols, m, leading_x,
                leading_y, base, buffer_rows, flags,
            };
            // SAFETY: the caller's promise.
            unsafe {
                run::run::<{ $octets }, { slabs_at_once($octets) }>(KIND, &arguments);
            }
        }
    };
}

/// The kernels of a kind, for x of 8, 16, 32 and 64 rows, and the one for tests.
macro_rules! kernels {
    ($m8:ident, $m16:ident, $m32:ident, $m64:ident, $fragments:ident, $kind:expr) => {
        kernel!($m8, 1, $kind);
        kernel!($m16, 2, $kind);
        kernel!($m32, 4, $kind);
        kernel!($m64, 8, $kind);
        kernel!($fragments, 1, Kind { fragments: true, ..$kind });
    };
}

/// Weights of type `dtype` in whose operands they are.
const fn kind(dtype: Dtype, operand: MmaType) -> Kind {
    let table = TableKind::Plain;
    Kind { dtype, raw_bits: 0, table, operand, grouped: false, fragments: false }
}

/// Integers of `raw_bits` raw bits, two a symbol.
const fn pairs(raw_bits: u32, operand: MmaType) -> Kind {
    Kind { raw_bits, ..kind(Dtype::I8, operand) }
}

/// Integers of `raw_bits` raw bits, four a symbol.
const fn quads(raw_bits: u32, operand: MmaType) -> Kind {
    Kind { table: TableKind::FourWeight, ..pairs(raw_bits, operand) }
}

use {kernel, kernels};
