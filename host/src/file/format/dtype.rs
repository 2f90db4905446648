//! The types of tensors in safetensors files.

use std::fmt;

use serde::Deserialize;

/// The type of a tensor's elements, as safetensors 0.8 names it.
///
/// Larger than [`Dtype`](crate::Dtype): it has a name for tensors that are stored as they are, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[allow(non_camel_case_types, reason = "the names of safetensors")]
// Messages name the type as the `safetensors` crate does.
#[serde(rename = "Dtype")]
#[non_exhaustive]
pub enum TensorDtype {
    /// Boolean, one byte.
    BOOL,
    /// MXFP4, two elements a byte.
    F4,
    /// MXFP6 of 2 exponent bits.
    F6_E2M3,
    /// MXFP6 of 3 exponent bits.
    F6_E3M2,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// FP8 of 5 exponent bits.
    F8_E5M2,
    /// FP8 of 4 exponent bits.
    F8_E4M3,
    /// A power of two, as MX formats use it for scales.
    F8_E8M0,
    /// FP8 of 4 exponent bits, without infinities and negative zero.
    F8_E4M3FNUZ,
    /// FP8 of 5 exponent bits, without infinities and negative zero.
    F8_E5M2FNUZ,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// IEEE 754 single precision.
    F32,
    /// Complex number of two `F32`.
    C64,
    /// IEEE 754 double precision.
    F64,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
}

impl TensorDtype {
    /// Returns the bits that an element takes.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::F4 => 4,
            Self::F6_E2M3 | Self::F6_E3M2 => 6,
            Self::BOOL
            | Self::U8
            | Self::I8
            | Self::F8_E5M2
            | Self::F8_E4M3
            | Self::F8_E8M0
            | Self::F8_E4M3FNUZ
            | Self::F8_E5M2FNUZ => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Returns the type of the blobs that hold such tensors without loss, if the codec takes it.
    #[must_use]
    pub const fn codec(self) -> Option<crate::Dtype> {
        match self {
            Self::BF16 => Some(crate::Dtype::Bf16),
            Self::F16 => Some(crate::Dtype::F16),
            Self::F8_E4M3 => Some(crate::Dtype::F8E4M3),
            Self::I8 => Some(crate::Dtype::I8),
            _ => None,
        }
    }

    /// Returns whether tensors of this type may hold the codes of quantized weights: integers, or floats of up to a byte.
    #[must_use]
    pub const fn may_be_codes(self) -> bool {
        use TensorDtype::{F4, F6_E2M3, F6_E3M2, F8_E4M3, F8_E4M3FNUZ, F8_E5M2, F8_E5M2FNUZ};
        use TensorDtype::{I8, I16, I32, U8, U16, U32};
        matches!(self, I8 | I16 | I32 | U8 | U16 | U32)
            || matches!(self, F8_E4M3 | F8_E4M3FNUZ | F8_E5M2 | F8_E5M2FNUZ)
            || matches!(self, F4 | F6_E2M3 | F6_E3M2)
    }

    /// Returns the type of the numbers, if such a tensor can be quantized.
    #[must_use]
    pub const fn float(self) -> Option<crate::Float> {
        match self {
            Self::BF16 => Some(crate::Float::Bf16),
            Self::F16 => Some(crate::Float::F16),
            Self::F32 => Some(crate::Float::F32),
            _ => None,
        }
    }
}

impl fmt::Display for TensorDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants have the names of safetensors.
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::TensorDtype;

    fn ours(text: &str) -> Result<TensorDtype, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn theirs(text: &str) -> Result<Dtype, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_widths_are_those_of_safetensors() {
        let names = ours("\"\"").unwrap_err();
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).skip(1).collect();
        assert_eq!(names.len(), 22);
        for name in names {
            let text = format!("\"{name}\"");
            let (ours, theirs) = (ours(&text).unwrap(), theirs(&text).unwrap());
            assert_eq!((ours.bits(), ours.to_string()), (theirs.bitsize(), name.to_owned()));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_same_words() {
        for text in ["\"\"", "\"F17\"", "\"bf16\"", "3", "null", "{\"F16\":1}", "[]"] {
            let (ours, theirs) = (ours(text).unwrap_err(), theirs(text).unwrap_err());
            assert_eq!(ours, theirs);
        }
    }
}
