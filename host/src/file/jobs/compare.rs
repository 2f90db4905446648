//! Comparison of a file's tensors with those of a plain file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::Float;
use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::file::summary::{RelativeError, WorstLine};

/// A plain file with the same tensors as another file.
pub(in crate::file) struct Comparison<'a> {
    path: &'a Path,
    against: PlainFile,
    /// Indexes of its tensors.
    by_name: HashMap<String, usize>,
}

impl<'a> Comparison<'a> {
    /// Opens the plain file `against`, to be compared with the file `path` of these tensors.
    ///
    /// # Errors
    /// [`FileError::Differs`] for a tensor that only one of the files has; the errors of [`PlainFile::open`].
    pub(in crate::file) fn new(
        path: &'a Path,
        tensors: &[Tensor],
        against: &Path,
    ) -> Result<Self, FileError> {
        let against = PlainFile::open(against)?;
        let names = against.tensors().iter().map(|tensor| tensor.name.clone());
        let by_name = names.zip(0..).collect();
        let this = Self { path, against, by_name };
        let here: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let missing = |tensor: &&Tensor| !here.contains(tensor.name.as_str());
        if let Some(tensor) = this.against.tensors().iter().find(missing) {
            return Err(this.differs(tensor, "missing in the compressed file"));
        }
        let only_here = |tensor: &&Tensor| !this.by_name.contains_key(&tensor.name);
        match tensors.iter().find(only_here) {
            Some(tensor) => Err(this.differs(tensor, "only in the compressed file")),
            None => Ok(this),
        }
    }

    /// Checks that the plain file has not changed since it was opened.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.against.check_unchanged()
    }

    /// Checks that one of the file's tensors, whose bytes are `data`, equals its counterpart.
    ///
    /// # Errors
    /// [`FileError::Differs`].
    pub(in crate::file) fn check_equal(
        &self,
        tensor: &Tensor,
        data: &[u8],
    ) -> Result<(), FileError> {
        let other = self.counterpart(tensor)?;
        if data == other { Ok(()) } else { Err(self.differs(tensor, "bytes")) }
    }

    /// Measures how far a tensor's numbers are from its counterpart's. `matrix` is its type, rows and columns.
    ///
    /// # Errors
    /// [`FileError::Differs`] for another dtype or shape, and for a number in either that is not finite: quantizers accept
    /// and make finite numbers only.
    pub(in crate::file) fn relative_error(
        &self,
        tensor: &Tensor,
        matrix: (Float, usize, usize),
        data: &[u8],
    ) -> Result<RelativeError, FileError> {
        let other = self.counterpart(tensor)?;
        let (dtype, _, cols) = matrix;
        let matrices = Matrices { dtype, cols, data, original: other };
        let rows = matrices.rows();
        let total = rows.iter().fold(Squares::default(), |sum, &row| sum.plus(row));
        if !total.error.is_finite() {
            return Err(self.differs(tensor, "a number that is NaN or infinite"));
        }
        Ok(RelativeError {
            tensor: tensor.name.clone(),
            relative_error: total.relative_error(),
            worst_row: worst(&rows),
            worst_column: worst(&matrices.cols()),
        })
    }

    /// Returns the bytes of a tensor's counterpart, if that has the same dtype and shape.
    fn counterpart(&self, tensor: &Tensor) -> Result<&[u8], FileError> {
        let other = &self.against.tensors()[self.by_name[&tensor.name]];
        if tensor.dtype != other.dtype {
            return Err(self.differs(tensor, "dtype"));
        }
        if tensor.shape != other.shape {
            return Err(self.differs(tensor, "shape"));
        }
        Ok(self.against.data(other))
    }

    fn differs(&self, tensor: &Tensor, what: &'static str) -> FileError {
        FileError::Differs {
            path: self.path.to_owned(),
            against: self.against.path().to_owned(),
            tensor: tensor.name.clone(),
            what,
        }
    }
}

/// Two sums of squares: of differences, and of the original numbers.
#[derive(Clone, Copy, Default)]
struct Squares {
    error: f64,
    original: f64,
}

impl Squares {
    /// The sums for one number. They are finite if it is, since F64 has room for the squares of F32.
    fn new(number: f32, original: f32) -> Self {
        let (number, original) = (f64::from(number), f64::from(original));
        Self { error: (number - original).powi(2), original: original * original }
    }

    fn plus(self, other: Self) -> Self {
        Self { error: self.error + other.error, original: self.original + other.original }
    }

    fn relative_error(self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.original).sqrt() }
    }
}

/// Numbers that are loaded at a time.
const CHUNK: usize = 1 << 12;

/// Two matrices of the same type and size.
#[derive(Clone, Copy)]
struct Matrices<'a> {
    dtype: Float,
    cols: usize,
    data: &'a [u8],
    original: &'a [u8],
}

impl Matrices<'_> {
    /// Returns the sums of each row.
    fn rows(self) -> Vec<Squares> {
        let row_bytes = self.cols * self.dtype.byte_len();
        let rows = self.data.par_chunks(row_bytes).zip(self.original.par_chunks(row_bytes));
        let sums = rows.map(|(data, original)| {
            let mut sum = Squares::default();
            let chunk_bytes = CHUNK * self.dtype.byte_len();
            for (data, original) in data.chunks(chunk_bytes).zip(original.chunks(chunk_bytes)) {
                self.for_each(data, original, |_, squares| sum = sum.plus(squares));
            }
            sum
        });
        sums.collect()
    }

    /// Returns the sums of each column. Every task has some columns of all rows, so that no thread needs sums of all.
    fn cols(self) -> Vec<Squares> {
        let (bytes, mut sums) = (self.dtype.byte_len(), vec![Squares::default(); self.cols]);
        sums.par_chunks_mut(CHUNK).enumerate().for_each(|(block, sums)| {
            let first = block * CHUNK * bytes;
            let place = first..first + sums.len() * bytes;
            let rows =
                self.data.chunks(self.cols * bytes).zip(self.original.chunks(self.cols * bytes));
            for (data, original) in rows {
                let (data, original) = (&data[place.clone()], &original[place.clone()]);
                self.for_each(data, original, |col, squares| sums[col] = sums[col].plus(squares));
            }
        });
        sums
    }

    /// Calls `f` for at most [`CHUNK`] numbers, with their indexes.
    fn for_each(self, data: &[u8], original: &[u8], mut f: impl FnMut(usize, Squares)) {
        let (mut numbers, count) = ([[0.0; CHUNK]; 2], data.len() / self.dtype.byte_len());
        for (numbers, data) in numbers.iter_mut().zip([data, original]) {
            self.dtype.load(data, &mut numbers[..count]);
        }
        let [numbers, originals] = &numbers;
        let pairs = numbers[..count].iter().zip(&originals[..count]).enumerate();
        pairs.for_each(|(col, (&number, &original))| f(col, Squares::new(number, original)));
    }
}

/// Returns the row or column with the largest relative error, the first of equals.
fn worst(sums: &[Squares]) -> WorstLine {
    let errors = sums.iter().map(|sum| sum.relative_error()).enumerate();
    let first = WorstLine { index: 0, relative_error: 0.0 };
    errors.fold(first, |worst, (index, relative_error)| {
        match relative_error > worst.relative_error {
            true => WorstLine { index, relative_error },
            false => worst,
        }
    })
}
