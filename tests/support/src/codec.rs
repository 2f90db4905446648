//! The two encoders, to be held against each other.

use fused_rans::{BlobError, Groups, Matrix, encode, encode_grouped, reference};

/// A blob, if the matrix can be coded so.
pub type Encoded = Result<Option<Vec<u8>>, BlobError>;

/// An encoder.
pub struct Codec {
    /// Without groups.
    pub plain: fn(Matrix<'_>) -> Option<Vec<u8>>,
    /// With groups.
    pub grouped: fn(Matrix<'_>, Groups<'_>) -> Encoded,
}

/// The one that users have.
pub const FAST: Codec = Codec { plain: encode, grouped: encode_grouped };
/// The obvious one.
pub const REFERENCE: Codec = Codec { plain: reference::encode, grouped: reference::encode_grouped };
