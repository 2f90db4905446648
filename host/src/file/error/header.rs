//! Faults of headers.

/// A fault of a safetensors header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// Longer than safetensors allows.
    #[error("it claims to be {0} bytes long, more than safetensors allows")]
    TooLarge(u64),
    /// Not text.
    #[error("it is not UTF-8")]
    Utf8(#[source] std::str::Utf8Error),
    /// Not JSON, or JSON of another form.
    #[error("it is not the JSON of a safetensors header")]
    Json(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Of a calibration: `shared` is not a map from names to names.
    #[error("its metadata entry `shared` is not a JSON object from names to names")]
    Shared(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Of a calibration: `shared` names a tensor that is not in the file.
    #[error(
        "its metadata entry `shared` says that `{name}` has the inputs of `{stored}`, which is not in the file: \
         name a tensor that is"
    )]
    SharedName {
        /// Name of a matrix.
        name: String,
        /// Name of the missing tensor: the second moments of that matrix's inputs.
        stored: String,
    },
    /// A name occurs twice, so that readers would lose a tensor.
    #[error("tensor `{0}` is defined twice")]
    Duplicate(String),
    /// Hole, overlap or disorder between tensors.
    #[error("tensor `{0}` does not start where the one before it ends")]
    Offset(String),
    /// Dtype and shape do not give the tensor's length.
    #[error("tensor `{0}`: dtype and shape do not match the number of bytes")]
    Size(String),
    /// Data beyond the last tensor.
    #[error(
        "the tensors take {expected} bytes, but {found} come after the header: cut off what is too much, or save the file again"
    )]
    Trailing {
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// Metadata of a compressed file that `compress` does not write.
    #[error("invalid `fused_rans` metadata: {0}")]
    Metadata(&'static str),
    /// The verbatim original header is not valid.
    #[error("the original file's header, kept inside, is invalid")]
    Original(#[source] Box<HeaderFault>),
}
