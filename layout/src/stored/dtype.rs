//! Element types of compressed matrices.

use core::{fmt, str::FromStr};

/// Element type of a compressed matrix. The discriminant is the stored code; `Display` and `FromStr` use
/// [`Dtype::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dtype {
    /// bfloat16: `[15] sign | [14:7] exponent | [6:0] mantissa`
    Bf16 = 0,
    /// IEEE binary16: `[15] sign | [14:10] exponent | [9:0] mantissa`
    F16 = 1,
    /// FP8 e4m3: `[7] sign | [6:3] exponent | [2:0] mantissa`
    F8E4M3 = 2,
    /// Two's complement integer of 8 bits
    I8 = 3,
}

impl Dtype {
    /// All types, ordered by stored code.
    pub const ALL: [Self; 4] = [Self::Bf16, Self::F16, Self::F8E4M3, Self::I8];

    /// Returns the type with this stored code; `None` if there is none.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Returns the number of bytes of one weight.
    #[inline(always)]
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F8E4M3 | Self::I8 => 1,
        }
    }

    /// Returns the name of the type in a safetensors header, such as `BF16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F8E4M3 => "F8_E4M3",
            Self::I8 => "I8",
        }
    }

    /// Returns the number of bits of the exponent field; for integers, of the whole value. The field's order-0 entropy plus
    /// the number of other bits is what `inspect` reports as a tensor's entropy.
    #[must_use]
    pub const fn exponent_bits(self) -> u32 {
        match self {
            Self::Bf16 | Self::I8 => 8,
            Self::F16 => 5,
            Self::F8E4M3 => 4,
        }
    }

    /// Returns the exponent field of `weight`; for integers, the whole value.
    #[inline(always)]
    #[must_use]
    pub const fn exponent(self, weight: u16) -> u8 {
        match self {
            Self::Bf16 => (weight >> 7) as u8,
            Self::F16 => (weight >> 10) as u8 & 31,
            Self::F8E4M3 => (weight >> 3) as u8 & 15,
            Self::I8 => weight as u8,
        }
    }

    /// Returns the weight with this [`Dtype::exponent`] whose other bits are 0.
    #[must_use]
    pub const fn with_exponent(self, exponent: u8) -> u16 {
        match self {
            Self::Bf16 => (exponent as u16) << 7,
            Self::F16 => (exponent as u16) << 10,
            Self::F8E4M3 => (exponent as u16) << 3,
            Self::I8 => exponent as u16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error of parsing a [`Dtype`]: no type has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDtype;

impl fmt::Display for UnknownDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown element type: weights are BF16, F16, F8_E4M3 or I8")
    }
}

impl core::error::Error for UnknownDtype {}

/// Parses the names of [`Dtype::name`], in upper or lower case.
impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        let mut all = Self::ALL.into_iter();
        all.find(|dtype| dtype.name().eq_ignore_ascii_case(name)).ok_or(UnknownDtype)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn weights_have_the_exponent_they_are_made_with() {
        for dtype in Dtype::ALL {
            for exponent in 0..1u16 << dtype.exponent_bits() {
                let exponent = exponent as u8;
                assert_eq!(dtype.exponent(dtype.with_exponent(exponent)), exponent);
            }
        }
    }

    #[test]
    fn names_parse_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(dtype.name().to_lowercase().parse(), Ok(dtype));
        }
        assert_eq!("F64".parse::<Dtype>(), Err(UnknownDtype));
        for dtype in Dtype::ALL {
            assert!(UnknownDtype.to_string().contains(dtype.name()));
        }
    }
}
