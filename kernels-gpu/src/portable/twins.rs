//! PTX instructions, a function each, with software twins for the CPU.
//!
//! Only pure instructions have twins. Those that access memory or other lanes exist on the device only (`device/ptx`).

#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

/// Returns the upper word of `hi:lo << (n & 31)`.
///
/// # PTX
/// `shf.l.wrap.b32`
#[inline(always)]
#[must_use]
pub fn funnel_shift_left(hi: u32, lo: u32, n: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let result: u32;
        // SAFETY: register arithmetic.
        unsafe {
            asm!("shf.l.wrap.b32 {}, {}, {}, {};", out(reg32) result, in(reg32) lo, in(reg32) hi,
                in(reg32) n, options(pure, nomem, nostack));
        }
        result
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        ((u64::from(hi) << 32 | u64::from(lo)) << (n & 31) >> 32) as u32
    }
}

/// Returns four bytes of `a` (bytes 0 to 3) and `b` (bytes 4 to 7), selected by the nibbles of `selector`, the lowest first.
/// These must be below 8.
///
/// # PTX
/// `prmt.b32`
#[inline(always)]
#[must_use]
pub fn byte_permute(a: u32, b: u32, selector: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let result: u32;
        // SAFETY: register arithmetic.
        unsafe {
            asm!("prmt.b32 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b,
                in(reg32) selector, options(pure, nomem, nostack));
        }
        result
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        u32::from_le_bytes([0, 4, 8, 12].map(|at| bytes[(selector >> at & 7) as usize]))
    }
}

/// Adds the four bytes of `bytes` to `sum`.
///
/// # PTX
/// `dp4a.u32.u32`
#[inline(always)]
#[must_use]
pub fn add_bytes(bytes: u32, sum: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let result: u32;
        // SAFETY: register arithmetic.
        unsafe {
            asm!("dp4a.u32.u32 {}, {}, {}, {};", out(reg32) result, in(reg32) bytes,
                in(reg32) 0x0101_0101, in(reg32) sum, options(pure, nomem, nostack));
        }
        result
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        bytes.to_le_bytes().into_iter().fold(sum, |sum, byte| sum.wrapping_add(byte.into()))
    }
}

/// Returns the bits of `a` where `mask` has ones, those of `b` where it has zeros.
///
/// # PTX
/// `lop3.b32`. The compiler would make two instructions of it.
#[inline(always)]
#[must_use]
pub fn bit_select(mask: u32, a: u32, b: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let result: u32;
        // SAFETY: register arithmetic.
        unsafe {
            asm!("lop3.b32 {}, {}, {}, {}, 0xE4;", out(reg32) result, in(reg32) a, in(reg32) b,
                in(reg32) mask, options(pure, nomem, nostack));
        }
        result
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        a & mask | b & !mask
    }
}

/// Returns `a * b + c` in both halves, rounded once. The halves are BF16 if `BF16`, else FP16. Subnormal numbers are not
/// flushed to zero.
///
/// # PTX
/// `fma.rn.bf16x2`, `fma.rn.f16x2`
#[inline(always)]
#[must_use]
pub fn fused_multiply_add<const BF16: bool>(a: u32, b: u32, c: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let result: u32;
        // SAFETY: register arithmetic.
        unsafe {
            if BF16 {
                asm!("fma.rn.bf16x2 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b,
                    in(reg32) c, options(pure, nomem, nostack));
            } else {
                asm!("fma.rn.f16x2 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b,
                    in(reg32) c, options(pure, nomem, nostack));
            }
        }
        result
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        // Products of 11-bit numbers are exact in F64, and so are the sums that the kernels make.
        let half = |shift: u32| {
            let [a, b, c] = [a, b, c].map(|x| (x >> shift) as u16);
            let bits = if BF16 {
                let [a, b, c] = [a, b, c].map(|x| half::bf16::from_bits(x).to_f64());
                half::bf16::from_f64(a * b + c).to_bits()
            } else {
                let [a, b, c] = [a, b, c].map(|x| half::f16::from_bits(x).to_f64());
                half::f16::from_f64(a * b + c).to_bits()
            };
            u32::from(bits) << shift
        };
        half(0) | half(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_do_what_the_isa_says() {
        assert_eq!(funnel_shift_left(0x1234_5678, 0x9ABC_DEF0, 0), 0x1234_5678);
        assert_eq!(funnel_shift_left(0x1234_5678, 0x9ABC_DEF0, 8), 0x3456_789A);
        assert_eq!(funnel_shift_left(0x1234_5678, 0x9ABC_DEF0, 32 + 31), 0x4D5E_6F78);
        assert_eq!(byte_permute(0x4433_2211, 0x8877_6655, 0x5410), 0x6655_2211);
        assert_eq!(byte_permute(0x4433_2211, 0, 0x2301), 0x3344_1122);
        assert_eq!(add_bytes(0xFF01_0203, 10), 271);
        assert_eq!(bit_select(0xFF00_F0F0, 0x1234_5678, 0x9ABC_DEF0), 0x12BC_5E70);
        // 2 * 3 + 1 and -1 * 1 + 0.5 in FP16; a subnormal times a power of two in BF16.
        assert_eq!(fused_multiply_add::<false>(0xBC00_4000, 0x3C00_4200, 0x3800_3C00), 0xB800_4700);
        assert_eq!(fused_multiply_add::<true>(0x0010, 0x7B80, 0x8000_8000), 0x3B00);
    }
}
