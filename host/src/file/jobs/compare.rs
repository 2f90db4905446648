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
        let errors = MatrixErrors::measure(matrix, data, other);
        let total = errors.rows.iter().fold(Squares::default(), |sum, &row| sum.plus(row));
        if !total.error.is_finite() {
            return Err(self.differs(tensor, "a number that is NaN or infinite"));
        }
        Ok(RelativeError {
            tensor: tensor.name.clone(),
            relative_error: total.relative_error(),
            worst_row: worst(&errors.rows),
            worst_column: worst(&errors.cols),
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

/// The sums of each row and of each column of a matrix.
struct MatrixErrors {
    rows: Vec<Squares>,
    cols: Vec<Squares>,
}

impl MatrixErrors {
    /// Compares the numbers `data` with those of `original`, two matrices of this type and size.
    fn measure((dtype, rows, cols): (Float, usize, usize), data: &[u8], original: &[u8]) -> Self {
        // A few tasks for each thread, so that few sums of columns have to be added.
        let rows_per_task = rows.div_ceil(4 * rayon::current_num_threads());
        let bytes = rows_per_task * cols * dtype.byte_len();
        let tasks = data.par_chunks(bytes).zip(original.par_chunks(bytes));
        let parts: Vec<Self> =
            tasks.map(|(data, original)| Self::of_rows(dtype, cols, data, original)).collect();
        let mut all = Self { rows: Vec::with_capacity(rows), cols: vec![Squares::default(); cols] };
        for part in parts {
            all.rows.extend(part.rows);
            for (sum, col) in all.cols.iter_mut().zip(part.cols) {
                *sum = sum.plus(col);
            }
        }
        all
    }

    /// Compares some rows.
    fn of_rows(dtype: Float, cols: usize, data: &[u8], original: &[u8]) -> Self {
        let bytes = cols * dtype.byte_len();
        let mut sums = Self { rows: Vec::new(), cols: vec![Squares::default(); cols] };
        let mut numbers = [vec![0.0; cols], vec![0.0; cols]];
        for (data, original) in data.chunks_exact(bytes).zip(original.chunks_exact(bytes)) {
            dtype.load(data, &mut numbers[0]);
            dtype.load(original, &mut numbers[1]);
            let mut row = Squares::default();
            let pairs = numbers[0].iter().zip(&numbers[1]);
            for (col, (&number, &original)) in sums.cols.iter_mut().zip(pairs) {
                let squares = Squares::new(number, original);
                row = row.plus(squares);
                *col = col.plus(squares);
            }
            sums.rows.push(row);
        }
        sums
    }
}

/// Returns the row or column with the largest relative error.
fn worst(sums: &[Squares]) -> WorstLine {
    let errors = sums.iter().map(|sum| sum.relative_error()).enumerate();
    let (index, relative_error) =
        errors.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or_default();
    WorstLine { index, relative_error }
}
