//! Comparison of a file's tensors with those of a plain file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::Float;
use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::file::summary::RelativeError;

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

    /// Measures how far a tensor's numbers, of type `dtype`, are from its counterpart's.
    ///
    /// # Errors
    /// [`FileError::Differs`] for another dtype or shape, and for a number in either that is not finite: quantizers accept
    /// and make finite numbers only.
    pub(in crate::file) fn relative_error(
        &self,
        tensor: &Tensor,
        dtype: Float,
        data: &[u8],
    ) -> Result<RelativeError, FileError> {
        let other = self.counterpart(tensor)?;
        let (error, square) = squares(dtype, data, other);
        if !error.is_finite() {
            return Err(self.differs(tensor, "a number that is NaN or infinite"));
        }
        let relative_error = if error == 0.0 { 0.0 } else { (error / square).sqrt() };
        Ok(RelativeError { tensor: tensor.name.clone(), relative_error })
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

/// Returns two sums of squares: of the differences between `data` and `original`, both of type `dtype`, and of the numbers
/// of `original`. The first is finite if all numbers are, since F64 has room for the squares of F32.
fn squares(dtype: Float, data: &[u8], original: &[u8]) -> (f64, f64) {
    const CHUNK: usize = 1 << 16;
    let chunks = data.par_chunks(CHUNK).zip(original.par_chunks(CHUNK)).map(|(data, original)| {
        let mut numbers = [const { Vec::new() }; 2];
        for (numbers, data) in numbers.iter_mut().zip([data, original]) {
            numbers.resize(data.len() / dtype.byte_len(), 0.0);
            dtype.load(data, numbers);
        }
        let pairs = numbers[0].iter().zip(&numbers[1]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        pairs.fold((0.0, 0.0), |(error, square), (a, b)| (error + (a - b).powi(2), square + b * b))
    });
    chunks.reduce(|| (0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}
