//! The header of a safetensors file.
//!
//! The parser of the `safetensors` crate puts tensors into a map: it silently loses a tensor whose name occurs twice, and
//! the order of empty tensors. Both matter here. This parser keeps the order, refuses such names, and is otherwise as strict
//! as that crate.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::Float;
use crate::file::error::HeaderFault;
use crate::file::format::dtype::TensorDtype;

/// Size in bytes of the header's length, which precedes the header.
pub(in crate::file) const LENGTH_BYTES: usize = 8;

/// Size in bytes of the longest header that the `safetensors` crate reads.
pub(in crate::file) const MAX_HEADER: usize = 100_000_000;

/// Key of the only entry that is not a tensor.
pub(in crate::file) const METADATA: &str = "__metadata__";

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub(in crate::file) struct Tensor {
    pub(in crate::file) name: String,
    pub(in crate::file) dtype: TensorDtype,
    pub(in crate::file) shape: Vec<usize>,
    /// Offsets of its bytes in the data section.
    pub(in crate::file) range: Range<usize>,
}

impl Tensor {
    /// Returns its size in bytes.
    pub(in crate::file) fn byte_len(&self) -> u64 {
        self.range.len() as u64
    }

    /// Returns the number of elements. [`Header::parse`] has checked that the product does not overflow.
    pub(in crate::file) fn weights(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product()
    }

    /// Returns type, rows and columns, if this is a matrix that can be quantized.
    pub(in crate::file) fn numbers(&self) -> Option<(Float, usize, usize)> {
        let dtype = self.dtype.float()?;
        match *self.shape {
            [rows, cols] if rows > 0 && cols > 0 => Some((dtype, rows, cols)),
            _ => None,
        }
    }

    /// Returns whether a blob can replace this tensor.
    pub(in crate::file) fn may_be_blob(&self) -> bool {
        self.matrix().is_some() || self.numbers().is_some()
    }

    /// Returns type, rows and columns, if this is a matrix that the codec takes.
    pub(in crate::file) fn matrix(&self) -> Option<(crate::Dtype, usize, usize)> {
        let dtype = self.dtype.codec()?;
        match *self.shape {
            [rows, cols] if rows > 0 && cols > 0 => Some((dtype, rows, cols)),
            _ => None,
        }
    }
}

/// A parsed header. Its tensors fill the data section without holes or overlaps.
#[derive(Clone, Debug)]
pub(in crate::file) struct Header {
    /// Keys and values of `__metadata__`, in the order of the text.
    pub(in crate::file) metadata: Vec<(String, String)>,
    /// In the order of their data. Empty tensors at the same offset are in the order of the text.
    pub(in crate::file) tensors: Vec<Tensor>,
    /// Size of the data section in bytes.
    pub(in crate::file) data_len: usize,
}

impl Header {
    /// Parses the JSON `text` of a header.
    pub(in crate::file) fn parse(text: &[u8]) -> Result<Self, HeaderFault> {
        let text = std::str::from_utf8(text).map_err(HeaderFault::Utf8)?;
        let Entries { metadata, mut tensors } =
            serde_json::from_str(text).map_err(|error| HeaderFault::Json(error.into()))?;
        tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
        let mut names = HashSet::with_capacity(tensors.len());
        let mut data_len = 0;
        for tensor in &tensors {
            if !names.insert(tensor.name.as_str()) {
                return Err(HeaderFault::Duplicate(tensor.name.clone()));
            }
            if tensor.range.start != data_len || tensor.range.end < data_len {
                return Err(HeaderFault::Offset(tensor.name.clone()));
            }
            if size(tensor.dtype, &tensor.shape) != Some(tensor.range.len()) {
                return Err(HeaderFault::Size(tensor.name.clone()));
            }
            data_len = tensor.range.end;
        }
        Ok(Self { metadata, tensors, data_len })
    }
}

/// Returns the size of a tensor in bytes, unless it overflows or is not a whole number.
fn size(dtype: TensorDtype, shape: &[usize]) -> Option<usize> {
    let weights = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side))?;
    let bits = weights.checked_mul(dtype.bits())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// A tensor's entry. Other fields are ignored, as the `safetensors` crate does.
#[derive(Deserialize)]
struct TensorInfo {
    dtype: TensorDtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A header's entries in the order of its text.
struct Entries {
    metadata: Vec<(String, String)>,
    tensors: Vec<Tensor>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut metadata: Option<Option<Pairs>> = None;
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        let TensorInfo { dtype, shape, data_offsets: (start, end) } =
                            map.next_value()?;
                        tensors.push(Tensor { name, dtype, shape, range: start..end });
                    } else if metadata.replace(map.next_value()?).is_some() {
                        return Err(serde::de::Error::duplicate_field(METADATA));
                    }
                }
                let metadata = metadata.flatten().map_or_else(Vec::new, |pairs| pairs.0);
                Ok(Entries { metadata, tensors })
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// A JSON object of strings, with all its entries in the order of the text, even those of the same key.
pub(in crate::file) struct Pairs(pub(in crate::file) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let header = Header::parse(text.as_bytes()).expect("a valid header");
        header.tensors.into_iter().map(|tensor| tensor.name).collect()
    }

    #[test]
    fn tensors_come_in_the_order_of_their_data_then_of_the_text() {
        let text = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},
            "z":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},
            "a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},
            "y":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},
            "__metadata__":{"k":"v"}}"#;
        assert_eq!(names(text), ["z", "y", "a", "b"]);
        assert_eq!(names("{}"), [""; 0]);
        assert_eq!(names(r#"{"__metadata__":null} "#), [""; 0]);
    }

    #[test]
    fn faults_are_distinguished() {
        let fault = |text: &str| Header::parse(text.as_bytes()).expect_err(text);
        let twice = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},
            "a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(matches!(fault(twice), HeaderFault::Duplicate(name) if name == "a"));
        let hole = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert!(matches!(fault(hole), HeaderFault::Offset(name) if name == "a"));
        let backwards = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
            "b":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#;
        assert!(matches!(fault(backwards), HeaderFault::Offset(name) if name == "b"));
        let short = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#;
        assert!(matches!(fault(short), HeaderFault::Size(name) if name == "a"));
        let overflow =
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}"#;
        assert!(matches!(fault(overflow), HeaderFault::Size(_)));
        let half = r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#;
        assert!(matches!(fault(half), HeaderFault::Size(_)));
        assert!(matches!(fault("[]"), HeaderFault::Json(_)));
        assert!(matches!(fault(r#"{"__metadata__":{"a":1}}"#), HeaderFault::Json(_)));
        assert!(matches!(fault(r#"{"__metadata__":{},"__metadata__":{}}"#), HeaderFault::Json(_)));
        assert!(matches!(Header::parse(b"\xFF"), Err(HeaderFault::Utf8(_))));
    }
}
