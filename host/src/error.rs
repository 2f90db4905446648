//! What can be wrong with a blob.

/// Why a blob or a matrix was refused. Nothing that the bytes can contain panics; every fault
/// comes back as one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Not a blob at all.
    #[error("not a fused-rans blob: the first four bytes are not `fRNS`")]
    Magic,
    /// Compatibility: written by another version of the format.
    #[error(
        "format version {found} is not supported (this build reads version {supported}); use the fused-rans release that wrote the file"
    )]
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
    /// An exception stands outside the tile.
    #[error("an exception lies outside the tile or out of order")]
    Exception,
}
