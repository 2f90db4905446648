//! The front of a blob: header (128 bytes), frequency table, index and row scales.

use crate::blob::frequencies::Frequencies;
use crate::blob::tile_format::TileFormat;
use crate::{BlobError, TileFault};
use bytemuck::{Pod, Zeroable};
use fused_rans_layout::{
    Dtype, FourWeightEntry, GroupPlane, LINE, PROB_BITS, SYMBOLS, Split, TileEntry, TileGrid,
    WeightsPerSymbol,
};
use half::bf16;

#[cfg(target_endian = "big")]
compile_error!("the stored format is little endian and read in place");

/// First four bytes of a blob.
pub const MAGIC: [u8; 4] = *b"fRNS";
/// Version of the format, which is frozen: see "Versions" in `docs/format.md`.
pub const VERSION: u16 = 1;
/// Size of the header in bytes.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// Size of the frequency table in bytes.
pub const TABLE_BYTES: usize = size_of::<[u16; SYMBOLS]>();

/// Flag: coded bits 0 mean exponent field 0.
const ZERO: u8 = 1 << 0;
/// Flag: groups of weights have scales.
const GROUPS: u8 = 1 << 1;
/// Flag: groups of weights have zero points.
const ZERO_POINTS: u8 = 1 << 2;
/// Flag: rows have scales.
const ROW_SCALES: u8 = 1 << 3;
/// Flag: exceptions may be large integers, which do not fit in a byte.
const LARGE_INTEGERS: u8 = 1 << 4;

/// The stored header, little endian.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    magic: [u8; 4],
    version: u16,
    dtype: u8,
    raw_bits: u8,
    base: u8,
    /// [`ZERO`], [`GROUPS`], [`ZERO_POINTS`], [`ROW_SCALES`], [`LARGE_INTEGERS`].
    flags: u8,
    weights_per_symbol: u8,
    prob_bits: u8,
    /// CRC-32C of the weights before compression, row-major.
    pub weights_crc: u32,
    /// Number of rows of the matrix.
    pub rows: u64,
    /// Number of columns of the matrix.
    pub cols: u64,
    /// Size of the blob in bytes.
    pub bytes: u64,
    /// Number of exceptions of all tiles.
    pub exceptions: u64,
    /// Bits of an F64: the result of [`entropy`](crate::entropy).
    entropy: u64,
    reserved: [u8; 68],
    /// CRC-32C of everything before the first tile, except these four bytes.
    pub crc: u32,
}

// The fields fill the header without padding.
const _: () = assert!(size_of::<Header>() == LINE && LINE == 4 + 2 + 6 + 4 + 4 * 8 + 8 + 68 + 4);

// SAFETY: all fields are integers or arrays of integers, for which zeros are a value.
unsafe impl Zeroable for Header {}
// SAFETY: `repr(C)`, all fields are integers or arrays of integers, and the assertion above shows that there is no
// padding.
unsafe impl Pod for Header {}

impl Header {
    /// Creates a header without size, exception count and checksums.
    pub fn new(format: TileFormat, row_scales: bool, grid: TileGrid, entropy: f64) -> Self {
        let TileFormat { split, groups, large_integers } = format;
        let mut flags = if split.zero() { ZERO } else { 0 };
        flags |= if row_scales { ROW_SCALES } else { 0 };
        flags |= if large_integers { LARGE_INTEGERS } else { 0 };
        if let Some(GroupPlane { zeros }) = groups {
            flags |= if zeros { GROUPS | ZERO_POINTS } else { GROUPS };
        }
        Self {
            magic: MAGIC,
            version: VERSION,
            dtype: split.dtype() as u8,
            raw_bits: split.raw_bits(),
            base: split.base(),
            flags,
            weights_per_symbol: split.weights_per_symbol() as u8,
            prob_bits: PROB_BITS as u8,
            rows: grid.rows as u64,
            cols: grid.cols as u64,
            entropy: entropy.to_bits(),
            ..Self::zeroed()
        }
    }

    /// Returns the entropy of the matrix in bits per weight.
    pub fn entropy(&self) -> f64 {
        f64::from_bits(self.entropy)
    }

    /// Returns whether rows have scales.
    fn has_row_scales(&self) -> bool {
        self.flags & ROW_SCALES != 0
    }

    /// Checks that an encoder can have written all fields. Returns the format of the tiles, and their grid.
    fn check(&self) -> Result<(TileFormat, TileGrid), BlobError> {
        let fault = |what| Err(BlobError::Header(what));
        let Some(dtype) = Dtype::from_code(self.dtype) else {
            return fault("unknown element type");
        };
        let known = ZERO | GROUPS | ZERO_POINTS | ROW_SCALES | LARGE_INTEGERS;
        if self.flags & !known != 0 || self.reserved != [0; 68] {
            return fault("unknown flags");
        }
        let weights_per_symbol = WeightsPerSymbol::from_code(self.weights_per_symbol);
        let Some(weights_per_symbol) =
            weights_per_symbol.filter(|_| u32::from(self.prob_bits) == PROB_BITS)
        else {
            return fault("unknown symbol layout");
        };
        let zero = self.flags & ZERO != 0;
        let Some(split) =
            Split::from_fields(dtype, weights_per_symbol, self.raw_bits, self.base, zero)
        else {
            return fault("impossible split of the weights");
        };
        let zeros = self.flags & ZERO_POINTS != 0;
        let groups = (self.flags & GROUPS != 0).then_some(GroupPlane { zeros });
        if groups.map_or(zeros, |_| dtype != Dtype::I8) {
            return fault("impossible groups");
        }
        if self.has_row_scales() && !may_have_row_scales(dtype) {
            return fault("impossible row scales");
        }
        let large_integers = self.flags & LARGE_INTEGERS != 0;
        if large_integers && (dtype != Dtype::I8 || groups.is_some() || !self.has_row_scales()) {
            return fault("impossible large integers");
        }
        // Their sum is 0, so no tile has exceptions: `check_index` compares it.
        if groups.is_some() && (split.half_range() != 8 || self.exceptions != 0) {
            return fault("groups with weights of more than four bits");
        }
        if !(0.0..=16.0).contains(&self.entropy()) {
            return fault("impossible entropy");
        }
        let sides = (usize::try_from(self.rows), usize::try_from(self.cols));
        match sides {
            (Ok(rows @ 1..), Ok(cols @ 1..))
                if matrix_bytes(dtype.byte_len(), rows, cols).is_some() =>
            {
                Ok((TileFormat { split, groups, large_integers }, TileGrid { rows, cols }))
            }
            _ => fault("impossible shape"),
        }
    }
}

/// Returns whether a matrix of this type may have row scales. Only quantized types do.
pub fn may_have_row_scales(dtype: Dtype) -> bool {
    match dtype {
        Dtype::F8E4M3 | Dtype::I8 => true,
        Dtype::Bf16 | Dtype::F16 => false,
    }
}

/// Returns the size in bytes of a matrix whose elements have `element_bytes` bytes; `None` if it cannot be addressed.
pub fn matrix_bytes(element_bytes: usize, rows: usize, cols: usize) -> Option<usize> {
    let bytes = rows.checked_mul(cols)?.checked_mul(element_bytes)?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

/// Checks that `found` is the size of a matrix whose elements have `element_bytes` bytes.
pub fn check_size(
    element_bytes: usize,
    rows: usize,
    cols: usize,
    found: usize,
) -> Result<(), BlobError> {
    let expected =
        matrix_bytes(element_bytes, rows, cols).ok_or(BlobError::TooLarge { rows, cols })?;
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (expected as u64, found as u64);
    Err(BlobError::BufferSize { rows, cols, expected, found })
}

/// Returns the offset of the first tile of a blob with `tiles` tiles and `row_scales` row scales: the size of header,
/// table, index and scales, rounded up to whole lines. `None` if it overflows.
pub fn payload_start(tiles: usize, row_scales: usize) -> Option<usize> {
    let scales = row_scales.checked_mul(size_of::<u16>())?;
    index_end(tiles)?.checked_add(scales)?.checked_next_multiple_of(LINE)
}

/// Returns the offset of the end of the index of `tiles` tiles; `None` if it overflows.
fn index_end(tiles: usize) -> Option<usize> {
    let index = tiles.checked_mul(size_of::<TileEntry>())?;
    (HEADER_BYTES + TABLE_BYTES).checked_add(index)
}

/// Computes the CRC-32C of `front`, all bytes before the first tile, except the stored checksum.
pub fn front_crc(front: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&front[..HEADER_BYTES - 4]);
    crc32c::crc32c_append(crc, &front[HEADER_BYTES..])
}

/// The checked contents of a blob before its first tile.
#[derive(Clone, Debug)]
pub struct Front {
    /// Header.
    pub header: Header,
    /// Format of the tiles.
    pub format: TileFormat,
    /// Grid of tiles.
    pub grid: TileGrid,
    /// Frequency table.
    pub frequencies: Frequencies,
    /// One record per tile.
    pub index: Vec<TileEntry>,
    /// Row scales, one per row, if rows have scales.
    pub row_scales: Option<Vec<bf16>>,
}

impl Front {
    /// Computes the checksum and writes the front to the empty `out`, padded with zeros to `start` bytes.
    pub fn write(&mut self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(bytemuck::cast_slice(self.frequencies.as_array()));
        out.extend(self.index.iter().flat_map(bytemuck::bytes_of));
        let row_scales = self.row_scales.as_deref().unwrap_or_default();
        out.extend(row_scales.iter().flat_map(|scale| scale.to_le_bytes()));
        out.resize(start, 0);
        out[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&self.header));
        self.header.crc = front_crc(out);
        out[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&self.header));
    }

    /// Reads and checks the front of `blob`, which must be exactly one blob. Allocates memory for index and scales only
    /// after comparing their size with the length of the blob.
    pub fn parse(blob: &[u8]) -> Result<Self, BlobError> {
        if !blob.starts_with(&MAGIC) {
            return Err(BlobError::Magic);
        }
        check_length(blob, HEADER_BYTES as u64)?;
        let header: Header = bytemuck::pod_read_unaligned(&blob[..HEADER_BYTES]);
        if header.version != VERSION {
            return Err(BlobError::Version { found: header.version, supported: VERSION });
        }
        let (format, grid) = header.check()?;
        let scale_count = if header.has_row_scales() { grid.rows } else { 0 };
        let start = grid.tiles().and_then(|tiles| payload_start(tiles, scale_count));
        let start = start.ok_or(BlobError::Header("impossible shape"))?;
        check_length(blob, start as u64)?;
        if front_crc(&blob[..start]) != header.crc {
            return Err(BlobError::HeaderChecksum);
        }
        check_length(blob, header.bytes)?;
        if blob.len() as u64 != header.bytes {
            return Err(BlobError::Header("the blob is longer than the header's size field"));
        }
        let table = &blob[HEADER_BYTES..HEADER_BYTES + TABLE_BYTES];
        let frequencies = Frequencies::from_stored(bytemuck::pod_read_unaligned(table))
            .ok_or(BlobError::Header("the frequencies do not sum to the table's size"))?;
        if format.split.weights_per_symbol() == WeightsPerSymbol::Four
            && frequencies.max() > FourWeightEntry::MAX_FREQUENCY
        {
            return Err(BlobError::Header("a symbol of four weights has too high a frequency"));
        }
        let records = blob[HEADER_BYTES + TABLE_BYTES..start].chunks_exact(size_of::<TileEntry>());
        let tiles = grid.tiles().expect("checked above");
        let index: Vec<TileEntry> = records.take(tiles).map(bytemuck::pod_read_unaligned).collect();
        let scales = &blob[index_end(tiles).expect("checked above")..][..2 * scale_count];
        let scales = scales.as_chunks().0.iter().map(|&bits| bf16::from_le_bytes(bits));
        let row_scales = header.has_row_scales().then(|| scales.collect());
        let front = Self { header, format, grid, frequencies, index, row_scales };
        front.check_index(start, blob.len())?;
        Ok(front)
    }

    /// Checks every record, and that the tiles fill the blob from offset `start` to `end` without gaps.
    fn check_index(&self, start: usize, end: usize) -> Result<(), BlobError> {
        let (mut next, mut exceptions) = (start / LINE, 0);
        for (tile, entry) in self.index.iter().enumerate() {
            let fault = |what| BlobError::Tile { tile, fault: TileFault::Index(what) };
            self.format.check(entry, self.grid.shape(tile)).map_err(fault)?;
            if entry.offset as usize != next {
                return Err(fault("the payload does not start at the end of the previous one"));
            }
            next += usize::from(entry.lines);
            exceptions += u64::from(entry.exceptions);
        }
        if next.checked_mul(LINE) != Some(end) {
            return Err(BlobError::Header("the tiles do not add up to the blob's length"));
        }
        if exceptions != self.header.exceptions {
            return Err(BlobError::Header(
                "the exceptions of the tiles do not add up to the header's",
            ));
        }
        Ok(())
    }
}

/// Checks that `blob` has at least `needed` bytes.
fn check_length(blob: &[u8], needed: u64) -> Result<(), BlobError> {
    let found = blob.len() as u64;
    if found < needed { Err(BlobError::Truncated { needed, found }) } else { Ok(()) }
}
