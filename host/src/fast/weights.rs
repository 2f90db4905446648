//! The weights of a slab, row by row, split into nibbles and raw bits.

use super::Symbols;
use crate::codec::Matrix;
use fused_rans_layout::{
    Dtype, FRAGMENT, SLAB_STRIPS, SYMBOLS_PER_FRAGMENT, SlabShape, Split, TILE, TileEntry,
    symbol_of, symbol_position,
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

    /// Loads the nibbles of a slab of `matrix` and adds the exceptions among its weights.
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
        for (r, nibbles) in self.nibbles.iter_mut().enumerate() {
            let row = slab * ROWS + r;
            let weights = matrix.tile_row(tile, row);
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
                    exceptions.push(TileEntry::exception(row, col, weight));
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
            for (step, pairs) in
                self.pairs(strip, g).as_chunks().0[..shape.steps].iter().enumerate()
            {
                let fragment = step * shape.strips + strip;
                let at = &mut symbols[fragment * SYMBOLS_PER_FRAGMENT..][..SYMBOLS_PER_FRAGMENT];
                for (symbols, lanes) in at.iter_mut().zip(by_symbol(pairs)) {
                    symbols[4 * g..4 * g + 4].copy_from_slice(&lanes);
                }
            }
        }
    }

    /// Brings decoded symbols into rows.
    #[inline(always)]
    pub fn set_nibbles(&mut self, shape: SlabShape, symbols: &Symbols) {
        for (strip, g) in shape.row_pairs() {
            let mut pairs = [0; TILE];
            for (step, pairs) in pairs.as_chunks_mut().0[..shape.steps].iter_mut().enumerate() {
                let fragment = step * shape.strips + strip;
                let at = &symbols[fragment * SYMBOLS_PER_FRAGMENT..][..SYMBOLS_PER_FRAGMENT];
                *pairs = by_column(core::array::from_fn(|symbol| {
                    core::array::from_fn(|t| at[symbol][4 * g + t])
                }));
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

/// The pairs of 16 columns by symbol and by lane of four: [`symbol_position`] for one row.
#[inline(always)]
fn by_symbol(pairs: &[u8; FRAGMENT]) -> [[u8; 4]; SYMBOLS_PER_FRAGMENT] {
    core::array::from_fn(|symbol| core::array::from_fn(|t| pairs[symbol_position(t, symbol).1]))
}

/// Undoes [`by_symbol`].
#[inline(always)]
fn by_column(symbols: [[u8; 4]; SYMBOLS_PER_FRAGMENT]) -> [u8; FRAGMENT] {
    core::array::from_fn(|col| {
        let (t, symbol) = symbol_of(0, col);
        symbols[symbol][t]
    })
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
