//! Exceptions of a slab in the resident layout.
//!
//! A kernel either replaces the decoded weight or adds what it lacks: the product of the difference and the activation.
//! So an exception has both, and the difference is between the numbers that the kernel multiplies.

use super::word_at;
use crate::TileFault;
use crate::blob::tile::Slab;
use fused_rans_layout::{
    Dtype, Entry, ExceptionEnds, LANES, LINE, MAX_SYMBOLS, PROB_BITS, Place, Plane, ROW_CLASSES,
    SlabException, Split, TABLE, TileEntry, UNIT, activation_place, e4m3_to_f32, exception_units,
    exchange_signs, planes,
};
use half::{bf16, f16};

/// A slab with its exceptions.
#[derive(Clone, Copy)]
pub(super) struct SlabExceptions<'a> {
    pub slab: Slab<'a>,
    pub split: Split,
}

impl SlabExceptions<'_> {
    /// Writes the exceptions of a coded slab to `out`. `rows` holds its rows of words. Decodes the streams of the lanes that
    /// have exceptions, each up to its last one.
    pub fn write(
        self,
        table: &[Entry; TABLE],
        rows: &[u8],
        out: &mut [u8],
    ) -> Result<(), TileFault> {
        let weights_per_symbol = self.split.weights_per_symbol();
        let mut own: Vec<_> = self.slab.exceptions().collect();
        own.sort_unstable_by_key(|&(row, col, _)| {
            let place = self.slab.shape.place(row, col);
            (place.lane, place.symbol(weights_per_symbol))
        });
        let lane_of = |&(row, col, _): &(usize, usize, u16)| self.slab.shape.place(row, col).lane;
        let mut symbols = [0; MAX_SYMBOLS];
        let mut all = Vec::with_capacity(own.len());
        for of_lane in own.chunk_by(|a, b| lane_of(a) == lane_of(b)) {
            let &(row, col, _) = of_lane.last().expect("chunks are not empty");
            let last = self.slab.shape.place(row, col);
            let symbols = &mut symbols[..=last.symbol(weights_per_symbol).0];
            if decode_lane(table, rows, last.lane, symbols) > 32 * self.slab.word_rows {
                return Err(TileFault::Stream);
            }
            for &(row, col, weight) in of_lane {
                let decoded = self.decoded(self.slab.shape.place(row, col), symbols);
                all.push(self.exception((row, col), weight, decoded));
            }
        }
        write_all(all, out);
        Ok(())
    }

    /// Writes the large integers of a plain slab to `out`. The slab holds their low bytes, and all other weights as they are.
    pub fn write_large(self, out: &mut [u8]) {
        let large = self.slab.exceptions().filter(|&(_, _, weight)| weight > 0xFF);
        let large =
            large.map(|(row, col, weight)| self.exception((row, col), weight, weight & 0xFF));
        write_all(large.collect(), out);
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

    /// Makes the exception of `weight` at (row, column) of the slab, where a kernel decodes `decoded`.
    fn exception(self, (row, col): (usize, usize), weight: u16, decoded: u16) -> SlabException {
        let dtype = self.split.dtype();
        // The other byte of an FP8 exception means nothing.
        let weight = if dtype == Dtype::F8E4M3 { weight & 0xFF } else { weight };
        let difference = (number(dtype, weight) - number(dtype, decoded)) as f32;
        let place = activation_place(self.slab.shape.steps, col) as u8;
        SlabException { difference: difference.to_bits(), place, row: row as u8, weight }
    }
}

/// Writes exceptions to `out`, which has room for as many or more.
fn write_all(mut all: Vec<SlabException>, out: &mut [u8]) {
    debug_assert!(exception_units(all.len()) * UNIT <= out.len());
    let class = |one: &SlabException| usize::from(one.row) % ROW_CLASSES;
    all.sort_unstable_by_key(|one| (class(one), one.place, one.row));
    let ends = core::array::from_fn(|last| all.partition_point(|one| class(one) <= last) as u16);
    let (head, rest) = out.split_at_mut(size_of::<ExceptionEnds>());
    head.copy_from_slice(bytemuck::bytes_of(&ExceptionEnds(ends)));
    let (own, padding) = rest.split_at_mut(all.len() * size_of::<SlabException>());
    own.copy_from_slice(bytemuck::cast_slice(&all));
    padding.fill(0);
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
