//! Tensor cores, and conversions between their types.

use crate::MmaType;
use core::arch::asm;

type Accumulator = (f32, f32, f32, f32);

#[allow(improper_ctypes, reason = "the intrinsics' own types")]
unsafe extern "unadjusted" {
    #[link_name = "llvm.nvvm.mma.m16n8k16.row.col.bf16"]
    fn mma_bf16(
        a0: u32,
        a1: u32,
        a2: u32,
        a3: u32,
        b0: u32,
        b1: u32,
        c0: f32,
        c1: f32,
        c2: f32,
        c3: f32,
    ) -> Accumulator;
}

/// Returns `c + a * b` for A fragment `a`, B fragment `b` and accumulators `c`. All lanes of the warp must call this
/// together.
///
/// # PTX
/// `mma.sync.aligned.m16n8k16.row.col.f32.{bf16.bf16, f16.f16}.f32`
#[inline(always)]
pub fn mma(mma_type: MmaType, a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = c;
    // SAFETY: register arithmetic of the whole warp.
    unsafe {
        match mma_type {
            MmaType::Bf16 => {
                let d = mma_bf16(a[0], a[1], a[2], a[3], b[0], b[1], c0, c1, c2, c3);
                (c0, c1, c2, c3) = d;
            }
            // The intrinsic takes pairs of halves, a type that rustc cannot pass. Without `pure`, the assembly is not
            // moved into a branch.
            MmaType::F16 => asm!(
                "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{{c0}, {c1}, {c2}, {c3}}}, \
                 {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
                c0 = inout(reg32) c0, c1 = inout(reg32) c1, c2 = inout(reg32) c2,
                c3 = inout(reg32) c3, a0 = in(reg32) a[0], a1 = in(reg32) a[1],
                a2 = in(reg32) a[2], a3 = in(reg32) a[3], b0 = in(reg32) b[0], b1 = in(reg32) b[1],
                options(nomem, nostack)
            ),
        }
    }
    [c0, c1, c2, c3]
}

/// Rounds `value` to the nearest BF16 or FP16, ties to even.
///
/// # PTX
/// `cvt.rn.bf16.f32`, `cvt.rn.f16.f32`
#[inline(always)]
pub fn round(mma_type: MmaType, value: f32) -> u16 {
    let result: u16;
    // SAFETY: register arithmetic.
    unsafe {
        match mma_type {
            MmaType::Bf16 => asm!("cvt.rn.bf16.f32 {}, {};", out(reg16) result, in(reg32) value,
                options(pure, nomem, nostack)),
            MmaType::F16 => asm!("cvt.rn.f16.f32 {}, {};", out(reg16) result, in(reg32) value,
                options(pure, nomem, nostack)),
        }
    }
    result
}

/// Converts the bits of an FP16 to F32.
///
/// # PTX
/// `cvt.f32.f16`
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let result: f32;
    // SAFETY: register arithmetic.
    unsafe {
        asm!("cvt.f32.f16 {}, {};", out(reg32) result, in(reg16) bits,
            options(pure, nomem, nostack));
    }
    result
}

/// Converts the bits of a BF16 or FP16 to F32.
#[cfg(feature = "lean")]
#[inline(always)]
pub fn to_f32(mma_type: MmaType, bits: u16) -> f32 {
    match mma_type {
        MmaType::Bf16 => f32::from_bits(u32::from(bits) << 16),
        MmaType::F16 => f16_to_f32(bits),
    }
}

/// Adds `value` to `sum` if `condition`. One piece of assembly, so that no branch arises.
///
/// # PTX
/// `add.rn.f32` under a predicate
#[cfg(feature = "lean")]
#[inline(always)]
pub fn add_if(condition: bool, value: f32, sum: &mut f32) {
    // SAFETY: register arithmetic.
    unsafe {
        asm!("{{ .reg .pred here; setp.ne.u32 here, {here}, 0; @here add.rn.f32 {sum}, {sum}, {value}; }}",
            here = in(reg32) u32::from(condition), sum = inout(reg32) *sum,
            value = in(reg32) value, options(pure, nomem, nostack));
    }
}
