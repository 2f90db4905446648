//! The reference codec: plain and obvious, bit by bit, the oracle of every test.
//!
//! One tile at a time, one weight at a time, straight from the definitions in `docs/format.md`.
//! It shares the layout's maps and the frequency tables with the fast codec, and no loop.

use crate::codec::{Matrix, assemble};
use crate::model::Model;
use crate::tile::{Rows, Slab, Tile, TileWriter, words};
use crate::{Blob, BlobError, Frequencies};
use fused_rans_layout::{
    Entry, FRAGMENT, LANES, PROB_BITS, Plane, SLAB_STRIPS, SlabShape, Split, TABLE, TileEntry,
    exchange_signs, planes, register_position,
};

/// Compresses `matrix`; `None` if that would not make it smaller.
#[must_use]
pub fn encode(matrix: Matrix<'_>) -> Option<Vec<u8>> {
    if matrix.data().is_empty() {
        return None;
    }
    let model = Model::of(matrix);
    let states = symbol_states(&model.frequencies);
    let tiles = 0..matrix.grid().tiles()?;
    let tiles = tiles.map(|tile| encode_tile(matrix, &model, &states, tile)).collect();
    assemble(matrix, &model, tiles)
}

/// Decodes `blob` into row-major weights.
///
/// # Errors
/// [`BlobError::Tile`] for a damaged tile.
pub fn decode(blob: &Blob<'_>) -> Result<Vec<u8>, BlobError> {
    let (grid, split, bytes) = (blob.grid(), blob.split(), blob.dtype().bytes());
    let table = blob.frequencies().decode_table();
    let mut out = vec![0; blob.weight_bytes()];
    for tile in 0..blob.index().len() {
        let (first_row, first_col) = grid.origin(tile);
        let weights = decode_tile(&blob.tile(tile)?, split, &table);
        let shape = grid.shape(tile);
        for (row, weights) in weights.chunks_exact(shape.cols).take(shape.rows).enumerate() {
            let start = ((first_row + row) * grid.cols + first_col) * bytes;
            let places = out[start..].chunks_exact_mut(bytes);
            for (place, weight) in places.zip(weights) {
                place.copy_from_slice(&weight.to_le_bytes()[..bytes]);
            }
        }
    }
    Ok(out)
}

/// Where a weight of a slab is coded.
struct Place {
    fragment: usize,
    lane: usize,
    register: usize,
    half: usize,
}

impl Place {
    /// The symbol of the lane's stream, and the nibble of that symbol.
    fn symbol(&self) -> (usize, usize) {
        (4 * self.fragment + self.register / 2 * 2 + self.half, self.register % 2)
    }
}

/// Every place of a slab with its (row, column) in the slab.
fn places(shape: SlabShape) -> impl Iterator<Item = (Place, usize, usize)> {
    let all = (0..shape.fragments()).flat_map(|f| (0..LANES).map(move |lane| (f, lane)));
    let all = all.flat_map(|(f, lane)| (0..8).map(move |i| (f, lane, i / 2, i % 2)));
    all.map(move |(fragment, lane, register, half)| {
        let (row, col) = register_position(lane, register, half);
        let (step, strip) = (fragment / shape.strips, fragment % shape.strips);
        let place = Place { fragment, lane, register, half };
        (place, strip * FRAGMENT + row, step * FRAGMENT + col)
    })
}

fn encode_tile(
    matrix: Matrix<'_>,
    model: &Model,
    states: &[Vec<usize>],
    tile: usize,
) -> (TileEntry, Vec<u8>) {
    let (shape, split) = (matrix.grid().shape(tile), model.split);
    let weight = |row: usize, col: usize| {
        let inside = row < shape.rows && col < shape.cols;
        inside.then(|| matrix.weight(matrix.tile_row(tile, row), col))
    };
    let mut writer = TileWriter::default();
    for slab in 0..shape.slabs() {
        let slab_shape = shape.slab(slab);
        let first_row = slab * SLAB_STRIPS * FRAGMENT;
        let mut symbols = vec![vec![0u8; slab_shape.symbols()]; LANES];
        for (place, row, col) in places(slab_shape) {
            let nibble = weight(first_row + row, col).map_or(model.filler, |w| split.nibble(w));
            let nibble = if nibble < 16 { nibble } else { model.filler };
            let (symbol, half) = place.symbol();
            symbols[place.lane][symbol] |= nibble << (4 * half);
        }
        let raw_bits = |row, col| weight(first_row + row, col).map_or(0, |w| split.raw(w));
        let raw = pack_planes(slab_shape, split.raw_bits(), raw_bits);
        let (mut rows, mut lengths): (Rows, _) = ([[0; LANES]; 64], [0; LANES]);
        for (lane, symbols) in symbols.iter().enumerate() {
            let stream = encode_stream(states, symbols);
            lengths[lane] = stream.len();
            stream.iter().zip(&mut rows).for_each(|(&word, row)| row[lane] = word);
        }
        writer.slab(&raw, &rows, &lengths);
    }
    let inside = (0..shape.rows).flat_map(|row| (0..shape.cols).map(move |col| (row, col)));
    let inside = inside.map(|(row, col)| (row, col, weight(row, col).expect("inside the tile")));
    let exceptions: Vec<u32> = inside
        .filter(|&(_, _, weight)| split.nibble(weight) > 15)
        .map(|(row, col, weight)| TileEntry::exception(row, col, weight))
        .collect();
    let bytes = shape.weights() * matrix.dtype().bytes();
    writer.finish(&exceptions, bytes, || matrix.tile_bytes(tile))
}

/// The states of each symbol, ascending: sub-state f + k has the k-th.
fn symbol_states(frequencies: &Frequencies) -> Vec<Vec<usize>> {
    let spread = frequencies.spread();
    let states = |symbol: u8| {
        let slots = (0..TABLE).filter(|&slot| spread[slot] == symbol);
        slots.map(|slot| TABLE + slot).collect()
    };
    (0..=u8::MAX).map(states).collect()
}

/// A stream's words: the initial index, then each symbol's bits, the first bit highest.
fn encode_stream(all: &[Vec<usize>], symbols: &[u8]) -> Vec<u32> {
    let (&last, others) = symbols.split_last().expect("a slab has symbols");
    // Of the last symbol's states, the first with the most trailing zeros.
    let zeros = |state: &&usize| state.trailing_zeros();
    let mut state = *all[usize::from(last)].iter().rev().max_by_key(zeros).expect("it occurs");
    let mut bits = Vec::new(); // last bit first
    for &symbol in others.iter().rev() {
        let states = &all[usize::from(symbol)];
        while state >= 2 * states.len() {
            bits.push(state & 1);
            state >>= 1;
        }
        state = states[state - states.len()];
    }
    bits.extend((0..PROB_BITS).map(|bit| (state - TABLE) >> bit & 1));
    bits.reverse();
    let word = |bits: &[usize]| {
        (0..32).fold(0, |word, i| word << 1 | bits.get(i).copied().unwrap_or(0) as u32)
    };
    bits.chunks(32).map(word).collect()
}

/// The first `count` symbols of a stream; beyond its last word a stream is zeros.
fn decode_stream(table: &[Entry; TABLE], words: &[u32], count: usize) -> Vec<u8> {
    let mut bits = words.iter().flat_map(|word| (0..32).rev().map(move |bit| word >> bit & 1));
    let mut take = |n: u32| (0..n).fold(0, |v, _| v << 1 | bits.next().unwrap_or(0));
    let mut index = take(PROB_BITS);
    let mut symbols = Vec::new();
    for _ in 0..count {
        let entry = table[index as usize];
        symbols.push(entry.symbol());
        index = entry.sub() << entry.bits() | take(entry.bits());
    }
    symbols
}

fn pack_planes(shape: SlabShape, raw_bits: u8, raw: impl Fn(usize, usize) -> u16) -> Vec<u32> {
    let mut all = Vec::new();
    for plane in planes(raw_bits) {
        let count = plane.words(shape);
        let mut words = vec![0u32; count * LANES];
        for (place, row, col) in places(shape) {
            let (word, bit) = plane.position(place.fragment, place.register, place.half);
            let bits = u32::from(raw(row, col)) >> plane.shift & ((1 << plane.width) - 1);
            words[Plane::word_offset(count, place.lane, word)] |= bits << bit;
        }
        if plane.width == 8 {
            words.iter_mut().for_each(|word| *word = exchange_signs(*word));
        }
        all.extend(words);
    }
    all
}

/// The raw bits at `place` of a slab's planes.
fn raw_at(shape: SlabShape, raw_bits: u8, stored: &[u32], place: &Place) -> u16 {
    let (mut raw, mut start) = (0, 0);
    for plane in planes(raw_bits) {
        let count = plane.words(shape);
        let (word, bit) = plane.position(place.fragment, place.register, place.half);
        let stored = stored[start + Plane::word_offset(count, place.lane, word)];
        let stored = if plane.width == 8 { exchange_signs(stored) } else { stored };
        raw |= (stored >> bit & ((1 << plane.width) - 1)) << plane.shift;
        start += count * LANES;
    }
    raw as u16
}

/// The weights of a tile, row by row, padding rows included.
fn decode_tile(tile: &Tile<'_>, split: Split, table: &[Entry; TABLE]) -> Vec<u16> {
    let tile = match tile {
        Tile::Coded(tile) => tile,
        Tile::Raw(bytes) if split.dtype().bytes() == 1 => {
            return bytes.iter().map(|&weight| weight.into()).collect();
        }
        Tile::Raw(bytes) => {
            return bytes.as_chunks().0.iter().map(|&weight| u16::from_le_bytes(weight)).collect();
        }
    };
    let cols = tile.shape.cols;
    let mut weights = vec![0; tile.shape.strips() * FRAGMENT * cols];
    for (slab, part) in tile.slabs().zip(weights.chunks_mut(SLAB_STRIPS * FRAGMENT * cols)) {
        decode_slab(&slab, split, table, cols, part);
    }
    for (row, col, weight) in tile.exceptions() {
        weights[row * cols + col] = weight;
    }
    weights
}

fn decode_slab(
    slab: &Slab<'_>,
    split: Split,
    table: &[Entry; TABLE],
    cols: usize,
    weights: &mut [u16],
) {
    let mut rows: Rows = [[0; LANES]; 64];
    slab.expand(&mut rows);
    let raw: Vec<u32> = words(slab.raw).collect();
    let streams: Vec<Vec<u8>> = (0..LANES)
        .map(|lane| rows.iter().map(|row| row[lane]).collect::<Vec<_>>())
        .map(|stream| decode_stream(table, &stream, slab.shape.symbols()))
        .collect();
    for (place, row, col) in places(slab.shape).filter(|&(_, _, col)| col < cols) {
        let (symbol, half) = place.symbol();
        let nibble = streams[place.lane][symbol] >> (4 * half) & 15;
        let raw = raw_at(slab.shape, split.raw_bits(), &raw, &place);
        weights[row * cols + col] = split.join(nibble, raw);
    }
}
