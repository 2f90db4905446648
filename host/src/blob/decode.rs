//! Decoding: blobs to weights, and to dequantized values.

use super::Blob;
use super::header::check_size;
use super::tile::Tile;
use crate::codec::{fast, parallel_crc};
use crate::element::{Element, as_bytes_mut, zeros};
use crate::{BlobError, Float};
use fused_rans_layout::{Entry, TABLE, TILE};
use rayon::prelude::*;

impl Blob<'_> {
    /// Decodes into `out`, row-major, little endian, and verifies every checksum. Use it to reuse a buffer. Writes only
    /// the low bytes of [large integers](Blob::large_integers). Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `out` is not [`Blob::decoded_byte_len`] bytes long; [`BlobError::Tile`] or
    /// [`BlobError::WeightsChecksum`] if the blob is damaged; `out` then holds unspecified weights.
    pub fn decode(&self, out: &mut [u8]) -> Result<(), BlobError> {
        check_size(self.dtype().byte_len(), self.rows(), self.cols(), out.len())?;
        let table = self.frequencies().decode_table();
        let row_bytes = self.cols() * self.dtype().byte_len();
        let tile_rows = out.par_chunks_mut(TILE.min(self.rows()) * row_bytes).enumerate();
        tile_rows.try_for_each(|(tile_row, out)| self.decode_tile_row(tile_row, out, &table))?;
        if parallel_crc(out) == self.weights_crc() {
            Ok(())
        } else {
            Err(BlobError::WeightsChecksum)
        }
    }

    /// Decodes to a vector of weights, row by row. Use it when the element type is known at compile time.
    ///
    /// # Errors
    /// [`BlobError::ElementType`] if the weights have another type than `T`; [`BlobError::Memory`] if they do not fit
    /// into memory; the errors of [`Blob::decode`].
    pub fn decode_to_vec<T: Element>(&self) -> Result<Vec<T>, BlobError> {
        if T::DTYPE != self.dtype() {
            let (found, requested) = (self.dtype(), T::DTYPE);
            return Err(BlobError::ElementType { found, requested });
        }
        let mut weights = zeros(self.rows() * self.cols())?;
        self.decode(as_bytes_mut(&mut weights))?;
        Ok(weights)
    }

    /// Decodes to bytes: the weights row by row, little endian. Use it when the element type is known only at run time.
    ///
    /// # Errors
    /// [`BlobError::Memory`] if they do not fit into memory; the errors of [`Blob::decode`].
    pub fn decode_to_bytes(&self) -> Result<Vec<u8>, BlobError> {
        let mut weights = zeros(self.decoded_byte_len())?;
        self.decode(&mut weights)?;
        Ok(weights)
    }

    /// Dequantizes into `out`, row-major, little endian, with elements of type `dtype`, and verifies every checksum. A
    /// value is the weight with its group's scale and zero point, times the row scale, rounded to nearest. Finite
    /// values that overflow `dtype` become its largest finite number.
    ///
    /// Allocates memory for the decoded weights and the group scales, and 24 bytes for each large integer.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] if `out` does not have `dtype.byte_len()` bytes per weight; [`BlobError::Memory`] if
    /// the weights do not fit into memory; the errors of [`Blob::decode`].
    pub fn dequantize(&self, dtype: Float, out: &mut [u8]) -> Result<(), BlobError> {
        let (rows, cols) = (self.rows(), self.cols());
        check_size(dtype.byte_len(), rows, cols, out.len())?;
        let weights = self.decode_to_bytes()?;
        let values = self.values()?;
        let stored = weights.par_chunks(cols * self.dtype().byte_len());
        let outs = out.par_chunks_mut(cols * dtype.byte_len());
        outs.zip(stored).enumerate().try_for_each_init(
            || zeros(cols),
            |row_values, (row, (out, stored))| {
                let row_values = row_values.as_mut().map_err(|error| error.clone())?;
                values.dequantize_row(self.row_scale(row), row, stored, row_values);
                dtype.store_all(row_values, out);
                Ok(())
            },
        )
    }

    /// Dequantizes to F32 values, row by row. [`Blob::dequantize`] defines the values and writes other types.
    ///
    /// # Errors
    /// [`BlobError::Memory`] if they do not fit into memory; the errors of [`Blob::decode`].
    pub fn dequantize_to_f32(&self) -> Result<Vec<f32>, BlobError> {
        let mut values = zeros(self.rows() * self.cols())?;
        self.dequantize(Float::F32, as_bytes_mut(&mut values))?;
        Ok(values)
    }

    /// Decodes a row of tiles in parallel. Each tile writes its columns of every row of `out`.
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

    /// Decodes tile number `tile` into `out`, one slice per row.
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
