//! The encoder: matrices to blobs. The fast codec works tile by tile on all cores; the reference codec checks it in
//! tests.

pub mod coding_model;
#[cfg(feature = "quantize")]
pub mod estimate;
pub mod fast;
pub mod reference;

use crate::blob::header::{Front, Header, payload_start};
use crate::blob::tile_format::TileFormat;
use crate::codec::coding_model::{CodingModel, CodingRequest};
use crate::{Blob, BlobError, Matrix};
use fused_rans_layout::{LINE, TileEntry, TileGrid, WeightsPerSymbol};
use rayon::prelude::*;

/// Compresses matrices, with options. Use [`encode`] for the defaults.
///
/// ```
/// use fused_rans_host::{Encoder, Matrix, WeightsPerSymbol};
///
/// let weights: Vec<i8> = (0..256 * 256).map(|i: u32| (i.wrapping_mul(i) % 15) as i8 - 7).collect();
/// let encoder = Encoder::new().weights_per_symbol(WeightsPerSymbol::Four);
/// let blob = encoder.encode(Matrix::from_slice(&weights, 256, 256)?)?;
/// assert_eq!(blob.weights_per_symbol(), WeightsPerSymbol::Four);
/// # Ok::<(), fused_rans_host::BlobError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Encoder {
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: Option<u8>,
    max_bytes: Option<usize>,
}

impl Encoder {
    /// Creates an encoder with the defaults: two weights per symbol, the split with the smallest code, and only blobs
    /// that are smaller than their matrix.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of weights per symbol. Two, the default, give smaller blobs: by at least 0.1 bits per weight for
    /// 4-bit integers. Four make multiplication faster.
    ///
    /// Only integers can have four. The encoder falls back to two when more than 1 in 4096 weights lies outside -64 to
    /// 63, or when a symbol of four weights would be more frequent than 1 in 4.
    pub fn weights_per_symbol(self, weights_per_symbol: WeightsPerSymbol) -> Self {
        Self { weights_per_symbol, ..self }
    }

    /// Sets the number of raw bits of integers: 0 to 4, or 2 to 5 with four weights per symbol. Use it to compare
    /// splits. The encoder chooses the number by default, for any other number, and for matrices with groups.
    pub fn raw_bits(self, raw_bits: u8) -> Self {
        Self { raw_bits: Some(raw_bits), ..self }
    }

    /// Accepts blobs of less than `bytes` bytes, instead of blobs that are smaller than the matrix. Use it when the
    /// blob replaces something larger than the matrix, or when the matrix must become a blob in any case.
    pub fn max_bytes(self, bytes: usize) -> Self {
        Self { max_bytes: Some(bytes), ..self }
    }

    /// Compresses `matrix`. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::NotSmaller`] if the blob would not be smaller than the matrix (or than
    /// [`max_bytes`](Encoder::max_bytes)): store the matrix uncompressed. [`BlobError::TooLarge`] if the format cannot
    /// address the matrix; [`BlobError::TooManyLargeIntegers`] if no integer of a whole tile fits in a byte.
    pub fn encode(&self, matrix: Matrix<'_>) -> Result<Blob<'static>, BlobError> {
        self.encode_to(matrix, Vec::new())
    }

    /// Compresses `matrix` as [`Self::encode`] does, into `memory`, whose contents do not matter. Reused memory saves the
    /// operating system the work of clearing it.
    pub(crate) fn encode_to(
        &self,
        matrix: Matrix<'_>,
        memory: Vec<u8>,
    ) -> Result<Blob<'static>, BlobError> {
        let tiles = self.check(matrix)?;
        let model = CodingModel::from_matrix(matrix, self.request(matrix));
        let table = model.frequencies.encode_table();
        let tiles = (0..tiles).into_par_iter();
        let tiles = tiles.map(|tile| fast::encode_tile(matrix, &model, &table, tile));
        let tiles = tiles.collect::<Option<_>>().ok_or(BlobError::TooManyLargeIntegers)?;
        self.assemble(matrix, &model, tiles, memory)
    }

    /// Checks that a blob of the matrix may be small enough. Returns the number of tiles.
    fn check(&self, matrix: Matrix<'_>) -> Result<usize, BlobError> {
        let TileGrid { rows, cols } = matrix.grid();
        let max_bytes = self.limit(matrix);
        if matrix.as_bytes().is_empty() {
            return Err(BlobError::NotSmaller { rows, cols, max_bytes });
        }
        let too_large = BlobError::TooLarge { rows, cols };
        let tiles = matrix.grid().tiles().ok_or(too_large.clone())?;
        // A tile takes at least one line. Models may have thousands of matrices that are too small for that.
        let row_scales = matrix.row_scales().unwrap_or_default().len();
        let min_bytes = payload_start(tiles, row_scales)
            .and_then(|start| tiles.checked_mul(LINE)?.checked_add(start))
            .ok_or(too_large)?;
        if min_bytes >= max_bytes {
            return Err(BlobError::NotSmaller { rows, cols, max_bytes });
        }
        Ok(tiles)
    }

    /// Returns the request for coding `matrix`. Ignores the raw bits for matrices with groups: these have no
    /// exceptions, which fixes the split.
    pub(crate) fn request(&self, matrix: Matrix<'_>) -> CodingRequest {
        let raw_bits = self.raw_bits.filter(|_| matrix.groups().is_none());
        let weights_per_symbol = self.weights_per_symbol;
        CodingRequest { dtype: matrix.dtype(), weights_per_symbol, raw_bits }
    }

    /// Returns the limit of the size of a blob in bytes, exclusive.
    fn limit(&self, matrix: Matrix<'_>) -> usize {
        self.max_bytes.unwrap_or_else(|| matrix.uncompressed_byte_len())
    }

    /// Assembles a blob from its tiles.
    fn assemble(
        &self,
        matrix: Matrix<'_>,
        model: &CodingModel,
        tiles: Vec<(TileEntry, Vec<u8>)>,
        memory: Vec<u8>,
    ) -> Result<Blob<'static>, BlobError> {
        let grid @ TileGrid { rows, cols } = matrix.grid();
        let too_large = BlobError::TooLarge { rows, cols };
        let row_scales = matrix.row_scales();
        let scale_count = row_scales.unwrap_or_default().len();
        let start = payload_start(tiles.len(), scale_count).ok_or(too_large.clone())?;
        let bytes = start + tiles.iter().map(|(_, payload)| payload.len()).sum::<usize>();
        let max_bytes = self.limit(matrix);
        if bytes >= max_bytes {
            return Err(BlobError::NotSmaller { rows, cols, max_bytes });
        }
        let format = tile_format(matrix, model);
        let mut header = Header::new(format, row_scales.is_some(), grid, model.entropy);
        header.bytes = bytes as u64;
        header.weights_crc = parallel_crc(matrix.as_bytes());
        let (mut index, mut offset) = (Vec::with_capacity(tiles.len()), start);
        for (entry, payload) in &tiles {
            let line = u32::try_from(offset / LINE).map_err(|_| too_large.clone())?;
            index.push(TileEntry { offset: line, ..*entry });
            header.exceptions += u64::from(entry.exceptions);
            offset += payload.len();
        }
        let row_scales = row_scales.map(<[_]>::to_vec);
        let frequencies = model.frequencies.clone();
        let front = Front { header, format, grid, frequencies, index, row_scales };
        Ok(Blob::from_parts(front, start, tiles, memory))
    }
}

/// Compresses `matrix` with the default [`Encoder`].
///
/// ```
/// use fused_rans_host::{Matrix, encode};
/// use half::bf16;
///
/// let weights = vec![bf16::from_f32(0.5); 64 * 96];
/// let blob = encode(Matrix::from_slice(&weights, 64, 96)?)?;
/// assert_eq!(blob.decode_to_vec::<bf16>()?, weights);
/// # Ok::<(), fused_rans_host::BlobError>(())
/// ```
///
/// # Errors
/// The errors of [`Encoder::encode`]. [`BlobError::NotSmaller`] is common: store such a matrix uncompressed.
pub fn encode(matrix: Matrix<'_>) -> Result<Blob<'static>, BlobError> {
    Encoder::new().encode(matrix)
}

/// Returns the format of the tiles of `matrix`, coded with `model`.
fn tile_format(matrix: Matrix<'_>, model: &CodingModel) -> TileFormat {
    let groups = matrix.groups().map(|groups| groups.plane());
    TileFormat { split: model.split, groups, large_integers: matrix.has_large_integers() }
}

/// Computes the CRC-32C of `data` in parallel.
pub(crate) fn parallel_crc(data: &[u8]) -> u32 {
    const CHUNK: usize = 1 << 22;
    let crcs = data.par_chunks(CHUNK).map(|chunk| (crc32c::crc32c(chunk), chunk.len()));
    crcs.reduce(|| (0, 0), |(a, n), (b, m)| (crc32c::crc32c_combine(a, b, m), n + m)).0
}
