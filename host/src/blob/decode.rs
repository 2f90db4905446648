//! Decoding: blobs to weights, and to dequantized values.

use super::Blob;
use super::header::check_size;
use super::tile::Tile;
use super::values::DequantizedValues;
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
        self.decode_tile_rows(0, out, &table)?;
        if parallel_crc(out) == self.weights_crc() {
            Ok(())
        } else {
            Err(BlobError::WeightsChecksum)
        }
    }

    /// Decodes some rows of tiles, from row of tiles `first` on, without a check of the weights' checksum.
    fn decode_tile_rows(
        &self,
        first: usize,
        out: &mut [u8],
        table: &[Entry; TABLE],
    ) -> Result<(), BlobError> {
        let row_bytes = self.cols() * self.dtype().byte_len();
        let tile_rows = out.par_chunks_mut(TILE.min(self.rows()) * row_bytes).enumerate();
        tile_rows.try_for_each(|(row, out)| self.decode_tile_row(first + row, out, table))
    }

    /// Decodes, or dequantizes to `dtype`, part by part, so that the whole matrix need not be in memory. Each part is some
    /// rows of tiles, of about `part_bytes` bytes, but at least one. `memory` returns memory for a part, whose contents do
    /// not matter, and `take` gets the parts in order. **Only when all parts have been decoded are they verified.**
    ///
    /// # Errors
    /// Fails as [`Blob::decode`], [`Blob::dequantize`] and `take` do.
    pub(crate) fn decode_parts<E: From<BlobError>>(
        &self,
        dtype: Option<Float>,
        part_bytes: usize,
        mut memory: impl FnMut() -> Vec<u8>,
        mut take: impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (rows, stored_row) = (self.rows(), self.cols() * self.dtype().byte_len());
        let row = dtype.map_or(stored_row, |dtype| self.cols() * dtype.byte_len());
        let rows_per_part = (part_bytes / row / TILE).max(1) * TILE;
        let table = self.frequencies().decode_table();
        let values = dtype.map(|dtype| Ok((dtype, self.values()?))).transpose()?;
        let (mut crc, mut stored) = (0, Vec::new());
        for first in (0..rows).step_by(rows_per_part) {
            let rows = rows_per_part.min(rows - first);
            let mut out = memory();
            resize(&mut out, rows * row)?;
            let decoded = match &values {
                None => &mut out,
                Some(_) => {
                    resize(&mut stored, rows * stored_row)?;
                    &mut stored
                }
            };
            self.decode_tile_rows(first / TILE, decoded, &table)?;
            crc = crc32c::crc32c_combine(crc, parallel_crc(decoded), decoded.len());
            if let Some((dtype, values)) = &values {
                self.dequantize_rows(*dtype, values, first, &stored, &mut out)?;
            }
            take(out)?;
        }
        match crc == self.weights_crc() {
            true => Ok(()),
            false => Err(BlobError::WeightsChecksum.into()),
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
        self.dequantize_rows(dtype, &self.values()?, 0, &weights, out)
    }

    /// Dequantizes the rows from row `first` on, whose decoded weights are `stored`.
    fn dequantize_rows(
        &self,
        dtype: Float,
        values: &DequantizedValues,
        first: usize,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), BlobError> {
        let stored = stored.par_chunks(self.cols() * self.dtype().byte_len());
        let outs = out.par_chunks_mut(self.cols() * dtype.byte_len());
        outs.zip(stored).enumerate().try_for_each_init(
            || zeros(self.cols()),
            |row_values, (row, (out, stored))| {
                let row_values = row_values.as_mut().map_err(|error| error.clone())?;
                let row = first + row;
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

/// Gives a buffer this length. The contents do not matter.
fn resize(buffer: &mut Vec<u8>, bytes: usize) -> Result<(), BlobError> {
    if let Some(more) = bytes.checked_sub(buffer.len()) {
        // The size comes from a blob with tiles for that many weights, but even so no blob may abort the process.
        buffer.try_reserve_exact(more).map_err(|_| BlobError::Memory { bytes: bytes as u64 })?;
    }
    buffer.resize(bytes, 0);
    Ok(())
}
