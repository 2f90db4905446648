//! The kernels: the table of the layout crate, expanded. Nothing else of the device crate has a name in the PTX.
//!
//! Kernels are built in two parts, which are compiled side by side: the feature `bf16` has the matmul kernels for
//! activations in BF16 and all kernels that do not multiply compressed layers, `f16` has the matmul kernels for
//! activations in FP16.

#[cfg(all(feature = "bf16", not(feature = "lean")))]
use super::decode::decode_tile;
#[cfg(all(feature = "bf16", feature = "lean"))]
use super::decode_resident::decode_slabs;
#[cfg(feature = "bf16")]
use super::{
    checksum::verify_region,
    dense::{DENSE_THREADS, multiply},
};
use crate::MmaType;
use crate::device::matmul::Kind;
#[cfg(not(feature = "lean"))]
use crate::device::matmul::{Arguments, run};
#[cfg(feature = "lean")]
use crate::device::matmul::{lean, wide};
use core::arch::global_asm;
#[cfg(feature = "bf16")]
use fused_rans_layout::{ChecksumArgs, DenseArgs, REGION_THREADS};
#[cfg(all(feature = "bf16", not(feature = "lean")))]
use fused_rans_layout::{DecodeArgs, TILE_THREADS};
use fused_rans_layout::{Dtype, LANES, TableKind, kernel_name, kernel_table};
#[cfg(all(feature = "bf16", feature = "lean"))]
use fused_rans_layout::{LEAN_DECODE_WARPS, LeanDecodeArgs};
#[cfg(feature = "lean")]
use fused_rans_layout::{
    LeanMatmulArgs, MAX_LEAN_OCTETS, PACK_THREADS, PackArgs, max_resident_warps,
};
#[cfg(not(feature = "lean"))]
use fused_rans_layout::{MatmulArgs, max_warps, slabs_at_once};

/// Declares the kernel `$name`, which runs `$body` with arguments of type `$args`. A block has at most `$threads`
/// threads, and registers are limited so that `$blocks` blocks fit on a multiprocessor.
macro_rules! kernel {
    (
        [$($name:tt)*], threads: $threads:expr, blocks: $blocks:literal,
        |$arguments:ident: $args:ty| $body:expr
    ) => {
        global_asm!(
            concat!(
                "// entry-directives ", kernel_name!($($name)*),
                ": .maxntid {} .minnctapersm ", $blocks
            ),
            const $threads
        );

        const _: () = {
            /// # Safety
            /// The host has checked the blob's structure and all sizes; buffers are as large as the arguments say.
            #[unsafe(export_name = kernel_name!($($name)*))]
            unsafe extern "ptx-kernel" fn kernel($arguments: $args) {
                // SAFETY: the caller's promise.
                unsafe { $body }
            }
        };
    };
}

/// Declares the matmul kernels of a type of activations.
#[cfg(feature = "lean")]
macro_rules! matmul_kernels {
    (
        $name:literal $activations:ident
        { $dtype:ident $raw_bits:literal $table:ident $grouped:tt } [$($rows:literal)*]
    ) => {
        $(kernel!(
            [matmul $name $activations $rows], threads: LANES * max_resident_warps($rows / 8), blocks: 1,
            |arguments: LeanMatmulArgs| {
                const KIND: Kind = Kind {
                    dtype: Dtype::$dtype,
                    raw_bits: $raw_bits,
                    table: TableKind::$table,
                    mma_type: MmaType::$activations,
                    grouped: $grouped,
                    fragments: false,
                };
                if $rows / 8 <= MAX_LEAN_OCTETS {
                    lean::run::<{ $rows / 8 }>(KIND, &arguments)
                } else {
                    wide::run::<{ $rows / 8 }>(KIND, &arguments)
                }
            }
        );)*
    };
}

/// Declares the matmul kernels of a type of activations, and the kernel that writes fragments.
#[cfg(not(feature = "lean"))]
macro_rules! matmul_kernels {
    (
        $name:literal $activations:ident
        { $dtype:ident $raw_bits:literal $table:ident $grouped:tt } [$($rows:literal)*]
    ) => {
        $(kernel!(
            [matmul $name $activations $rows], threads: LANES * max_warps($rows / 8), blocks: 1,
            |arguments: MatmulArgs| {
                const KIND: Kind = Kind {
                    dtype: Dtype::$dtype,
                    raw_bits: $raw_bits,
                    table: TableKind::$table,
                    mma_type: MmaType::$activations,
                    grouped: $grouped,
                    fragments: false,
                };
                run::<{ $rows / 8 }, { slabs_at_once($rows / 8) }>(KIND, &Arguments::new(&arguments))
            }
        );)*
        kernel!(
            [fragments $name $activations], threads: LANES * max_warps(1), blocks: 1,
            |arguments: MatmulArgs| {
                const KIND: Kind = Kind {
                    dtype: Dtype::$dtype,
                    raw_bits: $raw_bits,
                    table: TableKind::$table,
                    mma_type: MmaType::$activations,
                    grouped: $grouped,
                    fragments: true,
                };
                run::<1, { slabs_at_once(1) }>(KIND, &Arguments::new(&arguments))
            }
        );
    };
}

/// Leaves out the kernels of the part that is not built.
macro_rules! matmul_part {
    ($name:literal Bf16 $($rest:tt)*) => {
        #[cfg(feature = "bf16")]
        matmul_kernels!($name Bf16 $($rest)*);
    };
    ($name:literal F16 $($rest:tt)*) => {
        #[cfg(feature = "f16")]
        matmul_kernels!($name F16 $($rest)*);
    };
}

/// Declares the kernels for most rows of x, where groups have no scales.
#[cfg(feature = "lean")]
macro_rules! widest_part {
    ($name:literal $activations:ident { $dtype:ident $raw_bits:literal $table:ident true } $rows:literal) => {};
    ($name:literal $activations:ident $kind:tt $rows:literal) => {
        matmul_part!($name $activations $kind [$rows]);
    };
}

/// Expands the table.
macro_rules! instances {
    (
        decode: [$($weights:literal $type:ident $entries:ident,)*]
        decode_resident: [$($resident_weights:literal $resident_type:ident $resident_entries:ident,)*]
        dense: [$($operands:ident)*]
        matmul: [$(
            $name:literal $dtype:ident $raw_bits:literal $table:ident $grouped:tt [$($activations:ident)*],
        )*]
        rows: $rows:tt
        widest: $widest:literal
    ) => {
        #[cfg(all(feature = "bf16", feature = "lean"))]
        kernel!([pack], threads: PACK_THREADS, blocks: 4, |arguments: PackArgs| wide::pack(&arguments));
        #[cfg(feature = "bf16")]
        kernel!(
            [checksum], threads: REGION_THREADS, blocks: 4,
            |arguments: ChecksumArgs| verify_region(&arguments)
        );
        $(
            #[cfg(all(feature = "bf16", feature = "lean"))]
            kernel!(
                [decode $weights], threads: LANES * LEAN_DECODE_WARPS, blocks: 2,
                |arguments: LeanDecodeArgs| {
                    decode_slabs(Dtype::$type, TableKind::$entries, &arguments)
                }
            );
            #[cfg(all(feature = "bf16", not(feature = "lean")))]
            kernel!(
                [decode $weights], threads: TILE_THREADS, blocks: 2,
                |arguments: DecodeArgs| decode_tile(Dtype::$type, TableKind::$entries, &arguments)
            );
        )*
        $(
            #[cfg(all(feature = "bf16", feature = "lean"))]
            kernel!(
                [decode $resident_weights], threads: LANES * LEAN_DECODE_WARPS, blocks: 2,
                |arguments: LeanDecodeArgs| {
                    decode_slabs(Dtype::$resident_type, TableKind::$resident_entries, &arguments)
                }
            );
        )*
        $(
            #[cfg(feature = "bf16")]
            kernel!(
                [dense $operands], threads: DENSE_THREADS, blocks: 2,
                |arguments: DenseArgs| multiply(MmaType::$operands, &arguments)
            );
        )*
        $($(
            matmul_part!($name $activations { $dtype $raw_bits $table $grouped } $rows);
            #[cfg(feature = "lean")]
            widest_part!($name $activations { $dtype $raw_bits $table $grouped } $widest);
        )*)*
    };
}

kernel_table!(instances);
