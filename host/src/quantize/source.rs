//! Matrices of numbers.

use super::QuantizeError;
use crate::Float;
use crate::vectorized::vectorized;
use fused_rans_layout::TileGrid;
use rayon::prelude::*;

/// A row-major matrix of numbers, little endian, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct NumberMatrix<'a> {
    dtype: Float,
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl<'a> NumberMatrix<'a> {
    /// A view of `data` as `rows` x `cols` numbers of `dtype`, at least one of each.
    ///
    /// # Errors
    /// [`QuantizeError::BufferSize`] if `data` is not `rows * cols * dtype.bytes()` long, or empty.
    pub fn new(
        dtype: Float,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Self, QuantizeError> {
        let bytes = rows.checked_mul(cols).and_then(|numbers| numbers.checked_mul(dtype.bytes()));
        if bytes != Some(data.len()) || data.is_empty() {
            return Err(QuantizeError::BufferSize { dtype, rows, cols, found: data.len() });
        }
        Ok(Self { dtype, rows, cols, data })
    }

    /// Element type.
    #[must_use]
    pub fn dtype(self) -> Float {
        self.dtype
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn cols(self) -> usize {
        self.cols
    }

    /// The tiles of a matrix of this shape.
    pub(super) fn grid(self) -> TileGrid {
        TileGrid { rows: self.rows, cols: self.cols }
    }

    /// Bytes of the matrix.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.data.len()
    }

    /// The numbers of row `row`, one for each place in `out`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn load(self, row: usize, out: &mut [f32]) {
        let bytes = self.cols * self.dtype.bytes();
        self.dtype.load(&self.data[row * bytes..][..bytes], out);
    }

    /// What `job` makes of the numbers of each row, which it may change: a weight for each, and whatever it returns.
    pub(super) fn map_rows_to_weights<T: Send>(
        self,
        job: impl Fn(usize, &mut [f32], &mut [u8]) -> Result<T, QuantizeError> + Sync,
    ) -> Result<(Vec<u8>, Vec<T>), QuantizeError> {
        let mut weights = vec![0; self.rows * self.cols];
        // The type has no matrices without columns, whose rows would be no chunks.
        let rows = weights.par_chunks_mut(self.cols).enumerate().map_init(
            || vec![0.0; self.cols],
            |numbers, (row, out)| {
                self.load(row, numbers);
                job(row, numbers, out)
            },
        );
        let made = rows.collect::<Result<_, _>>()?;
        Ok((weights, made))
    }

    /// What `job` makes of the numbers of each of these rows.
    pub(super) fn map_rows<T: Send>(
        self,
        rows: &[usize],
        job: impl Fn(usize, &[f32]) -> Result<T, QuantizeError> + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        let load = |numbers: &mut Vec<f32>, &row: &usize| {
            self.load(row, numbers);
            job(row, numbers)
        };
        rows.par_iter().map_init(|| vec![0.0; self.cols], load).collect()
    }
}

/// The largest magnitude of the numbers of row `row`.
pub(super) fn absmax(row: usize, numbers: &[f32]) -> Result<f32, QuantizeError> {
    let largest = largest_bits(numbers);
    if largest < f32::INFINITY.to_bits() {
        return Ok(f32::from_bits(largest));
    }
    let found = numbers.iter().enumerate().find(|(_, number)| !number.is_finite());
    let (col, &value) = found.expect("the largest is one");
    Err(QuantizeError::NotFinite { row, col, value })
}

vectorized! {
    /// The largest bits of a magnitude: they ascend with it, up to infinity and then NaN.
    fn largest_bits(numbers: &[f32]) -> u32 {
        numbers.iter().fold(0, |largest, number| largest.max(number.abs().to_bits()))
    }
}
