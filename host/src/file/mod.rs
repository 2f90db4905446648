//! `.safetensors` files, compressed and back.
//!
//! A compressed file is itself a valid safetensors file: blobs are `U8` tensors under the names of
//! the tensors that they stand for, everything else is kept as it was, and the metadata holds the
//! original header, so that [`decompress`] gives back the very same bytes, if no tensor was quantized.
//!
//! ```no_run
//! use fused_rans_host::file::{self, CompressedFile, Options};
//!
//! let silent = &mut |_, _| {};
//! file::compress("model.safetensors", "model.frans.safetensors", &Options::default(), silent)?;
//! let model = CompressedFile::open("model.frans.safetensors")?;
//! for name in model.blob_names() {
//!     let blob = model.blob(name)?;
//!     let mut weights = vec![0; blob.rows() * blob.cols() * blob.dtype().bytes()];
//!     blob.decode(&mut weights).expect("intact");
//! }
//! # Ok::<(), file::FileError>(())
//! ```
//!
//! Input files are memory-mapped: nobody may change or truncate them while a function of this
//! module, or a [`CompressedFile`], reads them. The process dies of it where a file becomes shorter, as any program that maps
//! files. Of other changes a job says so in the end, and gives no output: [`FileError::Changed`].

use std::io;

use serde::Serialize;

mod error;
mod format;
mod jobs;
mod model;
mod policy;
mod write;

pub use error::{ErrorKind, FileError, HeaderFault, TensorFault};
pub use format::compressed::CompressedFile;
pub use format::container::VERSION;
pub use jobs::compress::compress;
pub use jobs::decompress::{decompress, verify, verify_against};
pub use jobs::inspect::{CodingReport, Report, StoredAs, TensorReport, Totals, inspect};

pub use model::{
    IndexFault, Model, ModelFault, compress_model, decompress_model, inspect_model, verify_model,
};
pub use policy::calibration::Calibration;
pub use policy::options::Options;
pub use policy::rules::{Rules, RulesError};
pub use policy::warning::Warning;
#[doc(hidden)] // for what else the program writes
pub use write::temporary::Temporary;
pub use write::temporary::abandon_outputs;

/// Is called with the bytes done and the bytes in all, after every tensor. Tensors that a rate is spread over are gone through
/// twice, and count twice.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Runs `job` on a thread pool of its own with this many threads; 0 for one a core.
///
/// # Errors
/// If the operating system does not give that many threads.
pub fn on_threads<T: Send>(threads: usize, job: impl FnOnce() -> T + Send) -> io::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        let threads = if threads == 0 { "the".to_owned() } else { threads.to_string() };
        // As text: with the error as its source, this one would say the same twice.
        io::Error::other(format!("cannot start {threads} threads: {error}"))
    })?;
    Ok(pool.install(job))
}

/// What a job went through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Tensors of the file.
    pub tensors: usize,
    /// Those that are compressed.
    pub blobs: usize,
    /// Those of them that are quantized.
    pub quantized: usize,
    /// Those of these that were quantized with second moments of their inputs; known to [`compress`] only.
    pub calibrated: usize,
    /// Names of those that were to be quantized, but are too small for it, and stayed lossless; known to [`compress`] only.
    pub too_small: Vec<String>,
    /// Size of the plain file.
    pub original_bytes: u64,
    /// Size of the compressed file.
    pub stored_bytes: u64,
    /// What quantizing cost, where it was compared with the numbers that were quantized: by tensor.
    pub errors: Vec<RelativeError>,
    /// What was asked for in vain; known to [`compress`] only.
    pub warnings: Vec<Warning>,
}

/// How far a quantized tensor is from the numbers that it was made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelativeError {
    /// Name of the tensor.
    pub tensor: String,
    /// Root mean square of the errors over that of the numbers.
    pub relative_error: f64,
}

#[cfg(test)]
mod tests {
    use std::thread::available_parallelism;

    use super::on_threads;

    #[test]
    fn jobs_get_the_threads_that_were_asked_for() {
        for threads in [1, 2, 7] {
            assert_eq!(on_threads(threads, rayon::current_num_threads).unwrap(), threads);
        }
        // Whoever runs the tests may have asked for others.
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            let cores = available_parallelism().map_or(1, usize::from);
            assert_eq!(on_threads(0, rayon::current_num_threads).unwrap(), cores);
        }
    }
}
