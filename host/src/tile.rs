//! A tile's payload, taken apart.

use crate::TileFault;
use fused_rans_layout::{
    LANES, LINE, LOOK_AHEAD, MAX_ROWS, SlabShape, Split, TileEntry, TileKind, TileShape,
};

/// Rows of words of one slab, expanded: a lane that a row leaves out has the word 0. Room to look
/// ahead of any stream, and then up to a power of two.
pub type Rows = [[u32; LANES]; 64];
const _: () = assert!(MAX_ROWS + LOOK_AHEAD <= 64);

/// The parts of a coded tile, borrowed from its payload.
#[derive(Clone, Copy, Debug)]
pub struct CodedTile<'a> {
    /// Shape of the tile.
    pub shape: TileShape,
    entry: &'a TileEntry,
    raw_bits: u8,
    raw: &'a [u8],
    full: &'a [u8],
    masks: &'a [u8],
    tails: &'a [u8],
    exceptions: &'a [u8],
}

/// A tile's payload, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Tile<'a> {
    /// The weights, row by row.
    Raw(&'a [u8]),
    /// Raw planes, words, exceptions.
    Coded(CodedTile<'a>),
}

impl<'a> Tile<'a> {
    /// Takes `payload` apart. `entry` must have passed the index check; what the payload itself
    /// says is checked here.
    ///
    /// # Errors
    /// [`TileFault`] where the parts do not add up or an exception lies outside the tile.
    pub fn new(
        entry: &'a TileEntry,
        shape: TileShape,
        split: Split,
        payload: &'a [u8],
    ) -> Result<Self, TileFault> {
        if entry.kind == TileKind::Raw as u8 {
            let bytes = shape.weights() * split.dtype().bytes();
            return payload.get(..bytes).map(Self::Raw).ok_or(TileFault::Payload);
        }
        let mut rest = payload;
        let mut take = |bytes: usize| rest.split_off(..bytes).ok_or(TileFault::Payload);
        let sum = |rows: &[u8]| rows.iter().map(|&r| usize::from(r)).sum::<usize>();
        let raw = take(shape.raw_bytes(split.raw_bits()))?;
        let full = take(LINE * sum(&entry.full_rows))?;
        let masks = take(4 * sum(&entry.tail_rows))?;
        let tails = take(tail_bytes(masks))?;
        let exceptions = take(4 * usize::from(entry.exceptions))?;
        if rest.len() >= LINE {
            return Err(TileFault::Payload);
        }
        check_exceptions(exceptions, shape)?;
        let raw_bits = split.raw_bits();
        Ok(Self::Coded(CodedTile { shape, entry, raw_bits, raw, full, masks, tails, exceptions }))
    }
}

/// Exceptions must ascend and lie in the tile.
fn check_exceptions(exceptions: &[u8], shape: TileShape) -> Result<(), TileFault> {
    let mut last = None;
    for record in words(exceptions) {
        let (row, col, _) = TileEntry::exception_fields(record);
        if row >= shape.rows || col >= shape.cols || last >= Some((row, col)) {
            return Err(TileFault::Exception);
        }
        last = Some((row, col));
    }
    Ok(())
}

impl<'a> CodedTile<'a> {
    /// The slabs, in order.
    pub fn slabs(mut self) -> impl Iterator<Item = Slab<'a>> {
        (0..self.shape.slabs()).map(move |slab| self.take_slab(slab))
    }

    /// Takes the parts of slab number `slab` off the front of what the slabs before it have left.
    /// [`Tile::new`] has checked that they are there.
    fn take_slab(&mut self, slab: usize) -> Slab<'a> {
        let take = |part: &mut &'a [u8], bytes: usize| {
            part.split_off(..bytes).expect("the parts' sizes have been checked")
        };
        let shape = self.shape.slab(slab);
        let raw = take(&mut self.raw, shape.raw_bytes(self.raw_bits));
        let full = take(&mut self.full, LINE * usize::from(self.entry.full_rows[slab]));
        let masks = take(&mut self.masks, 4 * usize::from(self.entry.tail_rows[slab]));
        let tails = take(&mut self.tails, tail_bytes(masks));
        Slab { shape, raw, full, masks, tails }
    }

    /// The exceptions: (row, column, weight).
    pub fn exceptions(self) -> impl Iterator<Item = (usize, usize, u16)> + 'a {
        words(self.exceptions).map(TileEntry::exception_fields)
    }
}

/// Bytes of the words that these masks of lanes stand for.
fn tail_bytes(masks: &[u8]) -> usize {
    4 * words(masks).map(|mask| mask.count_ones() as usize).sum::<usize>()
}

/// The parts of one slab.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    /// Shape of the slab.
    pub shape: SlabShape,
    /// The raw planes, widest first.
    pub raw: &'a [u8],
    full: &'a [u8],
    masks: &'a [u8],
    tails: &'a [u8],
}

impl Slab<'_> {
    /// Expands the rows of words.
    pub fn expand(&self, rows: &mut Rows) {
        let full = self.full.len() / LINE;
        for (row, stored) in rows.iter_mut().zip(self.full.chunks_exact(LINE)) {
            bytemuck::bytes_of_mut(row).copy_from_slice(stored);
        }
        let mut tails = words(self.tails);
        let mut masks = words(self.masks);
        for row in &mut rows[full..] {
            *row = [0; LANES];
            let mut mask = masks.next().unwrap_or(0);
            while mask != 0 {
                row[mask.trailing_zeros() as usize] = tails.next().unwrap_or(0);
                mask &= mask - 1;
            }
        }
    }
}

/// The little-endian words of `bytes`.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word))
}

/// How the rows of words of one slab are stored.
#[derive(Clone, Debug)]
struct StoredRows {
    /// Rows to store whole.
    full: usize,
    /// A mask of lanes for each row after those.
    masks: Vec<u32>,
}

impl StoredRows {
    /// For streams of these lengths in words. Zeros at the end of a stream are not stored, but
    /// rows are counted as if they were. A row of 31 lanes is no larger whole than with a mask.
    fn new(rows: &Rows, lengths: &[usize; LANES]) -> Self {
        let stored: [usize; LANES] = core::array::from_fn(|lane| {
            let used = rows[..lengths[lane]].iter().rposition(|row| row[lane] != 0);
            used.map_or(0, |last| last + 1)
        });
        let mask = |row: usize| (0..LANES).fold(0, |m, l| m | u32::from(stored[l] > row) << l);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let full = (0..longest).take_while(|&row| mask(row).count_ones() >= 31).count();
        Self { full, masks: (full..longest).map(mask).collect() }
    }
}

/// A coded tile under construction: slabs are added in order, then [`TileWriter::finish`].
#[derive(Debug, Default)]
pub struct TileWriter {
    entry: TileEntry,
    raw: Vec<u8>,
    full: Vec<u8>,
    masks: Vec<u8>,
    tails: Vec<u8>,
    slabs: usize,
}

impl TileWriter {
    /// Adds a slab: its raw planes as words, and its expanded rows with the streams' lengths.
    pub fn slab(&mut self, raw: &[u32], rows: &Rows, lengths: &[usize; LANES]) {
        let StoredRows { full, masks } = StoredRows::new(rows, lengths);
        self.raw.extend_from_slice(bytemuck::cast_slice(raw));
        self.full.extend_from_slice(bytemuck::cast_slice(&rows[..full]));
        for (row, mask) in rows[full..].iter().zip(&masks) {
            self.masks.extend_from_slice(&mask.to_le_bytes());
            for (lane, word) in row.iter().enumerate() {
                if mask >> lane & 1 == 1 {
                    self.tails.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        self.entry.full_rows[self.slabs] = full as u8;
        self.entry.tail_rows[self.slabs] = masks.len() as u8;
        self.slabs += 1;
    }

    /// The record (without its offset) and the payload: coded, or the weights row by row as they
    /// are, `weights` bytes, if that takes no more lines.
    pub fn finish(
        self,
        exceptions: &[u32],
        weights: usize,
        raw_tile: impl FnOnce() -> Vec<u8>,
    ) -> (TileEntry, Vec<u8>) {
        let (mut entry, mut payload) = (self.entry, self.raw);
        for part in [&self.full, &self.masks, &self.tails] {
            payload.extend_from_slice(part);
        }
        payload.extend_from_slice(bytemuck::cast_slice(exceptions));
        if payload.len().div_ceil(LINE) >= weights.div_ceil(LINE) {
            payload = raw_tile();
            entry = TileEntry { kind: TileKind::Raw as u8, ..TileEntry::default() };
        } else {
            // Fewer than 2^16: four bytes each, they are less than the 128 KB of the weights.
            entry.exceptions = exceptions.len() as u16;
            entry.kind = TileKind::Coded as u8;
        }
        payload.resize(payload.len().next_multiple_of(LINE), 0);
        entry.lines = (payload.len() / LINE) as u16;
        entry.crc = crc32c::crc32c(&payload);
        (entry, payload)
    }
}
