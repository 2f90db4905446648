//! How large a blob would be, without making it.

use crate::blob::header::payload_start;
use crate::codec::coding_model::{
    CodingRequest, EXCEPTION_BITS, EXCEPTION_TIME, most_frequent, split_for, symbol_counts,
};
use crate::{Frequencies, Matrix};
use fused_rans_layout::{
    FRAGMENT, FourWeightEntry, LANES, LINE, SLAB_STRIPS, SYMBOLS, Split, TABLE, TAIL_LENGTH_BYTES,
    TileGrid, WeightsPerSymbol,
};

/// Bits that a stream takes beside its symbols' codes, less the code of its last symbol, which is free: the first index,
/// half a word for the padding, less what an encoder saves by its choice of the last slot. The latter was measured.
const fn stream_bits(weights_per_symbol: WeightsPerSymbol) -> f64 {
    let saved = match weights_per_symbol {
        WeightsPerSymbol::Two => 9.0,
        WeightsPerSymbol::Four => 6.0,
    };
    12.0 + 16.0 - saved
}

/// What a matrix would take.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Bits a weight of the blob, everything counted.
    pub bits: f64,
    /// As many, and what exceptions count for the time that they take.
    pub cost: f64,
}

impl Estimate {
    /// What exceptions count for the time that they take.
    pub fn extra(self) -> f64 {
        self.cost - self.bits
    }
}

/// About how large a blob of `grid` is whose one-byte weights occur `counts` times, or in that proportion, with a scale for
/// each row; `wide` of them take more than the byte that is counted. `None` if it cannot be coded as `wanted`.
pub fn estimate(
    wanted: CodingRequest,
    grid: TileGrid,
    counts: &[u64; 256],
    wide: u64,
) -> Option<Estimate> {
    let (split, mut coded, exceptions) = split_for(wanted, counts)?;
    let total = counts.iter().sum::<u64>() as f64;
    let filler = most_frequent(&coded);
    coded[usize::from(filler)] += exceptions;
    let shares = coded.map(|count| count as f64 / total);
    let symbols = symbol_shares(split.weights_per_symbol(), &shares, filler, grid);
    let counts = symbols.map(|share| (share * SCALE) as u64);
    // The low bytes of wide ones may be exceptions already; then this is too much, but there are few.
    of_symbols(split, grid, &symbols, &counts, (exceptions + wide) as f64 / total)
}

/// As [`estimate`], of a matrix at hand, whose weights may depend on each other: its symbols are counted. `counts` are its
/// weights.
pub fn measure(
    request: CodingRequest,
    matrix: Matrix<'_>,
    counts: &[u64; 256],
    wide: u64,
) -> Option<Estimate> {
    let (split, coded, exceptions) = split_for(request, counts)?;
    let total = counts.iter().sum::<u64>() as f64;
    let symbols = symbol_counts(matrix, split, most_frequent(&coded));
    let all = symbols.iter().sum::<u64>() as f64;
    let shares = symbols.map(|count| count as f64 / all);
    of_symbols(split, matrix.grid(), &shares, &symbols, (exceptions + wide) as f64 / total)
}

/// What a matrix takes whose symbols occur `counts` times, which are these shares, and with this share of exceptions among
/// its weights.
fn of_symbols(
    split: Split,
    grid: TileGrid,
    shares: &[f64; SYMBOLS],
    counts: &[u64; SYMBOLS],
    exceptions: f64,
) -> Option<Estimate> {
    let frequencies = Frequencies::from_counts(counts)?;
    if split.weights_per_symbol() == WeightsPerSymbol::Four
        && frequencies.max() > FourWeightEntry::MAX_FREQUENCY
    {
        return None;
    }
    let symbol_bits = code_length(shares, &frequencies);
    let fragments = grid.rows.div_ceil(FRAGMENT) as f64 * grid.cols.div_ceil(FRAGMENT) as f64;
    let slabs = grid.rows.div_ceil(SLAB_STRIPS * FRAGMENT) as f64 * grid.across() as f64;
    let coded_symbols =
        fragments * (FRAGMENT * FRAGMENT) as f64 / split.weights_per_symbol() as u8 as f64;
    let streams = slabs * LANES as f64;
    let words = coded_symbols * symbol_bits
        + streams * (stream_bits(split.weights_per_symbol()) - symbol_bits);
    let raw = fragments * (FRAGMENT * FRAGMENT) as f64 * f64::from(split.raw_bits());
    let weights = grid.rows as f64 * grid.cols as f64;
    let tiles = grid.tiles()?;
    let bytes = payload_start(tiles, grid.rows)? as f64
        + slabs * TAIL_LENGTH_BYTES as f64
        + tiles as f64 * LINE as f64 / 2.0;
    let bits = (8.0 * bytes + words + raw) / weights + EXCEPTION_BITS * exceptions;
    Some(Estimate { bits, cost: bits + EXCEPTION_TIME * exceptions })
}

/// What shares are multiplied with to become counts: a symbol counts from half an occurrence in a large layer on.
const SCALE: f64 = (1u64 << 24) as f64;

/// The shares of the symbols of a matrix of weights that do not depend on each other. A symbol holds rows g and g + 8 of a
/// strip, both of the matrix, or the upper one and padding, or padding alone, which has the coded bits `filler`.
fn symbol_shares(
    weights_per_symbol: WeightsPerSymbol,
    shares: &[f64; 16],
    filler: u8,
    grid: TileGrid,
) -> [f64; SYMBOLS] {
    let (strips, last) = (grid.rows / FRAGMENT, grid.rows % FRAGMENT);
    let whole = (strips * FRAGMENT / 2 + last.saturating_sub(FRAGMENT / 2)) * grid.cols;
    let half = last.min(FRAGMENT - last) * grid.cols;
    let sides = [grid.rows, grid.cols].map(|side| side.next_multiple_of(FRAGMENT) as f64);
    let all = sides[0] * sides[1] / 2.0;
    let (whole, half) = (whole as f64 / all, half as f64 / all);
    let padding: [f64; 16] =
        core::array::from_fn(|bits| f64::from(u8::from(bits == usize::from(filler))));
    let (bits, values) = (weights_per_symbol.bits(), usize::from(weights_per_symbol.values()));
    // Fields 0 and 2 are of the upper row, 1 and 3 of the lower one.
    let product = |symbol: usize, lower: &[f64; 16], upper: &[f64; 16]| -> f64 {
        let share = |n: u32| [upper, lower][n as usize % 2][symbol >> (bits * n) & (values - 1)];
        (0..weights_per_symbol as u32).map(share).product()
    };
    core::array::from_fn(|symbol| {
        whole * product(symbol, shares, shares)
            + half * product(symbol, &padding, shares)
            + (1.0 - whole - half) * product(symbol, &padding, &padding)
    })
}

/// Bits of a symbol, on the average, that is coded with these frequencies.
fn code_length(shares: &[f64; SYMBOLS], frequencies: &Frequencies) -> f64 {
    let frequencies = frequencies.as_array().iter().map(|&f| f64::from(f.max(1)));
    shares.iter().zip(frequencies).map(|(share, f)| share * (TABLE as f64 / f).log2()).sum()
}
