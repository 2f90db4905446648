//! The weights of a slab, row by row, split into coded and raw bits.

use super::count::Counter;
use super::{Symbols, planes};
use crate::Matrix;
use fused_rans_layout::{
    Dtype, FRAGMENT, SLAB_STRIPS, SlabShape, Split, TILE, TileEntry, WeightsPerSymbol,
    matrix_column,
};

/// Compiles a loop once for each type: `constant` is the type as a constant in `body`. A macro, since
/// a closure would not be compiled for the instructions that its caller is compiled for.
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

const ROWS: usize = SLAB_STRIPS * FRAGMENT;

/// Coded and raw bits of the weights of a slab.
#[derive(Debug)]
pub struct SlabWeights {
    /// The coded bits; padding and exceptions have the filler.
    pub coded: [[u8; TILE]; ROWS],
    /// The raw bits; padding has zeros.
    pub raw: [[u16; TILE]; ROWS],
}

impl SlabWeights {
    /// All zero.
    pub fn new() -> Self {
        Self { coded: [[0; TILE]; ROWS], raw: [[0; TILE]; ROWS] }
    }

    /// Loads the coded bits of a slab of `matrix` and adds the exceptions among its weights, row by row.
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
            let weights = matrix.tile_row(tile, slab * ROWS + row);
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
        for (r, raw) in self.raw.iter_mut().enumerate() {
            let weights = matrix.tile_row(tile, slab * ROWS + r);
            let count = weights.len() / split.dtype().byte_len();
            raw[count..].fill(0);
            let raw = &mut raw[..count];
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                for_each_weight(TYPE, weights, raw, |weight, raw| *raw = split.raw(weight));
            });
        }
    }

    /// The symbols of rows g and g + 8 of a strip, at their first columns.
    #[inline(always)]
    fn of_rows(&self, weights_per_symbol: WeightsPerSymbol, strip: usize, g: usize) -> [u8; TILE] {
        let (upper, lower) = self.coded[strip * FRAGMENT + g..].split_at(8);
        let pair = |col: usize| upper[0][col] | lower[0][col] << weights_per_symbol.bits();
        match weights_per_symbol {
            WeightsPerSymbol::Two => core::array::from_fn(pair),
            WeightsPerSymbol::Four => core::array::from_fn(|col| pair(col) | pair(col | 1) << 4),
        }
    }

    /// Counts the symbols.
    #[inline(always)]
    pub fn count(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        counter: &mut Counter,
    ) {
        for (strip, g) in shape.row_pairs() {
            let symbols = &self.of_rows(weights_per_symbol, strip, g)[..shape.steps * FRAGMENT];
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

    /// Brings the coded bits into the order of the streams.
    #[inline(always)]
    pub fn symbols(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &mut Symbols,
    ) {
        match weights_per_symbol {
            WeightsPerSymbol::Two => self.symbols_of::<4>(shape, weights_per_symbol, symbols),
            WeightsPerSymbol::Four => self.symbols_of::<2>(shape, weights_per_symbol, symbols),
        }
    }

    /// Likewise, for `PER` symbols of a lane a fragment.
    #[inline(always)]
    fn symbols_of<const PER: usize>(
        &self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &mut Symbols,
    ) {
        for (strip, g) in shape.row_pairs() {
            let of_rows = self.of_rows(weights_per_symbol, strip, g);
            for (step, columns) in (0..shape.steps).step_by(2).zip(of_rows.as_chunks().0) {
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

    /// Brings decoded symbols and stored raw planes into rows. Given as a constant, `shape` makes that
    /// faster.
    #[inline(always)]
    pub fn set(&mut self, shape: SlabShape, split: Split, symbols: &Symbols, planes: &[u8]) {
        match split.weights_per_symbol() {
            WeightsPerSymbol::Two => self.set_coded::<4>(shape, WeightsPerSymbol::Two, symbols),
            WeightsPerSymbol::Four => self.set_coded::<2>(shape, WeightsPerSymbol::Four, symbols),
        }
        planes::unpack(shape, split.raw_bits(), planes, &mut self.raw);
    }

    /// Brings decoded symbols into rows, `PER` of a lane a fragment.
    #[inline(always)]
    fn set_coded<const PER: usize>(
        &mut self,
        shape: SlabShape,
        weights_per_symbol: WeightsPerSymbol,
        symbols: &Symbols,
    ) {
        for (strip, g) in shape.row_pairs() {
            let mut of_rows = [0; TILE];
            for (step, columns) in (0..shape.steps).step_by(2).zip(of_rows.as_chunks_mut().0) {
                let get = |step: usize| -> [[u8; 4]; PER] {
                    let first = (step * shape.strips + strip) * PER;
                    let at = &symbols[first..][..PER];
                    core::array::from_fn(|symbol| core::array::from_fn(|t| at[symbol][4 * g + t]))
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
                    WeightsPerSymbol::Two => of_rows[col],
                    WeightsPerSymbol::Four => of_rows[col & !1] >> (4 * (col & 1)) & 15,
                };
                *upper = pair & (weights_per_symbol.values() - 1);
                *lower = pair >> weights_per_symbol.bits();
            }
        }
    }

    /// Joins coded and raw bits into `out`, one slice a row.
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

/// The columns of two steps, or of one that has no partner and half as many.
type Columns = [u8; 2 * FRAGMENT];

/// The symbols at the columns of `STEPS` steps by step, symbol and lane of four: [`WeightsPerSymbol::position`]
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

/// Calls `f` for every weight in `weights` with the place of its part.
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
