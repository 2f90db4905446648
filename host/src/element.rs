//! The Rust types of weights, activations and outputs.

use crate::{Dtype, Float};
use half::{bf16, f16};

/// A weight in FP8 e4m3: `[7] sign | [6:3] exponent | [2:0] mantissa`, as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct F8E4M3(u8);

impl F8E4M3 {
    /// Makes a weight of its bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// Returns the value; NaN for the bits S.1111.111, which [`Blob::matmul`](crate::Blob::matmul) and
    /// [`Blob::dequantize`](crate::Blob::dequantize) take for +-480.
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

/// A type of weights: [`half::bf16`], [`half::f16`], [`F8E4M3`] or [`i8`].
///
/// Use it to encode typed slices ([`Matrix::from_slice`](crate::Matrix::from_slice)) and to decode to them
/// ([`Blob::decode_to_vec`](crate::Blob::decode_to_vec)). No other type can implement it.
pub trait Element: plain::Plain {
    /// The same type as a value.
    const DTYPE: Dtype;
}

/// A type of floating-point numbers: [`half::bf16`], [`half::f16`] or [`f32`].
///
/// Use it to pass typed slices of activations, outputs and numbers to be quantized. No other type can implement it.
pub trait FloatElement: plain::Plain {
    /// The same type as a value.
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

/// Seals the traits of this file.
pub(crate) mod plain {
    use super::F8E4M3;
    use half::{bf16, f16};

    /// Types without padding of which every bit pattern is a value.
    ///
    /// # Safety
    /// The type must be one.
    pub unsafe trait Plain: Copy + Default + Send + Sync + 'static {}

    // SAFETY: one `u16`, transparently.
    unsafe impl Plain for bf16 {}
    // SAFETY: one `u16`, transparently.
    unsafe impl Plain for f16 {}
    // SAFETY: one `u8`, transparently.
    unsafe impl Plain for F8E4M3 {}
    // SAFETY: a primitive.
    unsafe impl Plain for u8 {}
    // SAFETY: a primitive.
    unsafe impl Plain for i8 {}
    // SAFETY: a primitive.
    unsafe impl Plain for f32 {}
}

/// Returns the bytes of `elements`, little endian, without copying.
pub(crate) fn as_bytes<T: plain::Plain>(elements: &[T]) -> &[u8] {
    // SAFETY: `Plain` types have no padding, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

/// Returns the bytes of `elements`, little endian, to be written to.
pub(crate) fn as_bytes_mut<T: plain::Plain>(elements: &mut [T]) -> &mut [u8] {
    let size = size_of_val(elements);
    // SAFETY: `Plain` types have no padding, any bytes are a value of one, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size) }
}

/// Returns `len` zeros, or `None` where there is no memory for them.
pub(crate) fn zeros<T: plain::Plain>(len: usize) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(len).ok()?;
    elements.resize(len, T::default());
    Some(elements)
}
