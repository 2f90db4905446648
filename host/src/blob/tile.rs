//! A tile's payload, taken apart and put together.

use crate::TileFault;
use crate::blob::tile_format::TileFormat;
use fused_rans_layout::{
    FRAGMENT, LANES, LINE, LOOK_AHEAD, MAX_TAIL_ROWS, MAX_WORD_ROWS, SLAB_STRIPS, SlabShape,
    TAIL_LENGTH_BYTES, TileEntry, TileKind, TileShape,
};

/// Rows of words of one slab, expanded: a lane that a row leaves out has the word 0. Room to look
/// ahead of any stream, and then up to a power of two.
pub type Rows = [[u32; LANES]; 64];
const _: () = assert!(MAX_WORD_ROWS + LOOK_AHEAD <= 64);

/// The parts of a coded tile, borrowed from its payload.
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

/// A tile's payload, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Tile<'a> {
    /// The weights as they are.
    Raw {
        /// The weights, row by row.
        weights: &'a [u8],
        /// Scales and zero points, slab by slab.
        groups: &'a [u8],
    },
    /// Tail lengths, raw planes, scales, words, exceptions.
    Coded(CodedTile<'a>),
}

impl<'a> Tile<'a> {
    /// Takes `payload` apart. `entry` must have passed the index check; what the payload itself
    /// says is checked here.
    pub(crate) fn new(
        entry: &'a TileEntry,
        shape: TileShape,
        coding: TileFormat,
        payload: &'a [u8],
    ) -> Result<Self, TileFault> {
        let mut rest = payload;
        let mut take = |bytes: usize| rest.split_off(..bytes).ok_or(TileFault::Payload);
        let group_bytes = coding.group_bytes(shape);
        if entry.kind == TileKind::Raw as u8 {
            let weights = take(coding.raw_weight_bytes(shape))?;
            let weights = &weights[..shape.weights() * coding.split.dtype().byte_len()];
            return Ok(Self::Raw { weights, groups: take(group_bytes)? });
        }
        let raw_bits = coding.split.raw_bits();
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
        tile.check(coding)?;
        Ok(Self::Coded(tile))
    }

    /// Scales and zero points, slab by slab.
    pub(crate) fn groups(&self) -> &'a [u8] {
        match self {
            Self::Raw { groups, .. } | Self::Coded(CodedTile { groups, .. }) => groups,
        }
    }
}

impl<'a> CodedTile<'a> {
    /// Checks what the slabs' parts say.
    fn check(self, coding: TileFormat) -> Result<(), TileFault> {
        let mut tail_words = 0;
        for (number, slab) in self.slabs().enumerate() {
            let longest = slab.tail_lengths().into_iter().max();
            let start = usize::from(self.entry.tail_start[number]);
            if longest > Some(self.entry.tail_rows[number]) || start != tail_words {
                return Err(TileFault::Tail);
            }
            tail_words += slab.tails.len() / 4;
            slab.check_exceptions(coding)?;
        }
        Ok(())
    }

    /// The slabs, in order.
    pub fn slabs(mut self) -> impl Iterator<Item = Slab<'a>> {
        (0..self.shape.slabs()).map(move |slab| self.take_slab(slab))
    }

    /// Takes the parts of slab number `slab` off the front of what the slabs before it have left.
    /// [`Tile::new`] and the index check have seen that they are there.
    fn take_slab(&mut self, number: usize) -> Slab<'a> {
        let take = |part: &mut &'a [u8], bytes: usize| {
            part.split_off(..bytes).expect("the parts' sizes have been checked")
        };
        let (entry, shape) = (self.entry, self.shape.slab(number));
        let top = number * SLAB_STRIPS * FRAGMENT;
        let exceptions_end = match number + 1 {
            next if next < self.shape.slabs() => entry.exception_start[next],
            _ => entry.exceptions,
        };
        let exceptions = usize::from(exceptions_end - entry.exception_start[number]);
        let tail_lengths = take(&mut self.tail_lengths, TAIL_LENGTH_BYTES);
        Slab {
            shape,
            word_rows: u32::from(entry.full_rows[number]) + u32::from(entry.tail_rows[number]),
            rows: (self.shape.rows - top).min(SLAB_STRIPS * FRAGMENT),
            cols: self.shape.cols,
            tail_lengths,
            raw: take(&mut self.raw, shape.raw_bytes(self.raw_bits)),
            full: take(&mut self.full, LINE * usize::from(entry.full_rows[number])),
            exceptions: take(&mut self.exceptions, 4 * exceptions),
            tails: take(&mut self.tails, tail_bytes(tail_lengths)),
        }
    }
}

/// Bytes of the words that these tail lengths stand for.
fn tail_bytes(tail_lengths: &[u8]) -> usize {
    4 * tail_lengths
        .iter()
        .map(|&pair| usize::from(pair & 15) + usize::from(pair >> 4))
        .sum::<usize>()
}

/// The parts of one slab.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    /// Shape of the slab, padding included.
    pub shape: SlabShape,
    /// Rows of words, of which no stream has more.
    pub word_rows: u32,
    /// Rows that lie in the matrix.
    rows: usize,
    /// Columns that lie in the matrix.
    cols: usize,
    tail_lengths: &'a [u8],
    /// The raw planes, widest first.
    pub raw: &'a [u8],
    full: &'a [u8],
    exceptions: &'a [u8],
    tails: &'a [u8],
}

impl<'a> Slab<'a> {
    /// Expands the rows of words.
    pub fn expand(&self, rows: &mut Rows) {
        let full = self.full.len() / LINE;
        for (row, stored) in rows.iter_mut().zip(self.full.chunks_exact(LINE)) {
            bytemuck::bytes_of_mut(row).copy_from_slice(stored);
        }
        rows[full..].fill([0; LANES]);
        let lengths = self.tail_lengths();
        let longest = lengths.into_iter().max().unwrap_or(0);
        let mut words = words(self.tails);
        for (row, number) in rows[full..].iter_mut().zip(0..longest) {
            let mut mask = lanes_beyond(&lengths, number);
            while mask != 0 {
                row[mask.trailing_zeros() as usize] = words.next().unwrap_or(0);
                mask &= mask - 1;
            }
        }
    }

    /// Of each lane, the tail rows in which it has a word.
    fn tail_lengths(&self) -> [u8; LANES] {
        core::array::from_fn(|lane| self.tail_lengths[lane / 2] >> (lane % 2 * 4) & 15)
    }

    /// The exceptions: (row of the slab, column, weight).
    pub fn exceptions(self) -> impl Iterator<Item = (usize, usize, u16)> + 'a {
        words(self.exceptions).map(move |record| {
            let (place, weight) = TileEntry::exception_fields(record);
            let (row, col) = self.shape.position(place);
            (row, col, weight)
        })
    }

    /// Exceptions must ascend, lie in the matrix, and be weights that can be some.
    fn check_exceptions(self, coding: TileFormat) -> Result<(), TileFault> {
        let records = words(self.exceptions).map(|record| record >> 16);
        let ascend = records.clone().is_sorted_by(|a, b| a < b);
        let known = records.clone().all(|record| record & 7 == 0);
        let inside = self.exceptions().all(|(row, col, weight)| {
            row < self.rows && col < self.cols && coding.may_be_exception(weight)
        });
        if ascend && known && inside { Ok(()) } else { Err(TileFault::Exception) }
    }
}

/// The lanes whose tail is longer than `row` rows, as bits.
#[inline(always)]
fn lanes_beyond(tail_lengths: &[u8; LANES], row: u8) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(tail_lengths[lane] > row) << lane)
}

/// The little-endian words of `bytes`.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word))
}

/// How the rows of words of one slab are stored.
#[derive(Clone, Debug)]
struct StoredRows {
    /// Rows to store whole.
    full: usize,
    /// Rows after those.
    tail: usize,
    /// Of each lane, the rows after those in which it has a word.
    tail_lengths: [u8; LANES],
}

impl StoredRows {
    /// For streams of these lengths in words. Zeros at the end of a stream are not stored, but
    /// rows are counted as if they were. Whole are the rows in which every lane has a word, so that
    /// none is stored for nothing, and those that a tail has no room for.
    fn new(rows: &Rows, lengths: &[usize; LANES]) -> Self {
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

/// A coded tile under construction: slabs are added in order, then [`TileWriter::finish`].
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
    /// Adds a slab: its raw planes as words, its expanded rows with the streams' lengths, and its
    /// exceptions, which ascend.
    pub fn slab(&mut self, raw: &[u32], rows: &Rows, lengths: &[usize; LANES], exceptions: &[u32]) {
        let StoredRows { full, tail, tail_lengths } = StoredRows::new(rows, lengths);
        self.entry.full_rows[self.slabs] = full as u8;
        self.entry.tail_rows[self.slabs] = tail as u8;
        self.entry.tail_start[self.slabs] = (self.tails.len() / 4) as u16;
        // What does not fit is not used: so many exceptions make a raw tile, or none at all.
        self.entry.exception_start[self.slabs] = self.exceptions.len() as u16;
        self.raw.extend_from_slice(bytemuck::cast_slice(raw));
        self.full.extend_from_slice(bytemuck::cast_slice(&rows[..full]));
        self.tail_lengths
            .extend(tail_lengths.as_chunks().0.iter().map(|&[low, high]| low | high << 4));
        for (row, number) in rows[full..full + tail].iter().zip(0..) {
            let mut mask = lanes_beyond(&tail_lengths, number);
            while mask != 0 {
                let word = row[mask.trailing_zeros() as usize];
                self.tails.extend_from_slice(&word.to_le_bytes());
                mask &= mask - 1;
            }
        }
        self.exceptions.extend_from_slice(exceptions);
        self.slabs += 1;
    }

    /// The record (without its offset) and the payload: coded, or the weights of `raw_tile` as they
    /// are, if that takes no more lines and they are all that there is: no tile with large integers is raw. `groups` are the
    /// slabs' scales and zero points. `None` if there are more exceptions than a tile can have.
    pub fn finish(
        self,
        shape: TileShape,
        coding: TileFormat,
        groups: &[u8],
        raw_tile: impl FnOnce() -> Vec<u8>,
    ) -> Option<(TileEntry, Vec<u8>)> {
        let Self { mut entry, tail_lengths, raw, full, exceptions, tails, .. } = self;
        let listed = bytemuck::cast_slice(&exceptions);
        let mut payload = [&tail_lengths, &raw, groups, &full, listed, &tails].concat();
        let large = coding.large_integers && exceptions.iter().any(|record| record & 0xFF00 != 0);
        if !large && payload.len().div_ceil(LINE) >= coding.raw_tile_lines(shape) {
            payload = raw_tile();
            payload.resize(coding.raw_weight_bytes(shape), 0);
            payload.extend_from_slice(groups);
            entry = TileEntry { kind: TileKind::Raw as u8, ..TileEntry::default() };
        } else {
            // Four bytes each, they are fewer than 2^16 where the weights' 128 KB would be more; large integers have to be
            // listed, however many they are.
            entry.exceptions = exceptions.len().try_into().ok()?;
            entry.kind = TileKind::Coded as u8;
        }
        payload.resize(payload.len().next_multiple_of(LINE), 0);
        entry.lines = (payload.len() / LINE) as u16;
        entry.crc = crc32c::crc32c(&payload);
        Some((entry, payload))
    }
}
