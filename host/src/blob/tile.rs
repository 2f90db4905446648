//! The payload of a tile: split into its parts, and written.

use crate::TileFault;
use crate::blob::tile_format::TileFormat;
use fused_rans_layout::{
    LANES, LINE, LOOK_AHEAD, MAX_TAIL_ROWS, MAX_WORD_ROWS, SLAB_ROWS, SlabShape, TAIL_LENGTH_BYTES,
    TileEntry, TileKind, TileShape,
};

/// Expanded rows of words of a slab: one word per lane, 0 for a lane whose word is not stored. A decoder may look
/// [`LOOK_AHEAD`] rows beyond the longest stream. The number of rows is rounded up to a power of two, so that indices
/// can be masked.
pub type WordRows = [[u32; LANES]; 64];
const _: () = assert!(MAX_WORD_ROWS + LOOK_AHEAD <= 64);

/// Parts of a coded tile, borrowed from its payload.
#[derive(Clone, Copy, Debug)]
pub struct CodedTile<'a> {
    /// Shape of the tile.
    pub shape: TileShape,
    entry: &'a TileEntry,
    raw_bits: u8,
    tail_lengths: &'a [u8],
    raw: &'a [u8],
    groups: &'a [u8],
    full: &'a [u8],
    exceptions: &'a [u8],
    tails: &'a [u8],
}

/// Payload of a tile, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Tile<'a> {
    /// Uncoded weights. Encoders use this kind where coding does not save a line.
    Raw {
        /// Weights, row by row.
        weights: &'a [u8],
        /// Group scales and zero points, slab by slab.
        groups: &'a [u8],
    },
    /// Coded weights.
    Coded(CodedTile<'a>),
}

impl<'a> Tile<'a> {
    /// Splits `payload` into its parts. `entry` must have passed [`TileFormat::check`]; this function checks the fields
    /// in the payload itself.
    pub(crate) fn new(
        entry: &'a TileEntry,
        shape: TileShape,
        format: TileFormat,
        payload: &'a [u8],
    ) -> Result<Self, TileFault> {
        let mut rest = payload;
        let mut take = |bytes: usize| rest.split_off(..bytes).ok_or(TileFault::Payload);
        let group_bytes = format.group_bytes(shape);
        if entry.kind == TileKind::Raw as u8 {
            let weights = take(format.raw_weight_bytes(shape))?;
            let weights = &weights[..shape.weights() * format.split.dtype().byte_len()];
            return Ok(Self::Raw { weights, groups: take(group_bytes)? });
        }
        let raw_bits = format.split.raw_bits();
        let full_rows: usize = entry.full_rows.iter().map(|&rows| usize::from(rows)).sum();
        let tail_lengths = take(TAIL_LENGTH_BYTES * shape.slabs())?;
        let raw = take(shape.raw_bytes(raw_bits))?;
        let groups = take(group_bytes)?;
        let full = take(LINE * full_rows)?;
        let exceptions = take(4 * usize::from(entry.exceptions))?;
        let tails = take(tail_bytes(tail_lengths))?;
        if rest.len() >= LINE {
            return Err(TileFault::Payload);
        }
        let tile = CodedTile {
            shape,
            entry,
            raw_bits,
            tail_lengths,
            raw,
            groups,
            full,
            exceptions,
            tails,
        };
        tile.check(format)?;
        Ok(Self::Coded(tile))
    }

    /// Returns group scales and zero points, slab by slab.
    pub(crate) fn groups(&self) -> &'a [u8] {
        match self {
            Self::Raw { groups, .. } | Self::Coded(CodedTile { groups, .. }) => groups,
        }
    }
}

impl<'a> CodedTile<'a> {
    /// Checks the tail lengths and the exceptions of all slabs.
    fn check(self, format: TileFormat) -> Result<(), TileFault> {
        let mut tail_words = 0;
        for (number, slab) in self.slabs().enumerate() {
            let longest = slab.tail_lengths().into_iter().max();
            let start = usize::from(self.entry.tail_start[number]);
            if longest > Some(self.entry.tail_rows[number]) || start != tail_words {
                return Err(TileFault::Tail);
            }
            tail_words += slab.tails.len() / 4;
            slab.check_exceptions(format)?;
        }
        Ok(())
    }

    /// Returns the slabs, in order.
    pub fn slabs(mut self) -> impl Iterator<Item = Slab<'a>> {
        (0..self.shape.slabs()).map(move |slab| self.take_slab(slab))
    }

    /// Splits off the parts of slab number `number`, which must be the next one. [`Tile::new`] and
    /// [`TileFormat::check`] have checked their sizes.
    fn take_slab(&mut self, number: usize) -> Slab<'a> {
        let take = |part: &mut &'a [u8], bytes: usize| {
            part.split_off(..bytes).expect("the parts' sizes have been checked")
        };
        let (entry, shape) = (self.entry, self.shape.slab(number));
        let top = number * SLAB_ROWS;
        let exceptions = exception_count(entry, self.shape, number);
        let tail_lengths = take(&mut self.tail_lengths, TAIL_LENGTH_BYTES);
        Slab {
            shape,
            word_rows: u32::from(entry.full_rows[number]) + u32::from(entry.tail_rows[number]),
            rows: (self.shape.rows - top).min(SLAB_ROWS),
            cols: self.shape.cols,
            tail_lengths,
            raw: take(&mut self.raw, shape.raw_bytes(self.raw_bits)),
            full: take(&mut self.full, LINE * usize::from(entry.full_rows[number])),
            exceptions: take(&mut self.exceptions, 4 * exceptions),
            tails: take(&mut self.tails, tail_bytes(tail_lengths)),
        }
    }
}

/// Returns the number of exceptions of slab number `slab` of a tile, from its record, which must have passed
/// [`TileFormat::check`].
pub(crate) fn exception_count(entry: &TileEntry, shape: TileShape, slab: usize) -> usize {
    let end = match slab + 1 {
        next if next < shape.slabs() => entry.exception_start[next],
        _ => entry.exceptions,
    };
    usize::from(end - entry.exception_start[slab])
}

/// Returns the size in bytes of the tail words of a slab with these tail lengths, two nibbles per byte.
fn tail_bytes(tail_lengths: &[u8]) -> usize {
    4 * tail_lengths
        .iter()
        .map(|&pair| usize::from(pair & 15) + usize::from(pair >> 4))
        .sum::<usize>()
}

/// Parts of one slab.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    /// Shape of the slab, including padding.
    pub shape: SlabShape,
    /// Number of rows of words: the largest number of words of a stream.
    pub word_rows: u32,
    /// Number of rows that lie in the matrix.
    rows: usize,
    /// Number of columns that lie in the matrix.
    cols: usize,
    tail_lengths: &'a [u8],
    /// Raw planes, widest first.
    pub raw: &'a [u8],
    full: &'a [u8],
    exceptions: &'a [u8],
    tails: &'a [u8],
}

impl<'a> Slab<'a> {
    /// Expands the rows of words into `rows`.
    pub fn expand(&self, rows: &mut WordRows) {
        self.write_rows(bytemuck::cast_slice_mut(rows));
    }

    /// Writes the rows of words to `out`, which has whole rows, at least [`Slab::word_rows`]. Writes 0 for words that
    /// are not stored. Use it instead of [`Slab::expand`] where the words go to memory of any alignment.
    pub(crate) fn write_rows(&self, out: &mut [u8]) {
        let (full, tail) = out.split_at_mut(self.full.len());
        full.copy_from_slice(self.full);
        tail.fill(0);
        let lengths = self.tail_lengths();
        let longest = lengths.into_iter().max().unwrap_or(0);
        let mut stored = self.tails.as_chunks::<4>().0.iter();
        for (row, number) in tail.as_chunks_mut::<LINE>().0.iter_mut().zip(0..longest) {
            let row = row.as_chunks_mut().0;
            let mut mask = lanes_in_tail_row(&lengths, number);
            while mask != 0 {
                row[mask.trailing_zeros() as usize] = stored.next().copied().unwrap_or_default();
                mask &= mask - 1;
            }
        }
    }

    /// Returns the number of tail words of each lane.
    fn tail_lengths(&self) -> [u8; LANES] {
        core::array::from_fn(|lane| self.tail_lengths[lane / 2] >> (lane % 2 * 4) & 15)
    }

    /// Returns the exceptions: (row in the slab, column, weight).
    pub fn exceptions(self) -> impl Iterator<Item = (usize, usize, u16)> + 'a {
        words(self.exceptions).map(move |record| {
            let (place, weight) = TileEntry::exception_fields(record);
            let (row, col) = self.shape.position(place);
            (row, col, weight)
        })
    }

    /// Checks that exceptions ascend, lie in the matrix, and have weights that exceptions can have.
    fn check_exceptions(self, format: TileFormat) -> Result<(), TileFault> {
        let records = words(self.exceptions).map(|record| record >> 16);
        let ascend = records.clone().is_sorted_by(|a, b| a < b);
        let unused_bits_are_zero = records.clone().all(|record| record & 7 == 0);
        let inside = self.exceptions().all(|(row, col, weight)| {
            row < self.rows && col < self.cols && format.may_be_exception(weight)
        });
        if ascend && unused_bits_are_zero && inside { Ok(()) } else { Err(TileFault::Exception) }
    }
}

/// Returns a mask of the lanes that have a word in tail row `row`.
#[inline(always)]
fn lanes_in_tail_row(tail_lengths: &[u8; LANES], row: u8) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(tail_lengths[lane] > row) << lane)
}

/// Reads the little-endian words of `bytes`.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word))
}

/// Division of the rows of words of a slab into full rows and tail rows.
#[derive(Clone, Debug)]
struct StoredRows {
    /// Number of rows that are stored with a word for every lane.
    full: usize,
    /// Number of rows after these, which leave out lanes.
    tail: usize,
    /// Number of tail words of each lane.
    tail_lengths: [u8; LANES],
}

impl StoredRows {
    /// Divides the rows of streams of `lengths` words. Zero words at the end of a stream are not stored, but the number
    /// of rows includes them. Full rows are the rows in which every lane has a stored word, which wastes none, and
    /// those that exceed the length of a tail.
    fn new(rows: &WordRows, lengths: &[usize; LANES]) -> Self {
        let stored: [usize; LANES] = core::array::from_fn(|lane| {
            let used = rows[..lengths[lane]].iter().rposition(|row| row[lane] != 0);
            used.map_or(0, |last| last + 1)
        });
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let shortest = stored.iter().copied().min().unwrap_or(0);
        let full = shortest.max(longest.saturating_sub(MAX_TAIL_ROWS));
        let tail_lengths = stored.map(|length| length.saturating_sub(full) as u8);
        Self { full, tail: longest - full, tail_lengths }
    }
}

/// Builds the payload of a tile. Add the slabs in order with [`TileWriter::slab`], then call [`TileWriter::finish`].
#[derive(Debug, Default)]
pub struct TileWriter {
    entry: TileEntry,
    tail_lengths: Vec<u8>,
    raw: Vec<u8>,
    full: Vec<u8>,
    exceptions: Vec<u32>,
    tails: Vec<u8>,
    slabs: usize,
}

impl TileWriter {
    /// Adds a slab: the words of its raw planes, its expanded rows of words, the lengths of its streams in words, and
    /// the records of its exceptions, in ascending order.
    pub fn slab(
        &mut self,
        raw: &[u32],
        rows: &WordRows,
        lengths: &[usize; LANES],
        exceptions: &[u32],
    ) {
        let StoredRows { full, tail, tail_lengths } = StoredRows::new(rows, lengths);
        self.entry.full_rows[self.slabs] = full as u8;
        self.entry.tail_rows[self.slabs] = tail as u8;
        self.entry.tail_start[self.slabs] = (self.tails.len() / 4) as u16;
        // May be truncated, but is not used then: `finish` makes a raw tile of so many exceptions, or fails.
        self.entry.exception_start[self.slabs] = self.exceptions.len() as u16;
        self.raw.extend_from_slice(bytemuck::cast_slice(raw));
        self.full.extend_from_slice(bytemuck::cast_slice(&rows[..full]));
        self.tail_lengths
            .extend(tail_lengths.as_chunks().0.iter().map(|&[low, high]| low | high << 4));
        for (row, number) in rows[full..full + tail].iter().zip(0..) {
            let mut mask = lanes_in_tail_row(&tail_lengths, number);
            while mask != 0 {
                let word = row[mask.trailing_zeros() as usize];
                self.tails.extend_from_slice(&word.to_le_bytes());
                mask &= mask - 1;
            }
        }
        self.exceptions.extend_from_slice(exceptions);
        self.slabs += 1;
    }

    /// Returns the record of the tile, without its offset, and its payload. `groups` holds the scales and zero points
    /// of the slabs. The tile is raw, with the weights of `raw_tile`, if that takes no more lines and the tile has no
    /// large integers: raw tiles cannot hold these. Returns `None` if there are more exceptions than a tile can list.
    pub fn finish(
        self,
        shape: TileShape,
        format: TileFormat,
        groups: &[u8],
        raw_tile: impl FnOnce() -> Vec<u8>,
    ) -> Option<(TileEntry, Vec<u8>)> {
        let Self { mut entry, tail_lengths, raw, full, exceptions, tails, .. } = self;
        let listed = bytemuck::cast_slice(&exceptions);
        let mut payload = [&tail_lengths, &raw, groups, &full, listed, &tails].concat();
        let has_large_integers =
            format.large_integers && exceptions.iter().any(|record| record & 0xFF00 != 0);
        if !has_large_integers && payload.len().div_ceil(LINE) >= format.raw_tile_lines(shape) {
            payload = raw_tile();
            payload.resize(format.raw_weight_bytes(shape), 0);
            payload.extend_from_slice(groups);
            entry = TileEntry { kind: TileKind::Raw as u8, ..TileEntry::default() };
        } else {
            // A tile that is smaller than its raw weights, at most 128 KiB, has fewer than 2^16 exceptions of four
            // bytes. Only a tile with large integers can have more.
            entry.exceptions = exceptions.len().try_into().ok()?;
            entry.kind = TileKind::Coded as u8;
        }
        payload.resize(payload.len().next_multiple_of(LINE), 0);
        entry.lines = (payload.len() / LINE) as u16;
        entry.crc = crc32c::crc32c(&payload);
        Some((entry, payload))
    }
}
