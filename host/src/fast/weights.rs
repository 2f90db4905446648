//! The weights of a slab, row by row, split into nibbles and raw bits.

use super::{Symbols, planes};
use crate::codec::Matrix;
use fused_rans_layout::{
    Dtype, FRAGMENT, SLAB_STRIPS, SYMBOLS_PER_FRAGMENT, SlabShape, Split, TILE, TileEntry,
    matrix_column, symbol_position,
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

/// Nibbles and raw bits of the weights of a slab.
#[derive(Debug)]
pub struct SlabWeights {
    /// The nibbles; padding and exceptions have the filler.
    pub nibbles: [[u8; TILE]; ROWS],
    /// The raw bits; padding has zeros.
    pub raw: [[u16; TILE]; ROWS],
}

impl SlabWeights {
    /// All zero.
    pub fn new() -> Self {
        Self { nibbles: [[0; TILE]; ROWS], raw: [[0; TILE]; ROWS] }
    }

    /// Loads the nibbles of a slab of `matrix` and adds the exceptions among its weights, row by row.
    #[inline(always)]
    pub fn load_nibbles(
        &mut self,
        matrix: Matrix<'_>,
        split: Split,
        filler: u8,
        tile: usize,
        slab: usize,
        exceptions: &mut Vec<u32>,
    ) {
        let shape = matrix.grid().shape(tile).slab(slab);
        for (row, nibbles) in self.nibbles.iter_mut().enumerate() {
            let weights = matrix.tile_row(tile, slab * ROWS + row);
            let count = weights.len() / split.dtype().bytes();
            nibbles[count..].fill(filler);
            let nibbles = &mut nibbles[..count];
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                for_each_weight(TYPE, weights, nibbles, |weight, nibble| {
                    *nibble = split.nibble(weight);
                });
            });
            if nibbles.iter().fold(0, |max, &n| max.max(n)) > 15 {
                let outside = nibbles.iter_mut().enumerate().filter(|(_, n)| **n > 15);
                for (col, nibble) in outside {
                    let weight = matrix.weight(weights, col);
                    exceptions.push(TileEntry::exception(shape.place(row, col), weight));
                    *nibble = filler;
                }
            }
        }
    }

    /// Loads the raw bits of a slab of `matrix`.
    #[inline(always)]
    pub fn load_raw(&mut self, matrix: Matrix<'_>, split: Split, tile: usize, slab: usize) {
        for (r, raw) in self.raw.iter_mut().enumerate() {
            let weights = matrix.tile_row(tile, slab * ROWS + r);
            let count = weights.len() / split.dtype().bytes();
            raw[count..].fill(0);
            let raw = &mut raw[..count];
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                for_each_weight(TYPE, weights, raw, |weight, raw| *raw = split.raw(weight));
            });
        }
    }

    /// The symbols of rows g and g + 8 of a strip, column by column.
    #[inline(always)]
    pub fn pairs(&self, strip: usize, g: usize) -> [u8; TILE] {
        let (upper, lower) = self.nibbles[strip * FRAGMENT + g..].split_at(8);
        core::array::from_fn(|col| upper[0][col] | lower[0][col] << 4)
    }

    /// Brings the nibbles into the order of the streams.
    #[inline(always)]
    pub fn symbols(&self, shape: SlabShape, symbols: &mut Symbols) {
        for (strip, g) in shape.row_pairs() {
            let pairs = self.pairs(strip, g);
            for (step, columns) in (0..shape.steps).step_by(2).zip(pairs.as_chunks().0) {
                let mut put = |step: usize, by_symbol: [[u8; 4]; SYMBOLS_PER_FRAGMENT]| {
                    let first = (step * shape.strips + strip) * SYMBOLS_PER_FRAGMENT;
                    for (symbols, lanes) in symbols[first..].iter_mut().zip(by_symbol) {
                        symbols[4 * g..4 * g + 4].copy_from_slice(&lanes);
                    }
                };
                if step + 1 < shape.steps {
                    let [even, odd] = by_symbol::<2>(columns);
                    put(step, even);
                    put(step + 1, odd);
                } else {
                    let [last] = by_symbol::<1>(columns);
                    put(step, last);
                }
            }
        }
    }

    /// Brings decoded symbols and stored raw planes into rows. Given as a constant, `shape` makes that
    /// faster.
    #[inline(always)]
    pub fn set(&mut self, shape: SlabShape, split: Split, symbols: &Symbols, planes: &[u8]) {
        self.set_nibbles(shape, symbols);
        planes::unpack(shape, split.raw_bits(), planes, &mut self.raw);
    }

    /// Brings decoded symbols into rows.
    #[inline(always)]
    fn set_nibbles(&mut self, shape: SlabShape, symbols: &Symbols) {
        for (strip, g) in shape.row_pairs() {
            let mut pairs = [0; TILE];
            for (step, columns) in (0..shape.steps).step_by(2).zip(pairs.as_chunks_mut().0) {
                let get = |step: usize| -> [[u8; 4]; SYMBOLS_PER_FRAGMENT] {
                    let first = (step * shape.strips + strip) * SYMBOLS_PER_FRAGMENT;
                    let at = &symbols[first..][..SYMBOLS_PER_FRAGMENT];
                    core::array::from_fn(|symbol| core::array::from_fn(|t| at[symbol][4 * g + t]))
                };
                *columns = if step + 1 < shape.steps {
                    by_column([get(step), get(step + 1)])
                } else {
                    by_column([get(step)])
                };
            }
            let (upper, lower) = self.nibbles[strip * FRAGMENT + g..].split_at_mut(8);
            for ((upper, lower), pair) in upper[0].iter_mut().zip(&mut lower[0]).zip(pairs) {
                *upper = pair & 15;
                *lower = pair >> 4;
            }
        }
    }

    /// Joins nibbles and raw bits into `out`, one slice a row.
    #[inline(always)]
    pub fn store(&self, split: Split, out: &mut [&mut [u8]]) {
        for ((out, nibbles), raw) in out.iter_mut().zip(&self.nibbles).zip(&self.raw) {
            let parts = nibbles.iter().zip(raw);
            by_type!(split.dtype(), TYPE => {
                let split = split.of_type(TYPE);
                if TYPE.bytes() == 2 {
                    for (weight, (&nibble, &raw)) in out.as_chunks_mut().0.iter_mut().zip(parts) {
                        *weight = split.join(nibble, raw).to_le_bytes();
                    }
                } else {
                    for (weight, (&nibble, &raw)) in out.iter_mut().zip(parts) {
                        *weight = split.join(nibble, raw) as u8;
                    }
                }
            });
        }
    }
}

/// The columns of two steps, or of one that has no partner and half as many.
type Columns = [u8; 2 * FRAGMENT];

/// The pairs of the columns of `STEPS` steps by step, symbol and lane of four: [`symbol_position`]
/// for one row.
#[inline(always)]
fn by_symbol<const STEPS: usize>(pairs: &Columns) -> [[[u8; 4]; SYMBOLS_PER_FRAGMENT]; STEPS] {
    let pair = |step, symbol, t| pairs[matrix_column(STEPS, step, symbol_position(t, symbol).1)];
    core::array::from_fn(|step| {
        core::array::from_fn(|symbol| core::array::from_fn(|t| pair(step, symbol, t)))
    })
}

/// Undoes [`by_symbol`].
#[inline(always)]
fn by_column<const STEPS: usize>(symbols: [[[u8; 4]; SYMBOLS_PER_FRAGMENT]; STEPS]) -> Columns {
    let mut pairs = [0; 2 * FRAGMENT];
    for (step, symbols) in symbols.into_iter().enumerate() {
        for (symbol, lanes) in symbols.into_iter().enumerate() {
            for (t, pair) in lanes.into_iter().enumerate() {
                pairs[matrix_column(STEPS, step, symbol_position(t, symbol).1)] = pair;
            }
        }
    }
    pairs
}

/// Calls `f` for every weight in `weights` with the place of its part.
#[inline(always)]
pub fn for_each_weight<T>(dtype: Dtype, weights: &[u8], parts: &mut [T], f: impl Fn(u16, &mut T)) {
    if dtype.bytes() == 2 {
        for (&weight, part) in weights.as_chunks().0.iter().zip(parts) {
            f(u16::from_le_bytes(weight), part);
        }
    } else {
        for (&weight, part) in weights.iter().zip(parts) {
            f(weight.into(), part);
        }
    }
}
