//! What a file holds, compared with a plain one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::Float;
use crate::file::RelativeError;
use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::PlainFile;

/// A plain file, tensor by tensor beside another one.
pub(in crate::file) struct Comparison<'a> {
    path: &'a Path,
    against: PlainFile,
    /// The numbers of its tensors.
    by_name: HashMap<String, usize>,
}

impl<'a> Comparison<'a> {
    /// The tensors of the file `path`, and those of the plain file `against`.
    ///
    /// # Errors
    /// [`FileError::Differs`] for a tensor that only one of the files has; what can be wrong with `against`.
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

    /// Checks that nobody has changed the plain file since it was opened.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.against.file().check_unchanged()
    }

    /// Compares one of the file's tensors, of these bytes, with its counterpart.
    ///
    /// # Errors
    /// [`FileError::Differs`].
    pub(in crate::file) fn same(&self, tensor: &Tensor, data: &[u8]) -> Result<(), FileError> {
        let other = self.counterpart(tensor)?;
        if data == other { Ok(()) } else { Err(self.differs(tensor, "bytes")) }
    }

    /// As [`Self::same`], but tells how far the tensor's numbers, of type `dtype`, are from its counterpart's.
    ///
    /// # Errors
    /// [`FileError::Differs`] for another dtype or shape, and for a number in either that is not finite: such are neither
    /// quantized nor what quantized ones stand for.
    pub(in crate::file) fn error(
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

    /// The bytes of a tensor's counterpart, which is of the same type and shape.
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
            against: self.against.file().path().to_owned(),
            tensor: tensor.name.clone(),
            what,
        }
    }
}

/// Sums of the squares of the differences of `data` from `original`, both of type `dtype`, and of the numbers of
/// `original`. The former is finite if all numbers are: F64 has room for the squares of F32.
fn squares(dtype: Float, data: &[u8], original: &[u8]) -> (f64, f64) {
    const CHUNK: usize = 1 << 16;
    let chunks = data.par_chunks(CHUNK).zip(original.par_chunks(CHUNK)).map(|(data, original)| {
        let mut numbers = [const { Vec::new() }; 2];
        for (numbers, data) in numbers.iter_mut().zip([data, original]) {
            numbers.resize(data.len() / dtype.bytes(), 0.0);
            dtype.load(data, numbers);
        }
        let pairs = numbers[0].iter().zip(&numbers[1]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        pairs.fold((0.0, 0.0), |(error, square), (a, b)| (error + (a - b).powi(2), square + b * b))
    });
    chunks.reduce(|| (0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}
