//! The coding model of a matrix: split, filler, frequencies and entropy, which the encoder determines before it codes.

use crate::Matrix;
use crate::blob::frequencies::Frequencies;
use crate::codec::fast;
use fused_rans_layout::{Dtype, FourWeightEntry, SYMBOLS, Split, WeightsPerSymbol};
use rayon::prelude::*;

/// Number of weights that one task counts.
const CHUNK: usize = 1 << 20;
/// Smallest number of weights per exception where speed matters: an exception stalls a warp for as long as
/// a few hundred weights take.
pub const WEIGHTS_PER_EXCEPTION: u64 = 4096;
/// Size of the record of an exception in bits. The weight also takes the code of the filler.
pub const EXCEPTION_BITS: f64 = 32.0;
/// Penalty in bits for the time that an exception stalls a warp: a split that is wider by 0.1 bits per weight wins once
/// exceptions exceed 1 in [`WEIGHTS_PER_EXCEPTION`]. The stall itself costs more: on an H100 a tenth of a nanosecond per
/// exception, in which the device reads a few thousand bits.
pub const EXCEPTION_TIME_BITS: f64 = 400.0;

/// Statistics and choices with which a matrix is coded.
#[derive(Clone, Debug)]
pub struct CodingModel {
    /// Split of the weights into coded and raw bits.
    pub split: Split,
    /// Coded bits of exceptions and of padding: the most frequent ones, since these have the shortest code.
    pub filler: u8,
    /// Frequencies of the symbols.
    pub frequencies: Frequencies,
    /// Entropy in bits per weight, as [`entropy`] defines it.
    pub entropy: f64,
}

impl CodingModel {
    /// Determines the model of `matrix`, which must have at least one weight.
    pub fn from_matrix(matrix: Matrix<'_>, request: CodingRequest) -> Self {
        let exponents = exponent_counts(matrix.dtype(), matrix.as_bytes());
        Self::new(request, &exponents, |split, filler| symbol_counts(matrix, split, filler))
    }

    /// Determines the model of a matrix from its counts of exponents. `symbols` counts the symbols for a split and a
    /// filler.
    pub fn new(
        request: CodingRequest,
        exponents: &[u64; 256],
        symbols: impl Fn(Split, u8) -> [u64; SYMBOLS],
    ) -> Self {
        let model_with = |weights_per_symbol| {
            let request = CodingRequest { weights_per_symbol, ..request };
            let (split, coded, _) = choose_split(request, exponents)?;
            let filler = most_frequent(&coded);
            let frequencies = Frequencies::from_counts(&symbols(split, filler));
            let frequencies = frequencies.expect("a matrix has a weight");
            let entropy = entropy_of_counts(request.dtype, exponents);
            Some(Self { split, filler, frequencies, entropy })
        };
        let fits = |model: &Self| {
            let two = model.split.weights_per_symbol() == WeightsPerSymbol::Two;
            two || model.frequencies.max() <= FourWeightEntry::MAX_FREQUENCY
        };
        let model = model_with(request.weights_per_symbol)
            .filter(fits)
            .or_else(|| model_with(WeightsPerSymbol::Two));
        model.expect("two weights per symbol always work")
    }
}

/// Computes the entropy of the weights in `data` in bits per weight: the order-0 entropy of their exponents, plus their
/// sign and mantissa bits. For integers it is the order-0 entropy of the values. Returns 0 for no data. Use it to
/// estimate how well a matrix compresses.
///
/// The result is rounded to steps of 2^-16. Blobs store it, and this way they hardly ever depend on how a machine
/// rounds logarithms.
#[must_use]
pub fn entropy(dtype: Dtype, data: &[u8]) -> f64 {
    entropy_of_counts(dtype, &exponent_counts(dtype, data))
}

/// Computes [`entropy`] from the counts of exponents.
fn entropy_of_counts(dtype: Dtype, counts: &[u64; 256]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    if total == 0.0 {
        return 0.0;
    }
    let other_bits = 8 * dtype.byte_len() as u32 - dtype.exponent_bits();
    let bits = coded_bits(counts, total) / total + f64::from(other_bits);
    (bits * 65536.0).round() / 65536.0
}

/// Returns the size in bits of an ideal order-0 code of symbols with these counts, whose sum is `total`.
fn coded_bits(counts: &[u64], total: f64) -> f64 {
    let nonzero = counts.iter().filter(|&&c| c > 0).map(|&c| c as f64);
    nonzero.map(|c| c * (total / c).log2()).sum()
}

/// Counts the exponents of the weights in `data`, in parallel.
pub fn exponent_counts(dtype: Dtype, data: &[u8]) -> [u64; 256] {
    let chunks = data.par_chunks(CHUNK * dtype.byte_len());
    chunks.map(|chunk| fast::count_exponents(dtype, chunk)).reduce(|| [0; 256], add_counts)
}

/// Counts the symbols of `matrix`, in parallel, with `filler` as the coded bits of exceptions and padding.
pub fn symbol_counts(matrix: Matrix<'_>, split: Split, filler: u8) -> [u64; SYMBOLS] {
    let tiles = matrix.grid().tiles().expect("a matrix in memory has a countable number of tiles");
    let counts = |tile| fast::count_symbols(matrix, split, filler, tile);
    (0..tiles).into_par_iter().map(counts).reduce(|| [0; SYMBOLS], add_counts)
}

/// Adds counts.
pub fn add_counts(mut a: [u64; 256], b: [u64; 256]) -> [u64; 256] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

/// Coding options of a matrix, as requested by the caller.
#[derive(Clone, Copy, Debug)]
pub struct CodingRequest {
    /// Element type of the matrix.
    pub dtype: Dtype,
    /// Number of weights per symbol. Only integers can have four.
    pub weights_per_symbol: WeightsPerSymbol,
    /// Number of raw bits of integers; `None` to let the encoder choose.
    pub raw_bits: Option<u8>,
}

/// Chooses the split of weights with these counts of exponents. Returns it with the count of each value of the coded
/// bits and the number of exceptions; `None` if four weights per symbol would leave too many exceptions.
pub fn choose_split(
    request: CodingRequest,
    counts: &[u64; 256],
) -> Option<(Split, [u64; 16], u64)> {
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

/// Returns the value of the coded bits with the highest count, the lowest of equals.
pub fn most_frequent(coded: &[u64; 16]) -> u8 {
    let filler = (0..coded.len()).max_by_key(|&n| (coded[n], core::cmp::Reverse(n)));
    filler.expect("there are sixteen") as u8
}

/// Returns the split of a floating-point type whose window leaves the fewest exceptions.
fn best_window(dtype: Dtype, counts: &[u64; 256]) -> Split {
    let windows = [false, true]
        .into_iter()
        .flat_map(|zero| (0..=u8::MAX).filter_map(move |base| Split::window(dtype, base, zero)));
    windows.min_by_key(|&split| coded_counts(split, counts).1).expect("there are windows")
}

/// Chooses the split of integers. With two weights per symbol, the size decides. With four, which callers request for
/// speed, it is the narrowest split with few exceptions, if there is one.
fn best_raw_bits(weights_per_symbol: WeightsPerSymbol, counts: &[u64; 256]) -> Option<Split> {
    match weights_per_symbol {
        WeightsPerSymbol::Two => Some(smallest_code(counts)),
        WeightsPerSymbol::Four => few_exceptions(counts),
    }
}

/// Returns the narrowest split of four weights per symbol with at most one exception in [`WEIGHTS_PER_EXCEPTION`]
/// weights.
fn few_exceptions(counts: &[u64; 256]) -> Option<Split> {
    let limit = counts.iter().sum::<u64>() / WEIGHTS_PER_EXCEPTION;
    Split::all_i8(WeightsPerSymbol::Four).find(|&split| coded_counts(split, counts).1 <= limit)
}

/// Returns the split of two weights per symbol with the lowest cost: size, plus the time of exceptions. Integers of
/// four bits always get the split without raw bits, since they may have groups.
fn smallest_code(counts: &[u64; 256]) -> Split {
    let total = counts.iter().sum::<u64>() as f64;
    let cost = |split: &Split| {
        let (coded, exceptions) = coded_counts(*split, counts);
        let coded = coded_bits(&coded, coded.iter().sum::<u64>() as f64);
        coded
            + total * f64::from(split.raw_bits())
            + exceptions as f64 * (EXCEPTION_BITS + EXCEPTION_TIME_BITS)
    };
    let splits = || Split::all_i8(WeightsPerSymbol::Two);
    let four_bits = splits().next().filter(|&split| coded_counts(split, counts).1 == 0);
    four_bits.unwrap_or_else(|| {
        splits().min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("there are splits")
    })
}

/// Counts the values of the coded bits, and the exceptions.
fn coded_counts(split: Split, counts: &[u64; 256]) -> ([u64; 16], u64) {
    let (mut coded, mut exceptions) = ([0; 16], 0);
    for (exponent, &count) in (0..=u8::MAX).zip(counts) {
        // All weights with this exponent have the same coded bits.
        let bits = split.coded(split.dtype().with_exponent(exponent));
        if bits < split.weights_per_symbol().values() {
            coded[usize::from(bits)] += count;
        } else {
            exceptions += count;
        }
    }
    (coded, exceptions)
}
