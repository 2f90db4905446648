//! Errors.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use fused_rans_host::file::FileError;
use fused_rans_host::quantize::QuantizeError;

/// Reason of a failure. No content of a file causes a panic: every fault of a file is one of these and names the file.
///
/// `Display` prints this error only; follow [`std::error::Error::source`] to its causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// File at fault.
        path: PathBuf,
        /// The operation, such as "read" in "cannot read".
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The output folder exists.
    #[error("{}: exists already; remove it, or choose another output", path.display())]
    Exists {
        /// The output folder.
        path: PathBuf,
    },
    /// The content of a file is not valid.
    #[error("{}: not a valid {kind}", path.display())]
    Invalid {
        /// File at fault.
        path: PathBuf,
        /// The expected kind of file.
        kind: &'static str,
        /// The fault.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The file needs something that this crate does not implement.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// File at fault.
        path: PathBuf,
        /// The missing feature.
        what: String,
    },
    /// A file lacks a tensor.
    #[error("there is no tensor {name}")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// The shape of a tensor is not the one that the configuration implies.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape that the configuration implies.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The dimensions of a configuration contradict each other.
    #[error("the model's configuration is inconsistent: {problem}")]
    Config {
        /// The contradiction.
        problem: String,
    },
    /// A window is empty or has more tokens than the model has positions.
    #[error("a window of {length} tokens does not fit the model, which has {positions} positions")]
    WindowLength {
        /// Number of tokens of the window.
        length: usize,
        /// Number of positions of the model.
        positions: usize,
    },
    /// A token is not in the vocabulary.
    #[error("token {token} is not in the model's vocabulary of {vocabulary}")]
    Token {
        /// Its ID.
        token: u32,
        /// Number of tokens of the vocabulary.
        vocabulary: usize,
    },
    /// The text is too short for the requested number of windows.
    #[error(
        "the text of {tokens} tokens has {available} windows of {length} tokens, {asked} were requested"
    )]
    TooShort {
        /// Number of tokens of the text.
        tokens: usize,
        /// Number of windows in the text.
        available: usize,
        /// Number of tokens of a window.
        length: usize,
        /// Requested number of windows.
        asked: usize,
    },
    /// Two measurements were made on different tokens.
    #[error("{}: measured on other tokens, cannot be compared", path.display())]
    Unpaired {
        /// The earlier measurement.
        path: PathBuf,
    },
    /// Compressing did not quantize a matrix, because its blob would not have been smaller.
    #[error("tensor {name} was not quantized")]
    NotQuantized {
        /// Its name.
        name: String,
    },
    /// A file of moments lacks the moments of a matrix.
    #[error("{}: lacks moments of some matrices of the model", path.display())]
    NotCalibrated {
        /// The file of moments.
        path: PathBuf,
    },
    /// The model cannot be compressed, or cannot be read back.
    #[error("cannot compress")]
    File(#[from] FileError),
    /// A quantizer does not exist.
    #[error("cannot quantize")]
    Quantize(#[from] QuantizeError),
    /// The chart cannot be drawn.
    #[error("cannot draw the chart")]
    Chart(#[source] Box<dyn StdError + Send + Sync>),
    /// A tensor operation failed.
    #[error("cannot compute")]
    Compute(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn invalid<E>(path: &Path, kind: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        move |source| Self::Invalid { path: path.to_owned(), kind, source: source.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }
}
