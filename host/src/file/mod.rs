//! Compressed `.safetensors` files and models (feature `file`).
//!
//! [`compress`], [`decompress`], [`verify`], [`verify_against`] and [`inspect`] take a single file, the index of a sharded
//! model, or a Hugging Face folder ([`Model`] tells which files those are). [`CompressedFile`] gives access to the blobs of
//! a compressed file, [`TensorFile`] to the layers of any file.
//!
//! A compressed file is itself a valid safetensors file. A compressed tensor is stored as a `U8` tensor under its own name,
//! which holds its blob; other tensors are stored as they are. The metadata contains the original header, so that
//! [`decompress`] restores every byte of the file, unless tensors were quantized.
//!
//! ```no_run
//! use fused_rans_host::file::{self, CompressOptions, CompressedFile, Progress};
//!
//! let options = CompressOptions::default();
//! file::compress("model.safetensors", "model.frans.safetensors", &options, Progress::silent())?;
//! let model = CompressedFile::open("model.frans.safetensors")?;
//! for name in model.blob_names() {
//!     let blob = model.blob(name)?;
//!     println!("{name}: {} x {}", blob.rows(), blob.cols());
//! }
//! # Ok::<(), file::FileError>(())
//! ```
//!
//! Input files are memory-mapped. Do not change them while a function of this module, or a value of it that has opened
//! them, reads them: jobs then fail with [`FileError::Changed`] and write nothing. Truncating a mapped file kills the
//! process (SIGBUS).

mod error;
mod format;
mod jobs;
mod model;
mod policy;
mod progress;
mod summary;
mod threads;
mod write;

pub use error::{FileError, HeaderFault, IndexFault, ModelFault, TensorFault};
pub use format::compressed::CompressedFile;
pub use format::container::VERSION;
pub use format::dtype::TensorDtype;
pub use format::plain::PlainFile;
pub use format::tensor_file::{FileLayer, TensorFile};
pub use jobs::compress::compress;
pub use jobs::decompress::decompress;
pub use jobs::inspect::{CodingReport, Report, StoredAs, TensorReport, Totals, inspect};
pub use jobs::verify::{verify, verify_against};
pub use model::Model;
pub use policy::kept::{Kept, KeptReason};
pub use policy::options::CompressOptions;
#[cfg(feature = "quantize")]
pub use policy::quantizing::{Calibration, Rules, RulesError};
pub use policy::warning::Warning;
pub use progress::Progress;
pub use summary::{RelativeError, Summary, WorstLine};
pub use threads::on_threads;
#[doc(hidden)]
pub use write::temporary::Temporary;
pub use write::temporary::abandon_outputs;
