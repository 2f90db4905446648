//! Errors about blobs and matrices.

use crate::ErrorKind;
use fused_rans_layout::Dtype;

/// An error about a blob or a matrix. Invalid bytes never cause a panic: every fault is one of these errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Corruption: the bytes are not a blob.
    #[error("not a fused-rans blob: the first four bytes are not `fRNS`")]
    Magic,
    /// Compatibility: the blob has another version of the format.
    #[error("blob format {}", other_version((*found).into(), (*supported).into()))]
    Version {
        /// Version of the blob.
        found: u16,
        /// Version that this build reads.
        supported: u16,
    },
    /// Insufficient data: the blob ends too early.
    #[error("truncated: {needed} bytes are needed, {found} were found")]
    Truncated {
        /// Required number of bytes.
        needed: u64,
        /// Number of bytes found.
        found: u64,
    },
    /// Corruption: header, table, index and row scales do not match their checksum.
    #[error("the header, frequency table, index or row scales are damaged (checksum mismatch)")]
    HeaderChecksum,
    /// Corruption: a header field has a value that no encoder writes.
    #[error("invalid header: {0}")]
    Header(&'static str),
    /// Corruption: a tile is damaged.
    #[error("tile {tile}: {fault}")]
    Tile {
        /// Number of the tile, row by row.
        tile: usize,
        /// Fault of the tile.
        fault: TileFault,
    },
    /// Corruption: every tile is intact, but the decoded weights are not the original ones.
    #[error("the decoded weights do not match their checksum")]
    WeightsChecksum,
    /// Invalid argument: the buffer does not have the size of the matrix.
    #[error("a {rows} x {cols} matrix takes {expected} bytes, the buffer has {found}")]
    BufferSize {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Size of the matrix in bytes.
        expected: u64,
        /// Size of the buffer in bytes.
        found: u64,
    },
    /// Invalid argument: the matrix is too large for the format or for memory.
    #[error("a {rows} x {cols} matrix is too large for this format: split it")]
    TooLarge {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// Not smaller: the blob would not be smaller than the matrix, or than
    /// [`Encoder::max_bytes`](crate::Encoder::max_bytes).
    #[error(
        "the {rows} x {cols} matrix does not compress to less than {max_bytes} bytes: store it uncompressed, or raise \
         the limit with Encoder::max_bytes"
    )]
    NotSmaller {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Limit in bytes.
        max_bytes: usize,
    },
    /// Invalid argument: a tile has 65,536 large integers, one more than it can list.
    #[error(
        "no integer of a 256 x 256 tile fits in a byte, and a tile can list at most 65,535 of them: use \
         larger row scales, or store the matrix uncompressed"
    )]
    TooManyLargeIntegers,
    /// Invalid argument: the blob has another element type.
    #[error("the blob holds {found} weights, not {requested}: decode to {found}, or dequantize")]
    ElementType {
        /// Element type of the blob.
        found: Dtype,
        /// Requested element type.
        requested: Dtype,
    },
    /// Out of memory: the host has no room for the decoded weights or for intermediate results.
    #[error("cannot allocate {bytes} bytes of memory")]
    Memory {
        /// Requested number of bytes.
        bytes: u64,
    },
    /// Invalid argument: the matrix cannot have these row scales.
    #[error(
        "only I8 and F8_E4M3 matrices have row scales, one per row; this matrix is {} with {rows} rows, and {found} \
         scales were given",
        dtype.name()
    )]
    RowScales {
        /// Element type of the matrix.
        dtype: Dtype,
        /// Rows of the matrix.
        rows: usize,
        /// Number of scales given.
        found: usize,
    },
    /// Invalid argument: the matrix cannot have these large integers.
    #[error(
        "invalid large integers (only I8 matrices with row scales and without groups have them): {0}"
    )]
    LargeIntegers(&'static str),
    /// Invalid argument: the matrix has groups, but its weights are not integers.
    #[error("only I8 matrices have groups; this matrix is {}", dtype.name())]
    GroupType {
        /// Element type of the matrix.
        dtype: Dtype,
    },
    /// Invalid argument: the number of scales or zero points is not the number of groups.
    #[error(
        "a {rows} x {cols} matrix has {expected} groups, but {found} scales or zero points were given"
    )]
    GroupCount {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Number of groups of the matrix.
        expected: usize,
        /// Number of scales or zero points given.
        found: usize,
    },
    /// Invalid argument: a weight of a matrix with groups does not fit in four bits.
    #[error("weight {found} is outside -8 to 7, the range of matrices with groups")]
    GroupedWeight {
        /// The weight.
        found: i8,
    },
    /// Invalid argument: a zero point does not fit in four bits.
    #[error("zero point {found} is outside -8 to 7")]
    ZeroPoint {
        /// The zero point.
        found: i8,
    },
}

impl BlobError {
    /// Returns the kind of this error, for callers that only need to know how to react.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Compatibility,
            Self::Truncated { .. } => ErrorKind::InsufficientData,
            Self::Memory { .. } => ErrorKind::OutOfMemory,
            Self::NotSmaller { .. } => ErrorKind::NotSmaller,
            Self::Magic
            | Self::HeaderChecksum
            | Self::Header(_)
            | Self::Tile { .. }
            | Self::WeightsChecksum => ErrorKind::Corruption,
            Self::BufferSize { .. }
            | Self::TooLarge { .. }
            | Self::TooManyLargeIntegers
            | Self::ElementType { .. }
            | Self::RowScales { .. }
            | Self::LargeIntegers(_)
            | Self::GroupType { .. }
            | Self::GroupCount { .. }
            | Self::GroupedWeight { .. }
            | Self::ZeroPoint { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// Returns the rest of an error message about version `found` of a blob or a file: what to do about it. `supported` is
/// the version that this build reads.
pub(crate) fn other_version(found: u32, supported: u32) -> String {
    match found < supported {
        true => format!(
            "version {found} is from before the format was frozen (this build reads version {supported}): compress \
             the original again, or decompress with the fused-rans release that wrote it"
        ),
        false => format!(
            "version {found} is newer than version {supported}, which this build reads: update fused-rans"
        ),
    }
}

/// A fault of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileFault {
    /// The payload does not match its checksum.
    #[error("checksum mismatch")]
    Checksum,
    /// The index record has a value that no encoder writes.
    #[error("invalid index record: {0}")]
    Index(&'static str),
    /// The sizes of the payload's parts do not add up to its length.
    #[error("the payload's parts do not add up to its length")]
    Payload,
    /// A lane's tail has more words than its slab has tail rows, or the tail words of a slab do not start where the
    /// index says.
    #[error("a tail is too long, or does not start where the index says")]
    Tail,
    /// A stream has more words than its slab has rows of words. Only decoding finds this fault.
    #[error("a stream is longer than its slab's rows of words")]
    Stream,
    /// An exception lies outside the tile, is out of order, or has a weight that no exception can have.
    #[error("an exception lies outside the tile, is out of order or has an invalid weight")]
    Exception,
}
