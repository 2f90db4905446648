//! Exceptions of a resident layer.
//!
//! A kernel either replaces the decoded weight or adds what it lacks: the product of the difference and the activation.
//! So an exception lists both, and the difference is between the numbers that the kernel multiplies.

use super::{allocate, reserve};
use crate::blob::tile::Slab;
use crate::{BlobError, TileFault};
use fused_rans_layout::{
    Dtype, Entry, LANES, LINE, MAX_SYMBOLS, PROB_BITS, Place, Plane, ResidentException, SPAN,
    Split, TABLE, TileEntry, TileGrid, e4m3_to_f32, exchange_signs, planes,
};
use half::{bf16, f16};
use rayon::prelude::*;

/// An exception and its place in the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedException {
    /// Number of the span of columns.
    pub span: u32,
    /// Row of the matrix.
    pub row: u32,
    /// The exception, with its column in the span.
    pub exception: ResidentException,
}

/// The exceptions of a layer, sorted by span, row and column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExceptionTable {
    /// Number of exceptions before those of each row of each span, and of all: those of row `row` in span `span` end
    /// where `starts[span * rows + row + 1]` says. Empty if there are no exceptions.
    pub starts: Vec<u32>,
    /// The exceptions.
    pub exceptions: Vec<ResidentException>,
}

impl ExceptionTable {
    /// Sorts the exceptions of a matrix, which [`ResidentPlan::write_tile_row`](super::ResidentPlan::write_tile_row)
    /// has listed.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] if they cannot be counted in 32 bits; [`BlobError::Memory`] if the table does not fit
    /// into memory.
    ///
    /// # Panics
    /// If one is outside the matrix.
    pub fn new(grid: TileGrid, mut placed: Vec<PlacedException>) -> Result<Self, BlobError> {
        if placed.is_empty() {
            return Ok(Self::default());
        }
        let TileGrid { rows, cols } = grid;
        let too_large = BlobError::TooLarge { rows, cols };
        u32::try_from(placed.len()).map_err(|_| too_large.clone())?;
        let numbers = cols.div_ceil(SPAN).checked_mul(rows).and_then(|rows| rows.checked_add(1));
        let mut starts = allocate(numbers.ok_or(too_large)?, 0)?;
        placed.par_sort_unstable_by_key(|placed| (placed.span, placed.row, placed.exception.col));
        for placed in &placed {
            starts[placed.span as usize * rows + placed.row as usize + 1] += 1;
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        let mut exceptions = reserve(placed.len())?;
        exceptions.extend(placed.iter().map(|placed| placed.exception));
        Ok(Self { starts, exceptions })
    }
}

/// A slab with its exceptions.
#[derive(Clone, Copy)]
pub(super) struct SlabExceptions<'a> {
    pub slab: Slab<'a>,
    pub split: Split,
    /// First row of the slab in the matrix.
    pub row: usize,
    /// First column of the slab in the matrix.
    pub left: usize,
}

impl SlabExceptions<'_> {
    /// Checks whether there are any.
    pub fn any(self) -> bool {
        self.slab.exceptions().next().is_some()
    }

    /// Appends the exceptions of a coded slab. `rows` holds its rows of words. Decodes the streams of the lanes that
    /// have exceptions, each up to its last one.
    pub fn append(
        self,
        table: &[Entry; TABLE],
        rows: &[u8],
        all: &mut Vec<PlacedException>,
    ) -> Result<(), TileFault> {
        let weights_per_symbol = self.split.weights_per_symbol();
        let mut own: Vec<_> = self.slab.exceptions().collect();
        own.sort_unstable_by_key(|&(row, col, _)| {
            let place = self.slab.shape.place(row, col);
            (place.lane, place.symbol(weights_per_symbol))
        });
        let lane_of = |&(row, col, _): &(usize, usize, u16)| self.slab.shape.place(row, col).lane;
        let mut symbols = [0; MAX_SYMBOLS];
        for of_lane in own.chunk_by(|a, b| lane_of(a) == lane_of(b)) {
            let &(row, col, _) = of_lane.last().expect("chunks are not empty");
            let last = self.slab.shape.place(row, col);
            let symbols = &mut symbols[..=last.symbol(weights_per_symbol).0];
            if decode_lane(table, rows, last.lane, symbols) > 32 * self.slab.word_rows {
                return Err(TileFault::Stream);
            }
            for &(row, col, weight) in of_lane {
                let decoded = self.decoded(self.slab.shape.place(row, col), symbols);
                all.push(self.place(row, col, weight, decoded));
            }
        }
        Ok(())
    }

    /// Appends the large integers of a plain slab, which holds their low bytes, and all other weights as they are.
    pub fn append_large(self, all: &mut Vec<PlacedException>) {
        if self.split.dtype() == Dtype::I8 {
            let large = self.slab.exceptions().filter(|&(_, _, weight)| weight > 0xFF);
            all.extend(large.map(|(row, col, weight)| self.place(row, col, weight, weight & 0xFF)));
        }
    }

    /// Returns the weight that `symbols`, those of the lane, and the raw planes have at `place`.
    fn decoded(self, place: Place, symbols: &[u8]) -> u16 {
        let weights_per_symbol = self.split.weights_per_symbol();
        let (symbol, shift) = place.symbol(weights_per_symbol);
        let coded = symbols[symbol] >> shift & (weights_per_symbol.values() - 1);
        let (mut raw, mut start) = (0, 0);
        for plane in planes(self.split.raw_bits()) {
            let words = plane.words(self.slab.shape);
            let (word, bit) = plane.position(place.fragment, place.register, place.half);
            let word = word_at(self.slab.raw, start + Plane::word_offset(words, place.lane, word));
            let word = if plane.width == 8 { exchange_signs(word) } else { word };
            raw |= (word >> bit & ((1 << plane.width) - 1)) << plane.shift;
            start += words * LANES;
        }
        self.split.join(coded, raw as u16)
    }

    /// Makes the exception of `weight` at (`row`, `col`) of the slab, where a kernel decodes `decoded`.
    fn place(self, row: usize, col: usize, weight: u16, decoded: u16) -> PlacedException {
        let dtype = self.split.dtype();
        // The other byte of an FP8 exception means nothing.
        let weight = if dtype == Dtype::F8E4M3 { weight & 0xFF } else { weight };
        let difference = (number(dtype, weight) - number(dtype, decoded)) as f32;
        let col = self.left + col;
        PlacedException {
            span: (col / SPAN) as u32,
            row: (self.row + row) as u32,
            exception: ResidentException {
                difference: difference.to_bits(),
                col: (col % SPAN) as u16,
                weight,
            },
        }
    }
}

/// Returns the number that a kernel multiplies for `weight`. Of an integer, both bytes count.
pub(super) fn number(dtype: Dtype, weight: u16) -> f64 {
    match dtype {
        Dtype::Bf16 => bf16::from_bits(weight).to_f64(),
        Dtype::F16 => f16::from_bits(weight).to_f64(),
        Dtype::F8E4M3 => e4m3_to_f32(weight as u8).into(),
        Dtype::I8 => {
            let (low, high) = TileEntry::exception_bytes(weight);
            f64::from(i32::from(low) + 256 * i32::from(high))
        }
    }
}

/// Decodes the first symbols of the stream of `lane`. Returns the number of bits that it has taken: not those after the
/// last symbol.
fn decode_lane(table: &[Entry; TABLE], rows: &[u8], lane: usize, symbols: &mut [u8]) -> u32 {
    // Words after the last row are 0: the stream is invalid if these bits count.
    let word = |row: usize| {
        let row = rows.get(row * LINE..).filter(|rest| !rest.is_empty());
        row.map_or(0, |row| word_at(row, lane))
    };
    let (mut next, mut pending, mut available, mut taken) = (0, 0u64, 0, 0);
    let mut take = |bits: u32| {
        if available < bits {
            pending |= u64::from(word(next)) << (32 - available);
            (next, available) = (next + 1, available + 32);
        }
        let value = (pending >> (63 - bits) >> 1) as u32;
        (pending, available) = (pending << bits, available - bits);
        value
    };
    let mut bits = PROB_BITS;
    let mut sub = 0;
    for symbol in symbols {
        taken += bits;
        let entry = table[(sub << bits | take(bits)) as usize % TABLE];
        *symbol = entry.symbol();
        (sub, bits) = (entry.sub(), entry.bits());
    }
    taken
}

/// Reads word number `index` of `bytes`.
pub(super) fn word_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}
