//! Estimates of the size of a blob, without encoding it.

use crate::blob::header::payload_start;
use crate::codec::coding_model::{
    CodingRequest, EXCEPTION_BITS, EXCEPTION_TIME_BITS, choose_split, most_frequent, symbol_counts,
};
use crate::{Frequencies, Matrix};
use fused_rans_layout::{
    FRAGMENT, FourWeightEntry, LANES, LINE, SLAB_ROWS, SYMBOLS, Split, TABLE, TAIL_LENGTH_BYTES,
    TileGrid, WeightsPerSymbol,
};

/// Returns the overhead of a stream in bits, on average: 12 for the initial index and half a word of padding, minus the
/// bits that the encoder saves by its choice of the final state, which were measured. The free code of the last symbol
/// is not part of it.
const fn stream_bits(weights_per_symbol: WeightsPerSymbol) -> f64 {
    let saved = match weights_per_symbol {
        WeightsPerSymbol::Two => 9.0,
        WeightsPerSymbol::Four => 6.0,
    };
    12.0 + 16.0 - saved
}

/// Estimated size of a blob.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Size of the whole blob in bits per weight.
    pub bits: f64,
    /// Size in bits per weight, plus the penalty for the time that exceptions take.
    pub cost: f64,
}

impl Estimate {
    /// Returns the penalty, in bits per weight, for the time that exceptions take.
    pub fn time_penalty(self) -> f64 {
        self.cost - self.bits
    }
}

/// Estimates the size of a blob with row scales and the shape of `grid` from the distribution of its weights. `counts`
/// are the counts of one-byte weights, or proportional to them. The weights are assumed to be independent of each
/// other. `large` of them are large integers, of which `counts` has the low bytes. Returns `None` if `request` cannot
/// be met.
pub fn estimate(
    request: CodingRequest,
    grid: TileGrid,
    counts: &[u64; 256],
    large: u64,
) -> Option<Estimate> {
    let (split, mut coded, exceptions) = choose_split(request, counts)?;
    let total = counts.iter().sum::<u64>() as f64;
    let filler = most_frequent(&coded);
    coded[usize::from(filler)] += exceptions;
    let shares = coded.map(|count| count as f64 / total);
    let symbols = symbol_shares(split.weights_per_symbol(), &shares, filler, grid);
    let counts = symbols.map(|share| (share * COUNTED_SYMBOLS) as u64);
    // Counts a large integer twice if its low byte is an exception, too. There are few of these.
    estimate_from_symbols(split, grid, &symbols, &counts, (exceptions + large) as f64 / total)
}

/// Estimates the size of a blob of `matrix` by counting its symbols. Use it instead of [`estimate`] for weights that
/// may depend on each other. `counts` are the counts of the weights, of which `large` are large integers. Returns
/// `None` if `request` cannot be met.
pub fn measure(
    request: CodingRequest,
    matrix: Matrix<'_>,
    counts: &[u64; 256],
    large: u64,
) -> Option<Estimate> {
    let (split, coded, exceptions) = choose_split(request, counts)?;
    let total = counts.iter().sum::<u64>() as f64;
    let symbols = symbol_counts(matrix, split, most_frequent(&coded));
    let symbol_count = symbols.iter().sum::<u64>() as f64;
    let shares = symbols.map(|count| count as f64 / symbol_count);
    estimate_from_symbols(
        split,
        matrix.grid(),
        &shares,
        &symbols,
        (exceptions + large) as f64 / total,
    )
}

/// Estimates the size of a blob whose symbols have these counts and these shares. `exceptions` is the share of
/// exceptions among its weights.
fn estimate_from_symbols(
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
    let slabs = grid.rows.div_ceil(SLAB_ROWS) as f64 * grid.across() as f64;
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
    Some(Estimate { bits, cost: bits + EXCEPTION_TIME_BITS * exceptions })
}

/// Number of symbols in which shares are counted: a symbol counts if it occurs at least half a time in a layer of 4096
/// x 4096 weights.
const COUNTED_SYMBOLS: f64 = (1u64 << 24) as f64;

/// Computes the shares of symbols from the shares of coded bits, for weights that are independent of each other. A
/// symbol holds rows g and g + 8 of a strip. Both lie in the matrix, or only the upper one, or none. Padding has the
/// coded bits `filler`.
fn symbol_shares(
    weights_per_symbol: WeightsPerSymbol,
    shares: &[f64; 16],
    filler: u8,
    grid: TileGrid,
) -> [f64; SYMBOLS] {
    let (strips, last_rows) = (grid.rows / FRAGMENT, grid.rows % FRAGMENT);
    let whole = (strips * FRAGMENT / 2 + last_rows.saturating_sub(FRAGMENT / 2)) * grid.cols;
    let half = last_rows.min(FRAGMENT - last_rows) * grid.cols;
    let padded = [grid.rows, grid.cols].map(|side| side.next_multiple_of(FRAGMENT) as f64);
    let pairs = padded[0] * padded[1] / 2.0;
    let (whole, half) = (whole as f64 / pairs, half as f64 / pairs);
    let padding: [f64; 16] =
        core::array::from_fn(|bits| f64::from(u8::from(bits == usize::from(filler))));
    let (bits, values) = (weights_per_symbol.bits(), usize::from(weights_per_symbol.values()));
    // Fields 0 and 2 of a symbol hold the upper row, fields 1 and 3 the lower row.
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

/// Returns the average code length in bits of symbols with these shares, coded with `frequencies`.
fn code_length(shares: &[f64; SYMBOLS], frequencies: &Frequencies) -> f64 {
    let frequencies = frequencies.as_array().iter().map(|&f| f64::from(f.max(1)));
    shares.iter().zip(frequencies).map(|(share, f)| share * (TABLE as f64 / f).log2()).sum()
}
