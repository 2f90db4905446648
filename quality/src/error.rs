//! What can go wrong.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use fused_rans_host::file::FileError;
use fused_rans_host::quantize::QuantizeError;

/// Why a job failed. Nothing that a file can contain panics; what is wrong with a file comes back as
/// one of these, and names the file.
///
/// `Display` gives this error alone; walk [`std::error::Error::source`] for its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// File at fault.
        path: PathBuf,
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder that would be written is there already.
    #[error("{}: exists already; remove it, or choose another output", path.display())]
    Exists {
        /// Output that was asked for.
        path: PathBuf,
    },
    /// The file does not say what its kind of file has to say.
    #[error("{}: not a valid {kind}", path.display())]
    Invalid {
        /// File at fault.
        path: PathBuf,
        /// What it should have been.
        kind: &'static str,
        /// Why it is not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The file asks for something that this crate does not implement.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// File at fault.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// The model lacks a tensor.
    #[error("there is no tensor {name}")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor does not have the shape that the configuration gives it.
    #[error("tensor {name} has shape {found:?}, {expected:?} was expected")]
    Shape {
        /// Its name.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape that it has.
        found: Vec<usize>,
    },
    /// The dimensions of a configuration do not fit together.
    #[error("the model's configuration is inconsistent: {problem}")]
    Config {
        /// What does not fit.
        problem: String,
    },
    /// A window has more tokens than the model has positions, or none.
    #[error("a window of {length} tokens does not fit the model, which has {positions} positions")]
    WindowLength {
        /// Tokens of the window.
        length: usize,
        /// Positions of the model.
        positions: usize,
    },
    /// The vocabulary lacks a token.
    #[error("token {token} is not in the model's vocabulary of {vocabulary}")]
    Token {
        /// Its number.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The text does not have that many windows.
    #[error(
        "the text of {tokens} tokens has {available} windows of {length} tokens, {asked} were asked for"
    )]
    TooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Windows that it has.
        available: usize,
        /// Tokens of a window.
        length: usize,
        /// Windows that were asked for.
        asked: usize,
    },
    /// Two measurements were not made on the same tokens.
    #[error("{}: measured on other tokens than these; the difference would mean nothing", path.display())]
    Unpaired {
        /// The earlier measurement.
        path: PathBuf,
    },
    /// A matrix that every format should quantize was not.
    #[error("{name} was not quantized")]
    NotQuantized {
        /// Its name.
        name: String,
    },
    /// Moments do not calibrate all matrices.
    #[error("{}: lacks moments of some of the model's matrices", path.display())]
    NotCalibrated {
        /// The moments.
        path: PathBuf,
    },
    /// The model cannot be compressed, or not be read back.
    #[error("cannot compress")]
    File(#[from] FileError),
    /// There is no such quantizer.
    #[error("cannot quantize")]
    Quantize(#[from] QuantizeError),
    /// A chart cannot be drawn.
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
