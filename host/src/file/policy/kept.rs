//! Tensors that a job stores otherwise than the options ask for.

use std::fmt;

use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::Tensor;

/// A tensor that [`compress`](crate::file::compress) has stored as it is, or without loss although a quantizer was
/// chosen, with the reason. The list leaves out tensors that are not selected, or that a rule stores `raw` or `lossless`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Name of the tensor.
    pub tensor: String,
    /// Number of elements.
    pub weights: u64,
    /// Size in bytes before compression.
    pub bytes: u64,
    /// Why it was kept.
    pub reason: KeptReason,
    /// Pattern of the rule that asked for a quantizer, if one did.
    pub rule: Option<String>,
}

impl Kept {
    pub(in crate::file) fn new(tensor: &Tensor, reason: KeptReason, rule: Option<String>) -> Self {
        let (name, bytes) = (tensor.name.clone(), tensor.byte_len());
        Self { tensor: name, weights: tensor.weights(), bytes, reason, rule }
    }
}

/// Number of elements from which a vector is listed: one tile of a matrix.
const LARGE_VECTOR: u64 = 1 << 16;

/// Why a tensor was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptReason {
    /// Stored as it is: the codec does not take this type.
    Dtype(TensorDtype),
    /// Stored as it is: it is no matrix, but has so many dimensions.
    Dimensions(usize),
    /// Stored as it is: its blob would not be smaller.
    NotSmaller,
    /// Not quantized: it is quantized already, to this type.
    Codes(TensorDtype),
    /// Not quantized: it has the scales, zero points or low-rank factors of a tensor that is quantized already.
    SideData,
    /// Not quantized: by its name it is an embedding, a norm, a bias, a router, a code book or the like.
    Name,
    /// Not quantized: too small for scales, or for the rate.
    TooSmall,
}

impl KeptReason {
    /// Returns whether such a tensor is stored as it is, because it cannot be compressed at all.
    #[must_use]
    pub fn is_stored_as_it_is(self) -> bool {
        matches!(self, Self::Dtype(_) | Self::Dimensions(_) | Self::NotSmaller)
    }

    /// Returns why a selected tensor without a blob is stored as it is. `None` for a tensor without elements, and for
    /// the few elements of most scalars and vectors.
    pub(in crate::file) fn of_raw(tensor: &Tensor) -> Option<Self> {
        let (dimensions, weights) = (tensor.shape.len(), tensor.weights());
        match tensor.dtype.codec() {
            _ if weights == 0 || dimensions < 2 && weights < LARGE_VECTOR => None,
            None => Some(Self::Dtype(tensor.dtype)),
            Some(_) if dimensions != 2 => Some(Self::Dimensions(dimensions)),
            Some(_) => Some(Self::NotSmaller),
        }
    }
}

impl fmt::Display for KeptReason {
    /// Completes the sentence "it stays as it is, because it ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtype(dtype) => write!(f, "is {dtype}"),
            Self::Dimensions(1) => f.write_str("has one dimension"),
            Self::Dimensions(count) => write!(f, "has {count} dimensions"),
            Self::NotSmaller => f.write_str("would not become smaller"),
            Self::Codes(dtype) => write!(f, "is quantized already ({dtype})"),
            Self::SideData => f.write_str("belongs to a tensor that is quantized already"),
            Self::Name => f.write_str("is no linear layer by its name"),
            Self::TooSmall => f.write_str("is too small for the format"),
        }
    }
}
