//! Multiplication with compressed weights, y = x W^T: arguments, their checks, and the CPU implementation.
//!
//! The matrix W has N rows (output features) and K columns (input features). The activations x are M x K, the outputs y
//! are M x N. [`Blob::matmul`](crate::Blob::matmul) multiplies on the CPU.
//!
//! | weights | activations | outputs |
//! |---|---|---|
//! | BF16 | BF16 | BF16, F32 |
//! | F16 | F16 | F16, F32 |
//! | F8_E4M3, I8 (with or without groups) | BF16 or F16 | the type of the activations, F32 |
//!
//! With [groups](crate::Groups) a weight is exactly `scale * (integer - zero point)`. Infinite and NaN scales give
//! infinite and NaN weights.
//!
//! FP8 weights have no NaNs here: **NaN patterns of FP8 weights (S.1111.111) are multiplied as +-480**, the number that
//! the bits would be if the pattern were not reserved. If that matters, check the weights beforehand. All other NaNs
//! and infinities, in weights and in activations, follow IEEE 754.

mod cpu;
mod error;

pub use error::{Argument, MatmulError};

use crate::element::{as_bytes, as_bytes_mut};
use crate::{Dtype, Float, FloatElement};
use fused_rans_layout::TileGrid;

/// Activations x, M x K, row-major: row m starts at element `m * row_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Activations<T> {
    /// The buffer: little-endian bytes in host memory, at any alignment, or device memory.
    pub data: T,
    /// Element type: [`Float::Bf16`] or [`Float::F16`].
    pub dtype: Float,
    /// Number of rows, M. May be 0.
    pub rows: usize,
    /// Number of elements from the start of a row to the start of the next, at least K.
    pub row_stride: usize,
}

/// Outputs y, M x N, row-major: row m starts at element `m * row_stride`. Elements between the rows are not written.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<T> {
    /// The buffer: little-endian bytes in host memory, at any alignment, or device memory.
    pub data: T,
    /// Element type: the type of the activations or [`Float::F32`].
    pub dtype: Float,
    /// Number of elements from the start of a row to the start of the next, at least N.
    pub row_stride: usize,
}

/// Scale and bias of the outputs: `y[m][n] = sum * scale[n] + bias[n]`, rounded once. The default has neither.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Factors, one for each of the N output features.
    pub scale: Option<&'a [f32]>,
    /// Addends, one for each of the N output features.
    pub bias: Option<&'a [f32]>,
}

impl<T> Activations<T> {
    /// Replaces the buffer with its size in bytes, for [`check`].
    #[doc(hidden)]
    #[must_use]
    pub fn sized(&self, bytes: usize) -> Activations<usize> {
        Activations { data: bytes, dtype: self.dtype, rows: self.rows, row_stride: self.row_stride }
    }
}

impl<'a> Activations<&'a [u8]> {
    /// Borrows activations in host memory: `rows` x `cols` BF16 or F16 numbers without gaps. Pass them to
    /// [`Blob::matmul`](crate::Blob::matmul), which checks the number of values.
    #[must_use]
    pub fn from_slice<T: FloatElement>(values: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data: as_bytes(values), dtype: T::FLOAT, rows, row_stride: cols }
    }
}

impl<'a> Outputs<&'a mut [u8]> {
    /// Borrows outputs in host memory: rows of `cols` numbers without gaps, of the type of the activations or F32. Pass
    /// them to [`Blob::matmul`](crate::Blob::matmul), which checks the number of values.
    #[must_use]
    pub fn from_slice<T: FloatElement>(values: &'a mut [T], cols: usize) -> Self {
        Self { data: as_bytes_mut(values), dtype: T::FLOAT, row_stride: cols }
    }
}

impl<T> Outputs<T> {
    /// Replaces the buffer with its size in bytes, for [`check`].
    #[doc(hidden)]
    #[must_use]
    pub fn sized(&self, bytes: usize) -> Outputs<usize> {
        Outputs { data: bytes, dtype: self.dtype, row_stride: self.row_stride }
    }
}

/// Checks the arguments of a multiplication with a matrix of type `weights`, N = `shape.rows` rows and K = `shape.cols`
/// columns. `x.data` and `y.data` are the sizes of the buffers in bytes. Use it to check before uploading anything;
/// [`Blob::matmul`](crate::Blob::matmul) checks by itself.
///
/// The last row of `x` needs only K elements, the last row of `y` only N.
///
/// # Errors
/// [`MatmulError`] names the first mismatch: of element types, a row stride, or a length.
#[doc(hidden)]
pub fn check(
    weights: Dtype,
    shape: TileGrid,
    x: Activations<usize>,
    y: Outputs<usize>,
    epilogue: Epilogue<'_>,
) -> Result<(), MatmulError> {
    let types_match = match weights {
        Dtype::Bf16 => x.dtype == Float::Bf16,
        Dtype::F16 => x.dtype == Float::F16,
        Dtype::F8E4M3 | Dtype::I8 => x.dtype != Float::F32,
    };
    if !types_match {
        return Err(MatmulError::ActivationType { weights, found: x.dtype });
    }
    if y.dtype != x.dtype && y.dtype != Float::F32 {
        return Err(MatmulError::OutputType { activations: x.dtype, found: y.dtype });
    }
    let activations =
        Extent { rows: x.rows, cols: shape.cols, row_stride: x.row_stride, dtype: x.dtype };
    activations.check(Argument::Activations, x.data)?;
    let outputs =
        Extent { rows: x.rows, cols: shape.rows, row_stride: y.row_stride, dtype: y.dtype };
    outputs.check(Argument::Outputs, y.data)?;
    epilogue.check(shape.rows)
}

impl Epilogue<'_> {
    /// Checks that scale and bias, if present, have `rows` numbers: one per row of the weights.
    ///
    /// # Errors
    /// [`MatmulError::Features`] for another length.
    #[doc(hidden)]
    pub fn check(&self, rows: usize) -> Result<(), MatmulError> {
        for (argument, vector) in [(Argument::Scale, self.scale), (Argument::Bias, self.bias)] {
            let found = vector.map_or(rows, <[f32]>::len);
            if found != rows {
                return Err(MatmulError::Features { argument, expected: rows, found });
            }
        }
        Ok(())
    }
}

/// Extent of a row-major matrix in a buffer.
struct Extent {
    rows: usize,
    cols: usize,
    row_stride: usize,
    dtype: Float,
}

impl Extent {
    /// Checks that the rows do not overlap and that a buffer of `found` bytes holds them.
    fn check(&self, argument: Argument, found: usize) -> Result<(), MatmulError> {
        let &Self { rows, cols, row_stride, .. } = self;
        if row_stride < cols {
            return Err(MatmulError::RowStride { argument, cols, found: row_stride });
        }
        let expected =
            self.byte_len().ok_or(MatmulError::TooLarge { argument, rows, row_stride })?;
        if found < expected {
            let (expected, found) = (expected as u64, found as u64);
            return Err(MatmulError::TooShort { argument, expected, found });
        }
        Ok(())
    }

    /// Returns the number of bytes from the first to the last element; `None` if they cannot be addressed.
    fn byte_len(&self) -> Option<usize> {
        let Some(earlier_rows) = self.rows.checked_sub(1) else { return Some(0) };
        let elements = earlier_rows.checked_mul(self.row_stride)?.checked_add(self.cols)?;
        let bytes = elements.checked_mul(self.dtype.byte_len())?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 3 x 5 BF16 weights. Two rows of activations with a row stride of 7, two rows of outputs with a row stride of 4.
    const SHAPE: TileGrid = TileGrid { rows: 3, cols: 5 };
    const X: Activations<usize> =
        Activations { data: 2 * (7 + 5), dtype: Float::Bf16, rows: 2, row_stride: 7 };
    const Y: Outputs<usize> = Outputs { data: 4 * (4 + 3), dtype: Float::F32, row_stride: 4 };

    fn check_bf16(x: Activations<usize>, y: Outputs<usize>) -> Result<(), MatmulError> {
        check(Dtype::Bf16, SHAPE, x, y, Epilogue::default())
    }

    #[test]
    fn buffers_may_end_after_the_last_row() {
        assert_eq!(check_bf16(X, Y), Ok(()));
        let short = |argument, expected| {
            Err(MatmulError::TooShort { argument, expected, found: expected - 1 })
        };
        assert_eq!(check_bf16(Activations { data: 23, ..X }, Y), short(Argument::Activations, 24));
        assert_eq!(check_bf16(X, Outputs { data: 27, ..Y }), short(Argument::Outputs, 28));
        assert_eq!(
            check_bf16(Activations { data: 0, rows: 0, ..X }, Outputs { data: 0, ..Y }),
            Ok(())
        );
    }

    #[test]
    fn rows_do_not_overlap() {
        let row_stride =
            |argument, cols| Err(MatmulError::RowStride { argument, cols, found: cols - 1 });
        assert_eq!(
            check_bf16(Activations { row_stride: 4, ..X }, Y),
            row_stride(Argument::Activations, 5)
        );
        assert_eq!(check_bf16(X, Outputs { row_stride: 2, ..Y }), row_stride(Argument::Outputs, 3));
    }

    #[test]
    fn exactly_the_types_of_the_table_are_accepted() {
        use Float::{Bf16, F16, F32};
        let buffer = usize::MAX;
        for weights in Dtype::ALL {
            for (x, y) in Float::ALL.into_iter().flat_map(|x| Float::ALL.map(|y| (x, y))) {
                let result = check(
                    weights,
                    SHAPE,
                    Activations { data: buffer, dtype: x, ..X },
                    Outputs { data: buffer, dtype: y, ..Y },
                    Epilogue::default(),
                );
                let expected = match (weights, x, y) {
                    (Dtype::F16 | Dtype::F8E4M3 | Dtype::I8, F16, F16 | F32)
                    | (Dtype::Bf16 | Dtype::F8E4M3 | Dtype::I8, Bf16, Bf16 | F32) => Ok(()),
                    (_, F32, _) | (Dtype::Bf16, F16, _) | (Dtype::F16, Bf16, _) => {
                        Err(MatmulError::ActivationType { weights, found: x })
                    }
                    _ => Err(MatmulError::OutputType { activations: x, found: y }),
                };
                assert_eq!(result, expected, "{weights:?} {x:?} {y:?}");
            }
        }
    }

    #[test]
    fn scale_and_bias_have_a_number_for_every_output() {
        for found in [0, 2, 4] {
            let numbers = vec![1.0; found];
            let expected = |argument| Err(MatmulError::Features { argument, expected: 3, found });
            let scale = Epilogue { scale: Some(&numbers), bias: None };
            assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, scale), expected(Argument::Scale));
            let bias = Epilogue { scale: Some(&[1.0; 3]), bias: Some(&numbers) };
            assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, bias), expected(Argument::Bias));
        }
        let all = Epilogue { scale: Some(&[1.0; 3]), bias: Some(&[1.0; 3]) };
        assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, all), Ok(()));
    }

    /// Small numbers, and numbers whose products overflow.
    fn number() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..100, any::<usize>(), (0u32..64).prop_map(|shift| usize::MAX >> shift)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn lengths_match_arithmetic_without_overflow(
            (rows, cols, m) in (number(), number(), number()),
            (x, x_stride, y, y_stride) in (number(), number(), number(), number()),
        ) {
            let result = check(
                Dtype::I8,
                TileGrid { rows, cols },
                Activations { data: x, dtype: Float::F16, rows: m, row_stride: x_stride },
                Outputs { data: y, dtype: Float::F32, row_stride: y_stride },
                Epilogue::default(),
            );
            let holds = |found: usize, bytes: u128, cols: usize, row_stride: usize| {
                let earlier_rows = (m as u128).saturating_sub(1) * row_stride as u128;
                let elements = if m == 0 { 0 } else { earlier_rows + cols as u128 };
                let needed = elements.checked_mul(bytes);
                let limit = found.min(isize::MAX as usize) as u128;
                cols <= row_stride && needed.is_some_and(|needed| needed <= limit)
            };
            let fits = holds(x, 2, cols, x_stride) && holds(y, 4, rows, y_stride);
            prop_assert_eq!(result.is_ok(), fits, "{:?}", result);
        }
    }
}
