//! A compressed matrix, checked.

use crate::{BlobError, Dtype};

/// A blob whose structure and header checksum have been checked.
#[derive(Clone, Debug)]
pub struct Blob<'a> {
    bytes: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Checks the structure of `bytes`, which must be exactly one blob. Tile payloads are not read.
    ///
    /// # Errors
    /// [`BlobError`] says what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let _ = bytes;
        todo!()
    }
    /// Element type of the matrix.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        todo!()
    }
    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        todo!()
    }
    /// Columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        todo!()
    }
    /// The blob's bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// Weights outside the coded window.
    #[must_use]
    pub fn exceptions(&self) -> u64 {
        todo!()
    }
    /// Entropy of the matrix, as [`entropy`](crate::entropy) found it when the blob was made.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        todo!()
    }
    /// CRC-32C of header, frequency table and index, which in turn hold those of the tiles: it
    /// stands for the whole blob.
    #[must_use]
    pub fn crc(&self) -> u32 {
        todo!()
    }
    /// Checks every tile's checksum without decoding.
    ///
    /// # Errors
    /// [`BlobError::Tile`] names the first damaged tile.
    pub fn verify(&self) -> Result<(), BlobError> {
        todo!()
    }
    /// Decodes into `out`, row-major, little endian; verifies every checksum. Runs on rayon's
    /// current thread pool.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] for an `out` of another length than the matrix; [`BlobError::Tile`]
    /// or [`BlobError::WeightsChecksum`] for damage, after which `out` holds unspecified weights.
    pub fn decode(&self, out: &mut [u8]) -> Result<(), BlobError> {
        let _ = out;
        todo!()
    }
}
