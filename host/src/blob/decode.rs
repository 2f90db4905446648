//! Blobs back to weights and to values.

use super::Blob;
use super::header::check_size;
use super::tile::Tile;
use crate::codec::{fast, parallel_crc};
use crate::element::{Element, as_bytes_mut, zeros};
use crate::{BlobError, Float};
use fused_rans_layout::{Entry, TABLE, TILE};
use rayon::prelude::*;

impl Blob<'_> {
    /// Decodes into `out`, row-major, little endian, and verifies every checksum. Use it to reuse a buffer; it gives the
    /// low bytes of [large integers](Blob::large_integers). Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `out` is not [`Blob::decoded_byte_len`] bytes long; [`BlobError::Tile`] or
    /// [`BlobError::WeightsChecksum`] for damage, after which `out` holds unspecified weights.
    pub fn decode(&self, out: &mut [u8]) -> Result<(), BlobError> {
        check_size(self.dtype().byte_len(), self.rows(), self.cols(), out.len())?;
        let table = self.frequencies().decode_table();
        let row_bytes = self.cols() * self.dtype().byte_len();
        let bands = out.par_chunks_mut(TILE.min(self.rows()) * row_bytes).enumerate();
        bands.try_for_each(|(tile_row, out)| self.decode_tile_row(tile_row, out, &table))?;
        if parallel_crc(out) == self.weights_crc() {
            Ok(())
        } else {
            Err(BlobError::WeightsChecksum)
        }
    }

    /// Decodes to weights of the blob's own type, row by row.
    ///
    /// # Errors
    /// [`BlobError::ElementType`] if `T` is another type; [`BlobError::Memory`]; the errors of [`Blob::decode`].
    pub fn decode_to_vec<T: Element>(&self) -> Result<Vec<T>, BlobError> {
        if T::DTYPE != self.dtype() {
            let (found, requested) = (self.dtype(), T::DTYPE);
            return Err(BlobError::ElementType { found, requested });
        }
        let mut weights = self.allocate(self.rows() * self.cols())?;
        self.decode(as_bytes_mut(&mut weights))?;
        Ok(weights)
    }

    /// Decodes to bytes: the weights row by row, little endian. Use it where the element type is known at run time only.
    ///
    /// # Errors
    /// [`BlobError::Memory`]; the errors of [`Blob::decode`].
    pub fn decode_to_bytes(&self) -> Result<Vec<u8>, BlobError> {
        let mut weights = self.allocate(self.decoded_byte_len())?;
        self.decode(&mut weights)?;
        Ok(weights)
    }

    /// Decodes to values of type `dtype` in `out`, row-major, little endian: weights times scales of groups and rows, each
    /// rounded to the nearest; finite values beyond the largest finite number become that. Verifies every checksum.
    ///
    /// Allocates the size of the decoded weights and of the scales of groups, and 24 bytes for each large integer.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `out` does not have `dtype.byte_len()` bytes per weight; [`BlobError::Memory`]; the
    /// errors of [`Blob::decode`].
    pub fn dequantize(&self, dtype: Float, out: &mut [u8]) -> Result<(), BlobError> {
        let (rows, cols) = (self.rows(), self.cols());
        check_size(dtype.byte_len(), rows, cols, out.len())?;
        let weights = self.decode_to_bytes()?;
        let values = self.values()?;
        let stored = weights.par_chunks(cols * self.dtype().byte_len());
        let outs = out.par_chunks_mut(cols * dtype.byte_len());
        outs.zip(stored).enumerate().for_each_init(
            || vec![0.0; cols],
            |row_values, (row, (out, stored))| {
                values.dequantize_row(self.row_scale(row), row, stored, row_values);
                dtype.store_all(row_values, out);
            },
        );
        Ok(())
    }

    /// Decodes to F32 values, row by row: weights times scales of groups and rows.
    ///
    /// # Errors
    /// [`BlobError::Memory`]; the errors of [`Blob::decode`].
    pub fn dequantize_to_f32(&self) -> Result<Vec<f32>, BlobError> {
        let mut values = self.allocate(self.rows() * self.cols())?;
        self.dequantize(Float::F32, as_bytes_mut(&mut values))?;
        Ok(values)
    }

    /// Returns `len` zeros. A few bytes of a blob can ask for megabytes, which there may not be.
    fn allocate<T: crate::element::plain::Plain>(&self, len: usize) -> Result<Vec<T>, BlobError> {
        let bytes = len as u64 * size_of::<T>() as u64;
        zeros(len).ok_or(BlobError::Memory { bytes })
    }

    /// Decodes a row of tiles, side by side. Each tile writes its part of every row of `out`.
    pub(crate) fn decode_tile_row(
        &self,
        tile_row: usize,
        out: &mut [u8],
        table: &[Entry; TABLE],
    ) -> Result<(), BlobError> {
        let bytes = self.dtype().byte_len();
        let across = self.grid().across();
        let rows = out.len() / (self.cols() * bytes);
        let mut parts: Vec<Vec<&mut [u8]>> =
            (0..across).map(|_| Vec::with_capacity(rows)).collect();
        for row in out.chunks_mut(self.cols() * bytes) {
            for (part, cols) in parts.iter_mut().zip(row.chunks_mut(TILE * bytes)) {
                part.push(cols);
            }
        }
        parts
            .par_iter_mut()
            .enumerate()
            .try_for_each(|(i, out)| self.decode_tile(tile_row * across + i, out, table))
    }

    /// Decodes tile number `tile` into its part of each row.
    fn decode_tile(
        &self,
        tile: usize,
        out: &mut [&mut [u8]],
        table: &[Entry; TABLE],
    ) -> Result<(), BlobError> {
        match self.tile(tile)? {
            Tile::Raw { weights, .. } => {
                let mut rest = weights;
                for row in out {
                    let (stored, after) = rest.split_at(row.len());
                    row.copy_from_slice(stored);
                    rest = after;
                }
                Ok(())
            }
            Tile::Coded(coded) => fast::decode_tile(&coded, self.split(), table, out)
                .map_err(|fault| BlobError::Tile { tile, fault }),
        }
    }
}
