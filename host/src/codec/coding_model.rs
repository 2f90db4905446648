//! What the encoder finds out about a matrix before it codes the first weight.

use crate::Matrix;
use crate::blob::frequencies::Frequencies;
use crate::codec::fast;
use fused_rans_layout::{Dtype, FourWeightEntry, SYMBOLS, Split, WeightsPerSymbol};
use rayon::prelude::*;

/// Weights that one task counts.
const CHUNK: usize = 1 << 20;
/// Weights of which one may be an exception where speed matters: each stops a warp for as long as some hundred
/// weights take.
pub const FEW: u64 = 4096;
/// Bits that an exception takes beside its weight's own code.
pub const EXCEPTION_BITS: f64 = 32.0;
/// What an exception counts in bits for the time that it stops a warp. On an H100 that is a tenth of a nanosecond, in which
/// some thousand bits are read; counted are as many as make a wider split, by a tenth of a bit a weight
/// larger, the better one from [`FEW`] on.
pub const EXCEPTION_TIME: f64 = 400.0;

/// How a matrix is coded.
#[derive(Clone, Debug)]
pub struct CodingModel {
    /// How its weights split.
    pub split: Split,
    /// The coded bits that stand in for exceptions and for padding: the most frequent ones.
    pub filler: u8,
    /// Frequencies of its symbols.
    pub frequencies: Frequencies,
    /// Its entropy in bits per weight, as [`entropy`] defines it.
    pub entropy: f64,
}

impl CodingModel {
    /// Makes the model of `matrix`, which has at least one weight.
    pub fn from_matrix(matrix: Matrix<'_>, request: CodingRequest) -> Self {
        let exponents = exponent_counts(matrix.dtype(), matrix.as_bytes());
        Self::new(request, &exponents, |split, filler| symbol_counts(matrix, split, filler))
    }

    /// Makes the model of a matrix whose weights have these exponents; `symbols` counts the symbols for a split and a
    /// filler.
    pub fn new(
        request: CodingRequest,
        exponents: &[u64; 256],
        symbols: impl Fn(Split, u8) -> [u64; SYMBOLS],
    ) -> Self {
        let with = |weights_per_symbol| {
            let request = CodingRequest { weights_per_symbol, ..request };
            let (split, coded, _) = split_for(request, exponents)?;
            let filler = most_frequent(&coded);
            let frequencies = Frequencies::from_counts(&symbols(split, filler));
            let frequencies = frequencies.expect("a matrix has a weight");
            let entropy = entropy_of(request.dtype, exponents);
            Some(Self { split, filler, frequencies, entropy })
        };
        let fits = |model: &Self| {
            let two = model.split.weights_per_symbol() == WeightsPerSymbol::Two;
            two || model.frequencies.max() <= FourWeightEntry::MAX_FREQUENCY
        };
        let model =
            with(request.weights_per_symbol).filter(fits).or_else(|| with(WeightsPerSymbol::Two));
        model.expect("there are always two weights a symbol")
    }
}

/// Order-0 entropy of the exponents (of whole values, for integers) of the weights in `data`, plus
/// the bits beside them, in bits per weight. 0 for no data. In steps of 2^-16, so that blobs, which
/// store it, hardly ever depend on how a machine rounds logarithms.
#[must_use]
pub fn entropy(dtype: Dtype, data: &[u8]) -> f64 {
    entropy_of(dtype, &exponent_counts(dtype, data))
}

fn entropy_of(dtype: Dtype, counts: &[u64; 256]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    if total == 0.0 {
        return 0.0;
    }
    let beside = 8 * dtype.byte_len() as u32 - dtype.exponent_bits();
    let bits = coded_bits(counts, total) / total + f64::from(beside);
    (bits * 65536.0).round() / 65536.0
}

/// Bits of an ideal order-0 code for symbols that occur `counts` of `total` times.
fn coded_bits(counts: &[u64], total: f64) -> f64 {
    let nonzero = counts.iter().filter(|&&c| c > 0).map(|&c| c as f64);
    nonzero.map(|c| c * (total / c).log2()).sum()
}

/// How often each exponent occurs.
pub fn exponent_counts(dtype: Dtype, data: &[u8]) -> [u64; 256] {
    let chunks = data.par_chunks(CHUNK * dtype.byte_len());
    chunks.map(|chunk| fast::count_exponents(dtype, chunk)).reduce(|| [0; 256], add)
}

/// How often each symbol occurs, exceptions and padding replaced by `filler`.
pub fn symbol_counts(matrix: Matrix<'_>, split: Split, filler: u8) -> [u64; SYMBOLS] {
    let tiles = matrix.grid().tiles().expect("a matrix in memory has a countable number of tiles");
    let counts = |tile| fast::count_symbols(matrix, split, filler, tile);
    (0..tiles).into_par_iter().map(counts).reduce(|| [0; SYMBOLS], add)
}

/// The sums of counts.
pub fn add(mut a: [u64; 256], b: [u64; 256]) -> [u64; 256] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

/// How a caller wants a matrix to be coded.
#[derive(Clone, Copy, Debug)]
pub struct CodingRequest {
    /// Type of the weights.
    pub dtype: Dtype,
    /// How many integers share a symbol; of other types two do.
    pub weights_per_symbol: WeightsPerSymbol,
    /// The raw bits of integers, if they are not the encoder's to choose.
    pub raw_bits: Option<u8>,
}

/// The split of weights with these exponents, how often each value of its coded bits occurs, and how many weights are
/// exceptions. `None` if four weights a symbol would leave too many.
pub fn split_for(request: CodingRequest, counts: &[u64; 256]) -> Option<(Split, [u64; 16], u64)> {
    let CodingRequest { dtype, weights_per_symbol, raw_bits } = request;
    let split = match dtype {
        Dtype::Bf16 | Dtype::F16 => best_window(dtype, counts),
        Dtype::F8E4M3 => Split::f8_e4m3(),
        Dtype::I8 => match raw_bits.and_then(|raw_bits| Split::i8(weights_per_symbol, raw_bits)) {
            Some(split) => split,
            None => best_raw_bits(weights_per_symbol, counts)?,
        },
    };
    let (coded, exceptions) = coded_counts(split, counts);
    Some((split, coded, exceptions))
}

/// The most frequent of the values, of equals the lower.
pub fn most_frequent(coded: &[u64; 16]) -> u8 {
    let filler = (0..coded.len()).max_by_key(|&n| (coded[n], core::cmp::Reverse(n)));
    filler.expect("there are sixteen") as u8
}

/// The window that leaves the fewest exceptions.
fn best_window(dtype: Dtype, counts: &[u64; 256]) -> Split {
    let windows = [false, true]
        .into_iter()
        .flat_map(|zero| (0..=u8::MAX).filter_map(move |base| Split::window(dtype, base, zero)));
    windows.min_by_key(|&split| coded_counts(split, counts).1).expect("there are windows")
}

/// The split of integers: of two a symbol the one with the smallest code, or that of 4-bit integers if all are; of
/// four, which are to be multiplied fast, the narrowest with few exceptions, if there is one.
fn best_raw_bits(weights_per_symbol: WeightsPerSymbol, counts: &[u64; 256]) -> Option<Split> {
    match weights_per_symbol {
        WeightsPerSymbol::Two => Some(smallest_code(counts)),
        WeightsPerSymbol::Four => few_exceptions(counts),
    }
}

fn few_exceptions(counts: &[u64; 256]) -> Option<Split> {
    let few = counts.iter().sum::<u64>() / FEW;
    Split::all_i8(WeightsPerSymbol::Four).find(|&split| coded_counts(split, counts).1 <= few)
}

fn smallest_code(counts: &[u64; 256]) -> Split {
    let total = counts.iter().sum::<u64>() as f64;
    let cost = |split: &Split| {
        let (coded, exceptions) = coded_counts(*split, counts);
        let coded = coded_bits(&coded, coded.iter().sum::<u64>() as f64);
        coded
            + total * f64::from(split.raw_bits())
            + exceptions as f64 * (EXCEPTION_BITS + EXCEPTION_TIME)
    };
    // Those of 4-bit integers, which may have groups.
    let splits = || Split::all_i8(WeightsPerSymbol::Two);
    let whole = splits().next().filter(|&split| coded_counts(split, counts).1 == 0);
    whole.unwrap_or_else(|| {
        splits().min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("there are some")
    })
}

/// How often each value of the coded bits occurs, and how many weights are exceptions.
fn coded_counts(split: Split, counts: &[u64; 256]) -> ([u64; 16], u64) {
    let (mut coded, mut exceptions) = ([0; 16], 0);
    for (exponent, &count) in (0..=u8::MAX).zip(counts) {
        // Any weight with this exponent will do.
        let bits = split.coded(split.dtype().with_exponent(exponent));
        if bits < split.weights_per_symbol().values() {
            coded[usize::from(bits)] += count;
        } else {
            exceptions += count;
        }
    }
    (coded, exceptions)
}
