//! The fast and the reference encoder behind one interface, for tests that compare them.

use fused_rans::{Blob, BlobError, Encoder, Matrix, reference};

/// Result of encoding a matrix.
pub type Encoded = Result<Blob<'static>, BlobError>;

/// An encoder.
pub type Codec = fn(&Encoder, Matrix<'_>) -> Encoded;

/// The encoder of the public API.
pub const FAST: Codec = Encoder::encode;
/// The slow, obvious encoder.
pub const REFERENCE: Codec = reference::encode;
