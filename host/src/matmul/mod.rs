//! y = x W^T, straight from compressed weights: what is multiplied, and whether it fits together.
//!
//! A matrix W of N rows (output features) and K columns (input features) takes activations x, M x K,
//! to outputs y, M x N. [`Blob::matmul`](crate::Blob::matmul) does that on the CPU.
//!
//! | weights | activations | outputs |
//! |---|---|---|
//! | BF16 | BF16 | BF16, F32 |
//! | F16 | F16 | F16, F32 |
//! | F8_E4M3, I8, with groups or without | BF16 or F16 | the activations' type, F32 |
//!
//! With [groups](crate::Groups) a weight is `scale * (integer - zero point)`, exactly; scales that are
//! infinite or NaN make weights that are.
//!
//! FP8 weights are numbers here: **NaN patterns of FP8 weights (S.1111.111) are multiplied as +-480**,
//! the number that their bits would be if they were none. Check inputs beforehand where that
//! matters. All other NaNs and infinities, of weights and of activations, go the way of IEEE 754.

mod cpu;
mod error;

pub use error::{Argument, MatmulError};

use crate::element::{as_bytes, as_bytes_mut};
use crate::{Dtype, Float, FloatElement};
use fused_rans_layout::TileGrid;

/// Activations x, M x K, row-major: row m starts at element `m * row_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Activations<T> {
    /// Where they are: bytes here, little endian and at any alignment, or a buffer on a GPU.
    pub data: T,
    /// Element type: [`Float::Bf16`] or [`Float::F16`].
    pub dtype: Float,
    /// Rows, M. With 0 there is nothing to do.
    pub rows: usize,
    /// Elements from the start of a row to the start of the next, at least K.
    pub row_stride: usize,
}

/// Outputs y, M x N, row-major: row m starts at element `m * row_stride`. What lies between the rows is
/// left as it is.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<T> {
    /// Where they go: bytes here, little endian and at any alignment, or a buffer on a GPU.
    pub data: T,
    /// Element type: the activations' or [`Float::F32`].
    pub dtype: Float,
    /// Elements from the start of a row to the start of the next, at least N.
    pub row_stride: usize,
}

/// What becomes of a sum of products: `y[m][n] = sum * scale[n] + bias[n]`, rounded once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A factor for each of the N output features.
    pub scale: Option<&'a [f32]>,
    /// An addend for each of the N output features.
    pub bias: Option<&'a [f32]>,
}

impl<T> Activations<T> {
    /// The same activations with their bytes counted, as [`check`] takes them.
    pub fn sized(&self, bytes: usize) -> Activations<usize> {
        Activations { data: bytes, dtype: self.dtype, rows: self.rows, row_stride: self.row_stride }
    }
}

impl<'a> Activations<&'a [u8]> {
    /// Creates activations in host memory from `rows` x `cols` BF16 or F16 numbers without gaps. Use it with
    /// [`Blob::matmul`](crate::Blob::matmul), which checks the number of values.
    #[must_use]
    pub fn from_slice<T: FloatElement>(values: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data: as_bytes(values), dtype: T::FLOAT, rows, row_stride: cols }
    }
}

impl<'a> Outputs<&'a mut [u8]> {
    /// Creates outputs in host memory, rows of `cols` numbers without gaps: F32, or the type of the activations. Use it with
    /// [`Blob::matmul`](crate::Blob::matmul), which checks the number of values.
    #[must_use]
    pub fn from_slice<T: FloatElement>(values: &'a mut [T], cols: usize) -> Self {
        Self { data: as_bytes_mut(values), dtype: T::FLOAT, row_stride: cols }
    }
}

impl<T> Outputs<T> {
    /// The same outputs with their bytes counted, as [`check`] takes them.
    pub fn sized(&self, bytes: usize) -> Outputs<usize> {
        Outputs { data: bytes, dtype: self.dtype, row_stride: self.row_stride }
    }
}

/// Checks that weights of type `weights` in a matrix of N = `shape.rows` rows and K = `shape.cols`
/// columns can be multiplied with `x` into `y`, which stand for buffers of `data` bytes.
///
/// The last row of `x` needs only K elements, the last one of `y` only N.
///
/// # Errors
/// [`MatmulError`] says what does not fit: the types, the distance of rows, or a length.
pub fn check(
    weights: Dtype,
    shape: TileGrid,
    x: Activations<usize>,
    y: Outputs<usize>,
    epilogue: Epilogue<'_>,
) -> Result<(), MatmulError> {
    let pair = match weights {
        Dtype::Bf16 => x.dtype == Float::Bf16,
        Dtype::F16 => x.dtype == Float::F16,
        Dtype::F8E4M3 | Dtype::I8 => x.dtype != Float::F32,
    };
    if !pair {
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
    /// Checks that scale and bias have a number for each of `rows` rows of weights.
    ///
    /// # Errors
    /// [`MatmulError::Features`] if one of them has not.
    pub fn check(&self, rows: usize) -> Result<(), MatmulError> {
        for (operand, vector) in [(Argument::Scale, self.scale), (Argument::Bias, self.bias)] {
            let found = vector.map_or(rows, <[f32]>::len);
            if found != rows {
                return Err(MatmulError::Features { operand, expected: rows, found });
            }
        }
        Ok(())
    }
}

/// A row-major matrix in a buffer.
struct Extent {
    rows: usize,
    cols: usize,
    row_stride: usize,
    dtype: Float,
}

impl Extent {
    /// Checks that the rows do not overlap and that a buffer of `found` bytes holds them.
    fn check(&self, operand: Argument, found: usize) -> Result<(), MatmulError> {
        let &Self { rows, cols, row_stride, .. } = self;
        if row_stride < cols {
            return Err(MatmulError::RowStride { operand, cols, found: row_stride });
        }
        let expected = self.bytes().ok_or(MatmulError::TooLarge { operand, rows, row_stride })?;
        if found < expected {
            let (expected, found) = (expected as u64, found as u64);
            return Err(MatmulError::TooShort { operand, expected, found });
        }
        Ok(())
    }

    /// Bytes from the first row's first element to the last row's last; `None` if they cannot be
    /// addressed.
    fn bytes(&self) -> Option<usize> {
        let Some(before) = self.rows.checked_sub(1) else { return Some(0) };
        let elements = before.checked_mul(self.row_stride)?.checked_add(self.cols)?;
        let bytes = elements.checked_mul(self.dtype.byte_len())?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 3 x 5 BF16 weights, two rows of activations at a distance of 7, of outputs at one of 4.
    const SHAPE: TileGrid = TileGrid { rows: 3, cols: 5 };
    const X: Activations<usize> =
        Activations { data: 2 * (7 + 5), dtype: Float::Bf16, rows: 2, row_stride: 7 };
    const Y: Outputs<usize> = Outputs { data: 4 * (4 + 3), dtype: Float::F32, row_stride: 4 };

    fn of(x: Activations<usize>, y: Outputs<usize>) -> Result<(), MatmulError> {
        check(Dtype::Bf16, SHAPE, x, y, Epilogue::default())
    }

    #[test]
    fn buffers_hold_the_last_row_and_nothing_behind_it() {
        assert_eq!(of(X, Y), Ok(()));
        let short = |operand, expected| {
            Err(MatmulError::TooShort { operand, expected, found: expected - 1 })
        };
        assert_eq!(of(Activations { data: 23, ..X }, Y), short(Argument::Activations, 24));
        assert_eq!(of(X, Outputs { data: 27, ..Y }), short(Argument::Outputs, 28));
        assert_eq!(of(Activations { data: 0, rows: 0, ..X }, Outputs { data: 0, ..Y }), Ok(()));
    }

    #[test]
    fn rows_do_not_overlap() {
        let row_stride =
            |operand, cols| Err(MatmulError::RowStride { operand, cols, found: cols - 1 });
        assert_eq!(of(Activations { row_stride: 4, ..X }, Y), row_stride(Argument::Activations, 5));
        assert_eq!(of(X, Outputs { row_stride: 2, ..Y }), row_stride(Argument::Outputs, 3));
    }

    #[test]
    fn exactly_the_pairs_of_the_table_are_taken() {
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
            let expected = |operand| Err(MatmulError::Features { operand, expected: 3, found });
            let scale = Epilogue { scale: Some(&numbers), bias: None };
            assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, scale), expected(Argument::Scale));
            let bias = Epilogue { scale: Some(&[1.0; 3]), bias: Some(&numbers) };
            assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, bias), expected(Argument::Bias));
        }
        let all = Epilogue { scale: Some(&[1.0; 3]), bias: Some(&[1.0; 3]) };
        assert_eq!(check(Dtype::Bf16, SHAPE, X, Y, all), Ok(()));
    }

    /// Small numbers and such that overflow.
    fn number() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..100, any::<usize>(), (0u32..64).prop_map(|shift| usize::MAX >> shift)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn lengths_are_those_of_arithmetic_without_bounds(
            (rows, cols, m) in (number(), number(), number()),
            (x, x_leading, y, y_leading) in (number(), number(), number(), number()),
        ) {
            let result = check(
                Dtype::I8,
                TileGrid { rows, cols },
                Activations { data: x, dtype: Float::F16, rows: m, row_stride: x_leading },
                Outputs { data: y, dtype: Float::F32, row_stride: y_leading },
                Epilogue::default(),
            );
            let holds = |found: usize, bytes: u128, cols: usize, row_stride: usize| {
                let before = (m as u128).saturating_sub(1) * row_stride as u128;
                let elements = if m == 0 { 0 } else { before + cols as u128 };
                let needed = elements.checked_mul(bytes);
                let limit = found.min(isize::MAX as usize) as u128;
                cols <= row_stride && needed.is_some_and(|needed| needed <= limit)
            };
            let fits = holds(x, 2, cols, x_leading) && holds(y, 4, rows, y_leading);
            prop_assert_eq!(result.is_ok(), fits, "{:?}", result);
        }
    }
}
