//! The blob's header: 128 bytes, then the frequency table, the index, and the scales of rows.

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
/// Version of the format, frozen; see "Versions" in `docs/format.md`.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// Bytes of the frequency table.
pub const TABLE_BYTES: usize = size_of::<[u16; SYMBOLS]>();

/// Flag: the coded bits 0 stand for exponent field 0.
const ZERO: u8 = 1 << 0;
/// Flag: groups of weights have scales.
const GROUPS: u8 = 1 << 1;
/// Flag: those groups have zero points, too.
const ZERO_POINTS: u8 = 1 << 2;
/// Flag: rows have scales.
const ROW_SCALES: u8 = 1 << 3;

/// Flag: some integers take more than a byte.
const LARGE_INTEGERS: u8 = 1 << 4;

/// The header as it is stored, little endian.
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
    /// CRC-32C of the weights, row-major, as they were before compression.
    pub weights_crc: u32,
    /// Rows of the matrix.
    pub rows: u64,
    /// Columns of the matrix.
    pub cols: u64,
    /// Length of the blob.
    pub bytes: u64,
    /// Exceptions of all tiles.
    pub exceptions: u64,
    /// Bits of the F64 that [`entropy`](crate::entropy) gave.
    entropy: u64,
    reserved: [u8; 68],
    /// CRC-32C of everything before the first tile, these four bytes left out.
    pub crc: u32,
}

// The fields fill the header: there is no padding.
const _: () = assert!(size_of::<Header>() == LINE && LINE == 4 + 2 + 6 + 4 + 4 * 8 + 8 + 68 + 4);

// SAFETY: all fields are integers or arrays of integers, for which zeros are a value.
unsafe impl Zeroable for Header {}
// SAFETY: `repr(C)`, all fields are integers or arrays of integers, and the assertion above shows that there is no padding.
unsafe impl Pod for Header {}

impl Header {
    /// A header without lengths and checksums.
    pub fn new(coding: TileFormat, row_scales: bool, grid: TileGrid, entropy: f64) -> Self {
        let TileFormat { split, groups, large_integers } = coding;
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

    /// Entropy of the matrix in bits per weight.
    pub fn entropy(&self) -> f64 {
        f64::from_bits(self.entropy)
    }

    fn row_scales(&self) -> bool {
        self.flags & ROW_SCALES != 0
    }

    /// How the weights are coded, and the grid, if all fields are ones that an encoder writes.
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
        if self.row_scales() && !may_have_row_scales(dtype) {
            return fault("impossible row scales");
        }
        let large_integers = self.flags & LARGE_INTEGERS != 0;
        if large_integers && (dtype != Dtype::I8 || groups.is_some() || !self.row_scales()) {
            return fault("impossible large integers");
        }
        // That no tile has exceptions then follows from their sum.
        if groups.is_some() && (split.half_range() != 8 || self.exceptions != 0) {
            return fault("groups of other than four bits a weight");
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

/// Whether rows of weights of this type may have scales: those that a quantizer gives.
pub fn may_have_row_scales(dtype: Dtype) -> bool {
    match dtype {
        Dtype::F8E4M3 | Dtype::I8 => true,
        Dtype::Bf16 | Dtype::F16 => false,
    }
}

/// Bytes of a matrix of elements of `element` bytes, if they can be addressed.
pub fn matrix_bytes(element: usize, rows: usize, cols: usize) -> Option<usize> {
    let bytes = rows.checked_mul(cols)?.checked_mul(element)?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

/// Checks that a buffer of `found` bytes holds a matrix of elements of `element` bytes.
pub fn check_size(element: usize, rows: usize, cols: usize, found: usize) -> Result<(), BlobError> {
    let expected = matrix_bytes(element, rows, cols).ok_or(BlobError::TooLarge { rows, cols })?;
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (expected as u64, found as u64);
    Err(BlobError::BufferSize { rows, cols, expected, found })
}

/// Bytes before the first tile of a matrix of `tiles` tiles and `row_scales` scales of rows: header, table, index and
/// scales, whole lines.
pub fn payload_start(tiles: usize, row_scales: usize) -> Option<usize> {
    let scales = row_scales.checked_mul(size_of::<u16>())?;
    index_end(tiles)?.checked_add(scales)?.checked_next_multiple_of(LINE)
}

/// Bytes of header, table and index of `tiles` tiles.
fn index_end(tiles: usize) -> Option<usize> {
    let index = tiles.checked_mul(size_of::<TileEntry>())?;
    (HEADER_BYTES + TABLE_BYTES).checked_add(index)
}

/// CRC-32C of `front`, all bytes before the first tile, without the checksum itself.
pub fn front_crc(front: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&front[..HEADER_BYTES - 4]);
    crc32c::crc32c_append(crc, &front[HEADER_BYTES..])
}

/// Everything before the first tile, checked.
#[derive(Clone, Debug)]
pub struct Front {
    /// The header.
    pub header: Header,
    /// How the weights are coded.
    pub coding: TileFormat,
    /// The tiles.
    pub grid: TileGrid,
    /// The frequency table.
    pub frequencies: Frequencies,
    /// One record a tile.
    pub index: Vec<TileEntry>,
    /// A scale for each row, if rows have scales.
    pub row_scales: Option<Vec<bf16>>,
}

impl Front {
    /// Writes the front to the empty `out`, `start` bytes with the zeros before the first tile, and sets its checksum.
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

    /// Reads and checks the front of `blob`, which must be exactly one blob. Index and scales are copied
    /// only once the blob's length bears them out.
    pub fn parse(blob: &[u8]) -> Result<Self, BlobError> {
        if !blob.starts_with(&MAGIC) {
            return Err(BlobError::Magic);
        }
        need(blob, HEADER_BYTES as u64)?;
        let header: Header = bytemuck::pod_read_unaligned(&blob[..HEADER_BYTES]);
        if header.version != VERSION {
            return Err(BlobError::Version { found: header.version, supported: VERSION });
        }
        let (coding, grid) = header.check()?;
        let scaled_rows = if header.row_scales() { grid.rows } else { 0 };
        let start = grid.tiles().and_then(|tiles| payload_start(tiles, scaled_rows));
        let start = start.ok_or(BlobError::Header("impossible shape"))?;
        need(blob, start as u64)?;
        if front_crc(&blob[..start]) != header.crc {
            return Err(BlobError::HeaderChecksum);
        }
        need(blob, header.bytes)?;
        if blob.len() as u64 != header.bytes {
            return Err(BlobError::Header("the blob is longer than its header says"));
        }
        let table = &blob[HEADER_BYTES..HEADER_BYTES + TABLE_BYTES];
        let frequencies = Frequencies::from_stored(bytemuck::pod_read_unaligned(table))
            .ok_or(BlobError::Header("the frequencies do not sum to the table's size"))?;
        if coding.split.weights_per_symbol() == WeightsPerSymbol::Four
            && frequencies.max() > FourWeightEntry::MAX_FREQUENCY
        {
            return Err(BlobError::Header("a symbol of four weights is too frequent"));
        }
        let records = blob[HEADER_BYTES + TABLE_BYTES..start].chunks_exact(size_of::<TileEntry>());
        let tiles = grid.tiles().expect("checked above");
        let index: Vec<TileEntry> = records.take(tiles).map(bytemuck::pod_read_unaligned).collect();
        let scales = &blob[index_end(tiles).expect("checked above")..][..2 * scaled_rows];
        let scales = scales.as_chunks().0.iter().map(|&bits| bf16::from_le_bytes(bits));
        let row_scales = header.row_scales().then(|| scales.collect());
        let front = Self { header, coding, grid, frequencies, index, row_scales };
        front.check_index(start, blob.len())?;
        Ok(front)
    }

    /// Tiles must follow each other without gaps, up to the blob's end.
    fn check_index(&self, start: usize, end: usize) -> Result<(), BlobError> {
        let (mut next, mut exceptions) = (start / LINE, 0);
        for (tile, entry) in self.index.iter().enumerate() {
            let fault = |what| BlobError::Tile { tile, fault: TileFault::Index(what) };
            self.coding.check(entry, self.grid.shape(tile)).map_err(fault)?;
            if entry.offset as usize != next {
                return Err(fault("the payload is not where the last one ends"));
            }
            next += usize::from(entry.lines);
            exceptions += u64::from(entry.exceptions);
        }
        if next.checked_mul(LINE) != Some(end) {
            return Err(BlobError::Header("the tiles do not add up to the blob's length"));
        }
        if exceptions != self.header.exceptions {
            return Err(BlobError::Header("the tiles' exceptions do not add up"));
        }
        Ok(())
    }
}

fn need(blob: &[u8], needed: u64) -> Result<(), BlobError> {
    let found = blob.len() as u64;
    if found < needed { Err(BlobError::Truncated { needed, found }) } else { Ok(()) }
}
