//! Weights of a slab, row by row, split into coded and raw bits.

use super::count::Counter;
use super::{Symbols, planes};
use crate::Matrix;
use fused_rans_layout::{
    Dtype, FRAGMENT, SLAB_ROWS, SlabShape, Split, TILE, TileEntry, WeightsPerSymbol, matrix_column,
};

/// Compiles a loop once for each element type: `$constant` is the type as a constant in `$body`. This is a macro,
/// because a closure would not be compiled for the instruction set of its caller.
macro_rules! by_type {
    ($dtype:expr, $constant:ident => $body:expr) => {
        match $dtype {
            Dtype::Bf16 => {
                const $constant: Dtype = Dtype::Bf16;
                $body
            }
            Dtype::F16 => {
                const $constant: Dtype = Dtype::F16;
                $body
            }
            Dtype::F8E4M3 => {
                const $constant: Dtype = Dtype::F8E4M3;
                $body
            }
            Dtype::I8 => {
                const $constant: Dtype = Dtype::I8;
                $body
            }
        }
    };
}
pub(super) use by_type;

/// Coded and raw bits of the weights of a slab.
#[derive(Debug)]
pub struct SlabWeights {
    /// Coded bits. Padding and exceptions have the filler.
    pub coded: [[u8; TILE]; SLAB_ROWS],
    /// Raw bits. Padding has zeros.
    pub raw: [[u16; TILE]; SLAB_ROWS],
}

impl SlabWeights {
    /// Creates a slab of zeros.
    pub fn new() -> Self {
        Self { coded: [[0; TILE]; SLAB_ROWS], raw: [[0; TILE]; SLAB_ROWS] }
    }

    /// Loads the coded bits of a slab of `matrix`, and appends the records of its exceptions, row by row.
    #[inline(always)]
    pub fn load_coded(
        &mut self,
        matrix: Matrix<'_>,
        split: Split,
        filler: u8,
        tile: usize,
        slab: usize,
        exceptions: &mut Vec<u32>,
    ) {
        let shape = matrix.grid().shape(tile).slab(slab);
        for (row, coded) in self.coded.iter_mut().enumerate() {
            let weights = matrix.tile_row(tile, slab * SLAB_ROWS + row);
            let count = weights.len() / split.dtype().byte_len();
            coded[count..].fill(filler);
            let coded = &mut coded[..count];
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                for_each_weight(TYPE, weights, coded, |weight, bits| {
                    *bits = split.coded(weight);
                });
            });
            let values = split.weights_per_symbol().values();
            if coded.iter().fold(0, |max, &bits| max.max(bits)) >= values {
                let outside = coded.iter_mut().enumerate().filter(|(_, bits)| **bits >= values);
                for (col, bits) in outside {
                    let weight = matrix.weight(weights, col);
                    exceptions.push(TileEntry::exception(shape.place(row, col), weight));
                    *bits = filler;
                }
            }
        }
    }

    /// Loads the raw bits of a slab of `matrix`.
    #[inline(always)]
    pub fn load_raw(&mut self, matrix: Matrix<'_>, split: Split, tile: usize, slab: usize) {
        for (row, raw) in self.raw.iter_mut().enumerate() {
            let weights = matrix.tile_row(tile, slab * SLAB_ROWS + row);
            let count = weights.len() / split.dtype().byte_len();
            raw[count..].fill(0);
            let raw = &mut raw[..count];
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                for_each_weight(TYPE, weights, raw, |weight, raw| *raw = split.raw(weight));
            });
        }
    }

    /// Returns the symbols of rows g and g + 8 of a strip, each at the index of its first column.
    #[inline(always)]
    fn row_pair_symbols(
        &self,
        weights_per_symbol: WeightsPerSymbol,
        strip: usize,
        g: usize,
    ) -> [u8; TILE] {
        let (upper, lower) = self.coded[strip * FRAGMENT + g..].split_at(8);
        let pair = |col: usize| upper[0][col] | lower[0][col] << weights_per_symbol.bits();
        match weights_per_symbol {
            WeightsPerSymbol::Two => core::array::from_fn(pair),
            WeightsPerSymbol::Four => core::array::from_fn(|col| pair(col) | pair(col | 1) << 4),
        }
    }

    /// Adds the symbols of the slab to `counter`.
    #[inline(always)]
    pub fn count(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        counter: &mut Counter,
    ) {
        for (strip, g) in shape.row_pairs() {
            let symbols =
                &self.row_pair_symbols(weights_per_symbol, strip, g)[..shape.steps * FRAGMENT];
            match weights_per_symbol {
                WeightsPerSymbol::Two => counter.add(symbols),
                WeightsPerSymbol::Four => {
                    let (pairs, mut even) = (symbols.as_chunks().0, [0; TILE / 2]);
                    even.iter_mut().zip(pairs).for_each(|(symbol, &[first, _])| *symbol = first);
                    counter.add(&even[..pairs.len()]);
                }
            }
        }
    }

    /// Converts the coded bits to symbols in stream order.
    #[inline(always)]
    pub fn write_symbols(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &mut Symbols,
    ) {
        match weights_per_symbol {
            WeightsPerSymbol::Two => {
                self.write_lane_symbols::<4>(shape, weights_per_symbol, symbols)
            }
            WeightsPerSymbol::Four => {
                self.write_lane_symbols::<2>(shape, weights_per_symbol, symbols)
            }
        }
    }

    /// Converts the coded bits to symbols in stream order: a lane has `PER` symbols per fragment.
    #[inline(always)]
    fn write_lane_symbols<const PER: usize>(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &mut Symbols,
    ) {
        for (strip, g) in shape.row_pairs() {
            let pair_symbols = self.row_pair_symbols(weights_per_symbol, strip, g);
            for (step, columns) in (0..shape.steps).step_by(2).zip(pair_symbols.as_chunks().0) {
                let mut put = |step: usize, by_symbol: [[u8; 4]; PER]| {
                    let first = (step * shape.strips + strip) * PER;
                    for (symbols, lanes) in symbols[first..].iter_mut().zip(by_symbol) {
                        symbols[4 * g..4 * g + 4].copy_from_slice(&lanes);
                    }
                };
                if step + 1 < shape.steps {
                    let [even, odd] = by_symbol::<PER, 2>(weights_per_symbol, columns);
                    put(step, even);
                    put(step + 1, odd);
                } else {
                    let [last] = by_symbol::<PER, 1>(weights_per_symbol, columns);
                    put(step, last);
                }
            }
        }
    }

    /// Loads decoded symbols and stored raw planes into rows. A constant `shape` makes it faster.
    #[inline(always)]
    pub fn load_decoded(
        &mut self,
        shape: SlabShape,
        split: Split,
        symbols: &Symbols,
        planes: &[u8],
    ) {
        match split.weights_per_symbol() {
            WeightsPerSymbol::Two => self.load_symbols::<4>(shape, WeightsPerSymbol::Two, symbols),
            WeightsPerSymbol::Four => {
                self.load_symbols::<2>(shape, WeightsPerSymbol::Four, symbols)
            }
        }
        planes::unpack(shape, split.raw_bits(), planes, &mut self.raw);
    }

    /// Loads decoded symbols into rows: a lane has `PER` symbols per fragment.
    #[inline(always)]
    fn load_symbols<const PER: usize>(
        &mut self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &Symbols,
    ) {
        for (strip, g) in shape.row_pairs() {
            let mut pair_symbols = [0; TILE];
            for (step, columns) in (0..shape.steps).step_by(2).zip(pair_symbols.as_chunks_mut().0) {
                let get = |step: usize| -> [[u8; 4]; PER] {
                    let first = (step * shape.strips + strip) * PER;
                    let own = &symbols[first..][..PER];
                    core::array::from_fn(|symbol| core::array::from_fn(|t| own[symbol][4 * g + t]))
                };
                *columns = if step + 1 < shape.steps {
                    by_column(weights_per_symbol, [get(step), get(step + 1)])
                } else {
                    by_column(weights_per_symbol, [get(step)])
                };
            }
            let (upper, lower) = self.coded[strip * FRAGMENT + g..].split_at_mut(8);
            for (col, (upper, lower)) in upper[0].iter_mut().zip(&mut lower[0]).enumerate() {
                let pair = match weights_per_symbol {
                    WeightsPerSymbol::Two => pair_symbols[col],
                    WeightsPerSymbol::Four => pair_symbols[col & !1] >> (4 * (col & 1)) & 15,
                };
                *upper = pair & (weights_per_symbol.values() - 1);
                *lower = pair >> weights_per_symbol.bits();
            }
        }
    }

    /// Joins coded and raw bits to weights in `out`, one slice per row.
    #[inline(always)]
    pub fn store(&self, split: Split, out: &mut [&mut [u8]]) {
        for ((out, coded), raw) in out.iter_mut().zip(&self.coded).zip(&self.raw) {
            let parts = coded.iter().zip(raw);
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                if TYPE.byte_len() == 2 {
                    for (weight, (&coded, &raw)) in out.as_chunks_mut().0.iter_mut().zip(parts) {
                        *weight = split.join(coded, raw).to_le_bytes();
                    }
                } else {
                    for (weight, (&coded, &raw)) in out.iter_mut().zip(parts) {
                        *weight = split.join(coded, raw) as u8;
                    }
                }
            });
        }
    }
}

/// Symbols at the columns of a pair of steps. A last step without a partner uses half of them.
type Columns = [u8; 2 * FRAGMENT];

/// Sorts the symbols at the columns of `STEPS` steps by step, symbol and lane of four: [`WeightsPerSymbol::position`]
/// for one row.
#[inline(always)]
fn by_symbol<const PER: usize, const STEPS: usize>(
    weights_per_symbol: WeightsPerSymbol,
    columns: &Columns,
) -> [[[u8; 4]; PER]; STEPS] {
    let col =
        |step, symbol, t| matrix_column(STEPS, step, weights_per_symbol.position(t, symbol).1);
    core::array::from_fn(|step| {
        core::array::from_fn(|symbol| core::array::from_fn(|t| columns[col(step, symbol, t)]))
    })
}

/// Undoes [`by_symbol`].
#[inline(always)]
fn by_column<const PER: usize, const STEPS: usize>(
    weights_per_symbol: WeightsPerSymbol,
    symbols: [[[u8; 4]; PER]; STEPS],
) -> Columns {
    let mut columns = [0; 2 * FRAGMENT];
    for (step, symbols) in symbols.into_iter().enumerate() {
        for (symbol, lanes) in symbols.into_iter().enumerate() {
            for (t, value) in lanes.into_iter().enumerate() {
                columns[matrix_column(STEPS, step, weights_per_symbol.position(t, symbol).1)] =
                    value;
            }
        }
    }
    columns
}

/// Calls `f` for every weight in `weights`, with the element of `parts` at the same index.
#[inline(always)]
pub fn for_each_weight<T>(dtype: Dtype, weights: &[u8], parts: &mut [T], f: impl Fn(u16, &mut T)) {
    if dtype.byte_len() == 2 {
        for (&weight, part) in weights.as_chunks().0.iter().zip(parts) {
            f(u16::from_le_bytes(weight), part);
        }
    } else {
        for (&weight, part) in weights.iter().zip(parts) {
            f(weight.into(), part);
        }
    }
}
