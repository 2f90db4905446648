//! The fast and the reference encoder behind one interface, for tests that compare them.

use fused_rans::{BlobError, Groups, Matrix, encode, encode_grouped, reference};

/// Result of encoding a matrix with groups: `None` if the blob would not be smaller.
pub type Encoded = Result<Option<Vec<u8>>, BlobError>;

/// An encoder.
pub struct Codec {
    /// Encodes a matrix without groups.
    pub plain: fn(Matrix<'_>) -> Option<Vec<u8>>,
    /// Encodes a matrix with groups.
    pub grouped: fn(Matrix<'_>, Groups<'_>) -> Encoded,
}

/// The encoder of the public API.
pub const FAST: Codec = Codec { plain: encode, grouped: encode_grouped };
/// The slow, obvious encoder.
pub const REFERENCE: Codec = Codec { plain: reference::encode, grouped: reference::encode_grouped };
