//! Sizes and records of a resident layer, from a blob's index.

use super::reserve;
use crate::blob::tile::exception_count;
use crate::{Blob, BlobError};
use fused_rans_layout::{
    Dtype, Entry, LINE, PANEL_COLUMNS, SLAB_ROWS, SLAB_STRIPS, SLABS, SlabEntry, Split, TABLE,
    TILE, TileEntry, TileKind, TileShape, UNIT, exception_units, panel_raw_bytes, panels,
    raw_comes_with_words, slab_bytes,
};
use std::ops::Range;
use std::sync::OnceLock;

/// Fewest rows of words of a coded slab. A kernel loads the first two before it decodes.
const MIN_ROWS: u32 = 2;

/// The resident layout of a blob: sizes and records. Reads no payload.
#[derive(Debug)]
pub struct ResidentPlan<'a> {
    pub(super) blob: &'a Blob<'a>,
    index: Vec<SlabEntry>,
    slab_bytes: usize,
    buffer_rows: u32,
    /// The decode table, made when a slab first needs it: most blobs need none.
    table: OnceLock<Box<[Entry; TABLE]>>,
}

impl<'a> ResidentPlan<'a> {
    /// Computes the layout of `blob`.
    ///
    /// A slab becomes plain if its tile is raw, if it has a single strip, or if a kernel that decodes it could compute
    /// with an infinity or a NaN that the matrix does not have. This happens only to BF16 and F16 matrices of huge
    /// numbers: where the coded window has infinities, to slabs at the right edge whose columns are no whole panels;
    /// where it has huge numbers, to slabs with exceptions.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] if rows, columns or units of slabs cannot be counted in 32 bits;
    /// [`BlobError::Memory`] if the index does not fit into memory.
    pub fn new(blob: &'a Blob<'a>) -> Result<Self, BlobError> {
        let (rows, cols) = (blob.rows(), blob.cols());
        let too_large = BlobError::TooLarge { rows, cols };
        if u32::try_from(rows).is_err() || u32::try_from(cols).is_err() {
            return Err(too_large);
        }
        let grid = blob.grid();
        let (slab_rows, across) = (rows.div_ceil(SLAB_ROWS), grid.across());
        let slabs = slab_rows.checked_mul(across).ok_or(too_large.clone())?;
        let (mut index, mut start) = (reserve(slabs)?, 0u32);
        let mut buffer_rows = MIN_ROWS;
        let window = Window::new(blob.split());
        for (row, col) in (0..slab_rows).flat_map(|row| (0..across).map(move |col| (row, col))) {
            let (tile, slab) = (row / SLABS * across + col, row % SLABS);
            let (entry, shape) = (&blob.index()[tile], grid.shape(tile));
            let exceptions = exception_count(entry, shape, slab);
            let words = word_rows(entry, slab, shape, exceptions, window);
            debug_assert!(blob.groups().is_none() || exceptions == 0, "groups have no exceptions");
            // A plain slab has its exceptions in it, except large integers.
            let listed = if words > 0 || blob.has_large_integers() { exceptions } else { 0 };
            // Both are small: see the assertions beside `SlabEntry`.
            let units = exception_units(listed) as u16;
            let entry = SlabEntry { start, rows: words as u16, exceptions: units };
            index.push(entry);
            start =
                start.checked_add(units_of(entry, blob.split(), shape)).ok_or(too_large.clone())?;
            buffer_rows = buffer_rows.max(copied_lines(entry, blob, shape));
        }
        let slab_bytes = (start as usize).checked_mul(UNIT).ok_or(too_large)?;
        let table = OnceLock::new();
        Ok(Self { blob, index, slab_bytes, buffer_rows, table })
    }

    /// Returns the entries of the slabs: number `r * across + c` is that in row `r` of slabs and column `c` of tiles.
    #[must_use]
    pub fn index(&self) -> &[SlabEntry] {
        &self.index
    }

    /// Returns the entries, for a caller that needs nothing else any more.
    pub(super) fn into_index(self) -> Vec<SlabEntry> {
        self.index
    }

    /// Returns the size of all slabs in bytes.
    #[must_use]
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Returns the size of the scales and zero points of all slabs in bytes; 0 without groups.
    #[must_use]
    pub fn group_bytes(&self) -> usize {
        self.group_plane_bytes() * self.index.len()
    }

    /// Returns the blob.
    #[must_use]
    pub fn blob(&self) -> &'a Blob<'a> {
        self.blob
    }

    /// Returns the lines of a buffer that has room for any slab's words, and for exceptions and raw planes that are copied with
    /// them; at least 2.
    #[must_use]
    pub fn buffer_rows(&self) -> u32 {
        self.buffer_rows
    }

    /// Returns the number of rows of tiles.
    #[must_use]
    pub fn tile_rows(&self) -> usize {
        self.blob.rows().div_ceil(TILE)
    }

    /// Returns the bytes of row `tile_row` of tiles among [`slab_bytes`](Self::slab_bytes).
    #[must_use]
    pub fn slab_range(&self, tile_row: usize) -> Range<usize> {
        let Range { start, end } = self.entries(tile_row);
        self.start_of(start)..self.start_of(end)
    }

    /// Returns the bytes of row `tile_row` of tiles among [`group_bytes`](Self::group_bytes).
    #[must_use]
    pub fn group_range(&self, tile_row: usize) -> Range<usize> {
        let Range { start, end } = self.entries(tile_row);
        start * self.group_plane_bytes()..end * self.group_plane_bytes()
    }

    /// Returns the numbers of the entries of row `tile_row` of tiles.
    pub(crate) fn entries(&self, tile_row: usize) -> Range<usize> {
        let of_row = SLABS * self.blob.grid().across();
        let limit = |row: usize| row.saturating_mul(of_row).min(self.index.len());
        limit(tile_row)..limit(tile_row + 1)
    }

    /// Returns the size in bytes of the slab with number `entry`.
    pub(super) fn bytes_of(&self, entry: usize) -> usize {
        self.start_of(entry + 1) - self.start_of(entry)
    }

    /// Returns the offset of the slab with number `entry` in bytes; the size of all slabs if there is none.
    fn start_of(&self, entry: usize) -> usize {
        // Cannot overflow: the end of the slabs, `slab_bytes`, does not.
        self.index.get(entry).map_or(self.slab_bytes, |entry| entry.start as usize * UNIT)
    }

    /// Returns the size in bytes of a slab's scales and zero points.
    pub(super) fn group_plane_bytes(&self) -> usize {
        self.blob.groups().map_or(0, |plane| plane.bytes())
    }

    /// Returns the decode table.
    pub(super) fn table(&self) -> &[Entry; TABLE] {
        self.table.get_or_init(|| self.blob.frequencies().decode_table())
    }
}

/// Returns the lines of shared memory that the copy of a slab's words takes, with what is copied together with them.
fn copied_lines(entry: SlabEntry, blob: &Blob<'_>, shape: TileShape) -> u32 {
    let raw_bits = blob.split().raw_bits().into();
    let with_words = entry.rows > 0 && raw_comes_with_words(blob.groups().is_some(), raw_bits);
    let raw = if with_words { panels(shape.steps()) * panel_raw_bytes(raw_bits) } else { 0 };
    (entry.copied_units() * UNIT as u32 + raw as u32).div_ceil(LINE as u32)
}

/// Returns the units of a slab.
fn units_of(entry: SlabEntry, split: Split, shape: TileShape) -> u32 {
    let (raw_bits, byte_len) = (split.raw_bits().into(), split.dtype().byte_len());
    (slab_bytes(entry, shape.steps(), raw_bits, byte_len) / UNIT) as u32
}

/// Faults that the numbers of a window can cause. Both come from its largest exponent field, and concern no integers
/// and no FP8, whose numbers are all finite and small.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Coded and raw bits may be an infinity or a NaN. A kernel decodes whole panels. Beyond the last column of the
    /// matrix it decodes padding, then garbage, and multiplies both by zero. So both must be finite.
    has_infinities: bool,
    /// The decoded weight in place of an exception may be so large that its difference to the exception is infinite,
    /// or is itself infinite. In BF16, exponent fields below 246 rule that out: such a weight is below 2^119, and the
    /// sum of that and the largest BF16 number, 2^128 - 2^120, is an F32 number.
    has_huge_numbers: bool,
}

impl Window {
    fn new(split: Split) -> Self {
        let largest = u32::from(split.base()) + u32::from(split.weights_per_symbol().values()) - 1;
        let (infinity, huge) = match split.dtype() {
            Dtype::Bf16 => (255, 246),
            // Differences of F16 numbers are F32 numbers, unless one is infinite.
            Dtype::F16 => (31, 31),
            Dtype::F8E4M3 | Dtype::I8 => (u32::MAX, u32::MAX),
        };
        Self { has_infinities: largest >= infinity, has_huge_numbers: largest >= huge }
    }
}

/// Returns the rows of words of a slab in the resident layout; 0 if it is to be plain.
fn word_rows(
    entry: &TileEntry,
    slab: usize,
    shape: TileShape,
    exceptions: usize,
    window: Window,
) -> u32 {
    let plain = entry.kind == TileKind::Raw as u8
        || shape.slab(slab).strips < SLAB_STRIPS
        || window.has_infinities && !shape.cols.is_multiple_of(PANEL_COLUMNS)
        || window.has_huge_numbers && exceptions > 0;
    let rows = u32::from(entry.full_rows[slab]) + u32::from(entry.tail_rows[slab]);
    if plain { 0 } else { rows.max(MIN_ROWS) }
}
