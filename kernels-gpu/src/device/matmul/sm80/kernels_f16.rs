//! The kernels for activations in FP16.

use super::run;
use crate::MmaType;
use crate::device::matmul::{Arguments, Kind, kernel, kernels, kind, pairs, quads};
use core::arch::global_asm;
use fused_rans_layout::{Dtype, LANES, TableKind, TileEntry, max_warps, slabs_at_once};

const OPERAND: MmaType = MmaType::F16;

kernels!(
    matmul_f16_f16_m8,
    matmul_f16_f16_m16,
    matmul_f16_f16_m32,
    matmul_f16_f16_m64,
    fragments_f16_f16,
    Kind { table: TableKind::Exponent, ..kind(Dtype::F16, OPERAND) }
);
kernels!(
    matmul_f16_any_f16_m8,
    matmul_f16_any_f16_m16,
    matmul_f16_any_f16_m32,
    matmul_f16_any_f16_m64,
    fragments_f16_any_f16,
    kind(Dtype::F16, OPERAND)
);
kernels!(
    matmul_f8_f16_m8,
    matmul_f8_f16_m16,
    matmul_f8_f16_m32,
    matmul_f8_f16_m64,
    fragments_f8_f16,
    kind(Dtype::F8E4M3, OPERAND)
);
kernels!(
    matmul_i4_f16_m8,
    matmul_i4_f16_m16,
    matmul_i4_f16_m32,
    matmul_i4_f16_m64,
    fragments_i4_f16,
    Kind { grouped: true, ..pairs(0, OPERAND) }
);
kernels!(
    matmul_i4_quads_f16_m8,
    matmul_i4_quads_f16_m16,
    matmul_i4_quads_f16_m32,
    matmul_i4_quads_f16_m64,
    fragments_i4_quads_f16,
    Kind { grouped: true, ..quads(2, OPERAND) }
);
kernels!(
    matmul_i8_r0_f16_m8,
    matmul_i8_r0_f16_m16,
    matmul_i8_r0_f16_m32,
    matmul_i8_r0_f16_m64,
    fragments_i8_r0_f16,
    pairs(0, OPERAND)
);
kernels!(
    matmul_i8_r1_f16_m8,
    matmul_i8_r1_f16_m16,
    matmul_i8_r1_f16_m32,
    matmul_i8_r1_f16_m64,
    fragments_i8_r1_f16,
    pairs(1, OPERAND)
);
kernels!(
    matmul_i8_r2_f16_m8,
    matmul_i8_r2_f16_m16,
    matmul_i8_r2_f16_m32,
    matmul_i8_r2_f16_m64,
    fragments_i8_r2_f16,
    pairs(2, OPERAND)
);
kernels!(
    matmul_i8_r3_f16_m8,
    matmul_i8_r3_f16_m16,
    matmul_i8_r3_f16_m32,
    matmul_i8_r3_f16_m64,
    fragments_i8_r3_f16,
    pairs(3, OPERAND)
);
kernels!(
    matmul_i8_r4_f16_m8,
    matmul_i8_r4_f16_m16,
    matmul_i8_r4_f16_m32,
    matmul_i8_r4_f16_m64,
    fragments_i8_r4_f16,
    pairs(4, OPERAND)
);
kernels!(
    matmul_i8_quads_r2_f16_m8,
    matmul_i8_quads_r2_f16_m16,
    matmul_i8_quads_r2_f16_m32,
    matmul_i8_quads_r2_f16_m64,
    fragments_i8_quads_r2_f16,
    quads(2, OPERAND)
);
kernels!(
    matmul_i8_quads_r3_f16_m8,
    matmul_i8_quads_r3_f16_m16,
    matmul_i8_quads_r3_f16_m32,
    matmul_i8_quads_r3_f16_m64,
    fragments_i8_quads_r3_f16,
    quads(3, OPERAND)
);
kernels!(
    matmul_i8_quads_r4_f16_m8,
    matmul_i8_quads_r4_f16_m16,
    matmul_i8_quads_r4_f16_m32,
    matmul_i8_quads_r4_f16_m64,
    fragments_i8_quads_r4_f16,
    quads(4, OPERAND)
);
kernels!(
    matmul_i8_quads_r5_f16_m8,
    matmul_i8_quads_r5_f16_m16,
    matmul_i8_quads_r5_f16_m32,
    matmul_i8_quads_r5_f16_m64,
    fragments_i8_quads_r5_f16,
    quads(5, OPERAND)
);
