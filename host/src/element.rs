//! Rust types of weights, activations and outputs.

use crate::{BlobError, Dtype, Float};
use half::{bf16, f16};
use std::alloc::{Layout, alloc_zeroed};

/// An FP8 e4m3 weight, stored as its bits: `[7] sign | [6:3] exponent | [2:0] mantissa`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct F8E4M3(u8);

impl F8E4M3 {
    /// Creates a weight from its bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// Returns the value: NaN for the bits S.1111.111. [`Blob::matmul`](crate::Blob::matmul) and
    /// [`Blob::dequantize`](crate::Blob::dequantize) treat these as +-480 instead.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        if self.0 & 0x7F == 0x7F { f32::NAN } else { crate::float::E4M3[usize::from(self.0)] }
    }
}

impl From<F8E4M3> for f32 {
    fn from(weight: F8E4M3) -> Self {
        weight.to_f32()
    }
}

/// Element types of weights: [`half::bf16`], [`half::f16`], [`F8E4M3`] and [`i8`]. Sealed.
///
/// Use them with [`Matrix::from_slice`](crate::Matrix::from_slice) and
/// [`Blob::decode_to_vec`](crate::Blob::decode_to_vec).
pub trait Element: plain::Plain {
    /// The [`Dtype`] of this type.
    const DTYPE: Dtype;
}

/// Element types of floating-point numbers: [`half::bf16`], [`half::f16`] and [`f32`]. Sealed.
///
/// Use them with typed slices of activations, of outputs and of numbers to quantize.
pub trait FloatElement: plain::Plain {
    /// The [`Float`] of this type.
    const FLOAT: Float;
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl Element for F8E4M3 {
    const DTYPE: Dtype = Dtype::F8E4M3;
}

impl Element for i8 {
    const DTYPE: Dtype = Dtype::I8;
}

impl FloatElement for bf16 {
    const FLOAT: Float = Float::Bf16;
}

impl FloatElement for f16 {
    const FLOAT: Float = Float::F16;
}

impl FloatElement for f32 {
    const FLOAT: Float = Float::F32;
}

/// The trait that seals the traits of this file.
pub(crate) mod plain {
    use super::F8E4M3;
    use half::{bf16, f16};

    /// Types without padding for which every bit pattern is valid.
    ///
    /// # Safety
    /// The implementing type must have no padding, and every bit pattern must be a valid value.
    pub unsafe trait Plain: Copy + Default + Send + Sync + 'static {}

    // SAFETY: a transparent wrapper of `u16`.
    unsafe impl Plain for bf16 {}
    // SAFETY: a transparent wrapper of `u16`.
    unsafe impl Plain for f16 {}
    // SAFETY: a transparent wrapper of `u8`.
    unsafe impl Plain for F8E4M3 {}
    // SAFETY: a primitive number.
    unsafe impl Plain for u8 {}
    // SAFETY: a primitive number.
    unsafe impl Plain for i8 {}
    // SAFETY: a primitive number.
    unsafe impl Plain for f32 {}
    // SAFETY: a primitive number.
    unsafe impl Plain for f64 {}
}

/// Borrows the bytes of `elements`, little endian.
pub(crate) fn as_bytes<T: plain::Plain>(elements: &[T]) -> &[u8] {
    // SAFETY: `Plain` types have no padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

/// Borrows the bytes of `elements`, little endian, for writing.
pub(crate) fn as_bytes_mut<T: plain::Plain>(elements: &mut [T]) -> &mut [u8] {
    let size = size_of_val(elements);
    // SAFETY: `Plain` types have no padding and accept any bytes, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size) }
}

/// Allocates `len` zeros. Fails instead of aborting, because a few bytes of a file, or a caller, can ask for gigabytes.
pub(crate) fn zeros<T: plain::Plain>(len: usize) -> Result<Vec<T>, BlobError> {
    let error = BlobError::Memory { bytes: (len as u64).saturating_mul(size_of::<T>() as u64) };
    let Ok(layout) = Layout::array::<T>(len) else { return Err(error) };
    if layout.size() == 0 {
        return Ok(vec![T::default(); len]);
    }
    // Zeroed by the operating system page by page: a blob whose first tile is damaged costs no memory.
    // SAFETY: the layout's size is not 0.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(error);
    }
    // SAFETY: allocated by the global allocator with the layout of `len` elements; zero bits are a value of `Plain` types.
    Ok(unsafe { Vec::from_raw_parts(start.cast(), len, len) })
}
