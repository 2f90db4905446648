//! FP8 e4m3: `[7] sign | [6:3] exponent | [2:0] mantissa`, with an exponent bias of 7.

/// Decodes e4m3 bits. The two NaN patterns, S.1111.111, decode to 480 and -480, as the kernels decode them.
#[inline(always)]
#[must_use]
pub const fn e4m3_to_f32(bits: u8) -> f32 {
    // Exponent and mantissa are put where F32 has its own; the factor corrects the bias from 7 to 127. The
    // multiplication normalizes subnormal numbers, too.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 7) << 23);
    let (sign, magnitude) = (bits as u32 >> 7, bits as u32 & 0x7F);
    f32::from_bits(sign << 31 | magnitude << 20) * REBIAS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_their_fields() {
        for bits in 0..=u8::MAX {
            let sign = if bits >> 7 == 1 { -1.0 } else { 1.0 };
            let (exponent, mantissa) = (u32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
            let power = |exponent: u32| (1u32 << exponent) as f32 / 128.0;
            let value = match exponent {
                0 => mantissa * power(1),
                _ => (1.0 + mantissa) * power(exponent),
            };
            assert_eq!(e4m3_to_f32(bits).to_bits(), (sign * value).to_bits(), "{bits:#x}");
        }
    }

    #[test]
    fn known_numbers() {
        let known =
            [(0x01, 0.001_953_125), (0x38, 1.0), (0xC0, -2.0), (0x7E, 448.0), (0x7F, 480.0)];
        for (bits, value) in known {
            assert_eq!(e4m3_to_f32(bits), value, "{bits:#x}");
        }
    }
}
