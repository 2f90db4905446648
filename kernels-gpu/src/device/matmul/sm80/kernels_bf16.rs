//! The kernels for activations in BF16.

use super::run;
use crate::MmaType;
use crate::device::matmul::{Arguments, Kind, kernel, kernels, kind, pairs, quads};
use core::arch::global_asm;
use fused_rans_layout::{Dtype, LANES, TableKind, TileEntry, max_warps, slabs_at_once};

const OPERAND: MmaType = MmaType::Bf16;

kernels!(
    matmul_bf16_bf16_m8,
    matmul_bf16_bf16_m16,
    matmul_bf16_bf16_m32,
    matmul_bf16_bf16_m64,
    fragments_bf16_bf16,
    Kind { table: TableKind::Exponent, ..kind(Dtype::Bf16, OPERAND) }
);
kernels!(
    matmul_bf16_any_bf16_m8,
    matmul_bf16_any_bf16_m16,
    matmul_bf16_any_bf16_m32,
    matmul_bf16_any_bf16_m64,
    fragments_bf16_any_bf16,
    kind(Dtype::Bf16, OPERAND)
);
kernels!(
    matmul_f8_bf16_m8,
    matmul_f8_bf16_m16,
    matmul_f8_bf16_m32,
    matmul_f8_bf16_m64,
    fragments_f8_bf16,
    kind(Dtype::F8E4M3, OPERAND)
);
kernels!(
    matmul_i4_bf16_m8,
    matmul_i4_bf16_m16,
    matmul_i4_bf16_m32,
    matmul_i4_bf16_m64,
    fragments_i4_bf16,
    Kind { grouped: true, ..pairs(0, OPERAND) }
);
kernels!(
    matmul_i4_quads_bf16_m8,
    matmul_i4_quads_bf16_m16,
    matmul_i4_quads_bf16_m32,
    matmul_i4_quads_bf16_m64,
    fragments_i4_quads_bf16,
    Kind { grouped: true, ..quads(2, OPERAND) }
);
kernels!(
    matmul_i8_r0_bf16_m8,
    matmul_i8_r0_bf16_m16,
    matmul_i8_r0_bf16_m32,
    matmul_i8_r0_bf16_m64,
    fragments_i8_r0_bf16,
    pairs(0, OPERAND)
);
kernels!(
    matmul_i8_r1_bf16_m8,
    matmul_i8_r1_bf16_m16,
    matmul_i8_r1_bf16_m32,
    matmul_i8_r1_bf16_m64,
    fragments_i8_r1_bf16,
    pairs(1, OPERAND)
);
kernels!(
    matmul_i8_r2_bf16_m8,
    matmul_i8_r2_bf16_m16,
    matmul_i8_r2_bf16_m32,
    matmul_i8_r2_bf16_m64,
    fragments_i8_r2_bf16,
    pairs(2, OPERAND)
);
kernels!(
    matmul_i8_r3_bf16_m8,
    matmul_i8_r3_bf16_m16,
    matmul_i8_r3_bf16_m32,
    matmul_i8_r3_bf16_m64,
    fragments_i8_r3_bf16,
    pairs(3, OPERAND)
);
kernels!(
    matmul_i8_r4_bf16_m8,
    matmul_i8_r4_bf16_m16,
    matmul_i8_r4_bf16_m32,
    matmul_i8_r4_bf16_m64,
    fragments_i8_r4_bf16,
    pairs(4, OPERAND)
);
kernels!(
    matmul_i8_quads_r2_bf16_m8,
    matmul_i8_quads_r2_bf16_m16,
    matmul_i8_quads_r2_bf16_m32,
    matmul_i8_quads_r2_bf16_m64,
    fragments_i8_quads_r2_bf16,
    quads(2, OPERAND)
);
kernels!(
    matmul_i8_quads_r3_bf16_m8,
    matmul_i8_quads_r3_bf16_m16,
    matmul_i8_quads_r3_bf16_m32,
    matmul_i8_quads_r3_bf16_m64,
    fragments_i8_quads_r3_bf16,
    quads(3, OPERAND)
);
kernels!(
    matmul_i8_quads_r4_bf16_m8,
    matmul_i8_quads_r4_bf16_m16,
    matmul_i8_quads_r4_bf16_m32,
    matmul_i8_quads_r4_bf16_m64,
    fragments_i8_quads_r4_bf16,
    quads(4, OPERAND)
);
kernels!(
    matmul_i8_quads_r5_bf16_m8,
    matmul_i8_quads_r5_bf16_m16,
    matmul_i8_quads_r5_bf16_m32,
    matmul_i8_quads_r5_bf16_m64,
    fragments_i8_quads_r5_bf16,
    quads(5, OPERAND)
);
