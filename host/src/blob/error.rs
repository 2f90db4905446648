//! What can be wrong with a blob.

use crate::ErrorKind;
use fused_rans_layout::Dtype;

/// Why a blob or a matrix was refused. Nothing that the bytes can contain panics; every fault
/// comes back as one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Not a blob at all.
    #[error("not a fused-rans blob: the first four bytes are not `fRNS`")]
    Magic,
    /// Compatibility: of a version of the format from before it was frozen, or of a later one.
    #[error("blob format {}", other_version((*found).into(), (*supported).into()))]
    Version {
        /// Version that the blob names.
        found: u16,
        /// Version that this build reads.
        supported: u16,
    },
    /// Insufficient data: the blob ends too early.
    #[error("truncated: {needed} bytes are needed, {found} are there")]
    Truncated {
        /// Bytes needed.
        needed: u64,
        /// Bytes found.
        found: u64,
    },
    /// Corruption: header, table or index do not match their checksum.
    #[error("header, frequency table or index are damaged (checksum mismatch)")]
    HeaderChecksum,
    /// Corruption: a header field has a value that no encoder writes.
    #[error("invalid header: {0}")]
    Header(&'static str),
    /// Corruption: a tile is damaged.
    #[error("tile {tile}: {fault}")]
    Tile {
        /// Number of the tile, row by row.
        tile: usize,
        /// What is wrong with it.
        fault: TileFault,
    },
    /// Corruption: every tile is intact, but the weights are not those that were compressed.
    #[error("the decoded weights do not match their checksum")]
    WeightsChecksum,
    /// Invalid argument: a buffer's length does not fit the matrix.
    #[error("a {rows} x {cols} matrix takes {expected} bytes, the buffer has {found}")]
    BufferSize {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes that the matrix takes.
        expected: u64,
        /// Bytes of the buffer.
        found: u64,
    },
    /// Invalid argument: the matrix has more weights than the format can address.
    #[error("a {rows} x {cols} matrix is too large for this format")]
    TooLarge {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// The blob would not be smaller than the matrix, or than [`Encoder::max_bytes`](crate::Encoder::max_bytes).
    #[error(
        "a blob of this {rows} x {cols} matrix would not be smaller than {max_bytes} bytes: store the matrix as it is, or allow more with Encoder::max_bytes"
    )]
    NotSmaller {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// Invalid argument: all integers of a tile exceed a byte, of which it can list 65,535.
    #[error(
        "all integers of a 256 x 256 tile exceed a byte, of which a tile can list 65,535: scale the matrix down, or store it as it is"
    )]
    TooManyLargeIntegers,
    /// Invalid argument: the blob holds weights of another type.
    #[error("the blob holds {found} weights, not {requested}: decode to {found}, or dequantize")]
    ElementType {
        /// Type of the blob's weights.
        found: Dtype,
        /// Type that was asked for.
        requested: Dtype,
    },
    /// The weights do not fit into memory.
    #[error("no memory for the {bytes} bytes of its weights")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// Invalid argument: scales of rows that the matrix cannot have.
    #[error(
        "row scales are one for each row of an I8 or F8_E4M3 matrix; this one is {} with {rows} rows, there are {found} scales",
        dtype.name()
    )]
    RowScales {
        /// Element type of the matrix.
        dtype: Dtype,
        /// Rows of the matrix.
        rows: usize,
        /// Scales found.
        found: usize,
    },
    /// Invalid argument: large integers that the matrix cannot have.
    #[error(
        "large integers are those of an I8 matrix with scales of rows and without groups that take more than a byte: {0}"
    )]
    LargeIntegers(&'static str),
    /// Invalid argument: groups of weights that are not integers.
    #[error("only I8 matrices have groups, this one is {}", dtype.name())]
    GroupType {
        /// Element type of the matrix.
        dtype: Dtype,
    },
    /// Invalid argument: a number of scales or zero points that does not fit the matrix.
    #[error(
        "a {rows} x {cols} matrix has {expected} groups, there are {found} scales or zero points"
    )]
    GroupCount {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Groups of the matrix.
        expected: usize,
        /// Scales or zero points found.
        found: usize,
    },
    /// Invalid argument: a weight of a matrix with groups that has more than four bits.
    #[error("weight {found} does not lie in -8 to 7, as those of matrices with groups do")]
    GroupedWeight {
        /// The weight.
        found: i8,
    },
    /// Invalid argument: a zero point that has no nibble.
    #[error("zero point {found} does not lie in -8 to 7")]
    ZeroPoint {
        /// The zero point.
        found: i8,
    },
}

impl BlobError {
    /// Returns the kind of this error, for callers that only need to know what to do about it.
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

/// What to do about a blob or a file of version `found`, where `supported` and the versions before it are read: all but
/// version 0.
pub(crate) fn other_version(found: u32, supported: u32) -> String {
    match found < supported {
        true => format!(
            "version {found} is from before the format was frozen (this build reads version {supported}): compress the original again, or decompress with the fused-rans release that wrote it"
        ),
        false => format!(
            "version {found} is newer than version {supported}, which this build reads: update fused-rans"
        ),
    }
}

/// What is wrong with a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileFault {
    /// The payload does not match its checksum.
    #[error("checksum mismatch")]
    Checksum,
    /// The index record has a value that no encoder writes.
    #[error("invalid index record: {0}")]
    Index(&'static str),
    /// The payload's parts do not fill it.
    #[error("the payload's parts do not add up to its length")]
    Payload,
    /// A lane's tail is longer than its slab's, or the words before it are of another number than
    /// the index says.
    #[error("a tail is too long or not where the index says")]
    Tail,
    /// A stream takes more words than its slab has rows of them, which only decoding shows.
    #[error("a stream is longer than its slab's rows of words")]
    Stream,
    /// An exception stands outside the tile or out of order.
    #[error("an exception lies outside the tile or out of order")]
    Exception,
}
