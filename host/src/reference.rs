//! The reference codec: plain and obvious, bit by bit, the oracle of every test.
//!
//! One tile at a time, one weight at a time, straight from the definitions in `docs/format.md`.
//! With the fast codec it shares the layout's maps, the choice of split and frequencies for given
//! counts, the decode table and what surrounds the tiles; it counts, codes, packs, writes and reads
//! by itself.

use crate::codec::{Matrix, assemble};
use crate::model::Model;
use crate::{Blob, BlobError, Frequencies};
use fused_rans_layout::{
    Entry, FRAGMENT, LANES, LINE, PROB_BITS, Plane, SLAB_STRIPS, SYMBOLS, SlabShape, Split, TABLE,
    TileEntry, TileKind, TileShape, exchange_signs, planes, register_position,
};

/// Compresses `matrix`; `None` if that would not make it smaller.
#[must_use]
pub fn encode(matrix: Matrix<'_>) -> Option<Vec<u8>> {
    if matrix.data().is_empty() {
        return None;
    }
    let tiles = 0..matrix.grid().tiles()?;
    let mut exponents = [0; 256];
    for weight in matrix.data().chunks_exact(matrix.dtype().bytes()) {
        let weight = matrix.weight(weight, 0);
        exponents[usize::from(matrix.dtype().exponent(weight))] += 1;
    }
    let model = Model::new(matrix.dtype(), &exponents, |split, filler| {
        let mut counts = [0; SYMBOLS];
        let slabs = tiles.clone().flat_map(|tile| tile_symbols(matrix, split, filler, tile));
        slabs.flatten().flatten().for_each(|symbol| counts[usize::from(symbol)] += 1);
        counts
    });
    let states = symbol_states(&model.frequencies);
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
        blob.tile(tile)?; // checksum and structure
        let (entry, shape) = (&blob.index()[tile], grid.shape(tile));
        let payload = blob.payload(entry);
        let weights = if entry.kind == TileKind::Raw as u8 {
            payload.chunks_exact(bytes).map(little_endian).collect()
        } else {
            decode_tile(entry, payload, shape, split, &table)
        };
        for (row, weights) in weights.chunks_exact(shape.cols).take(shape.rows).enumerate() {
            let start = ((first_row + row) * grid.cols + first_col) * bytes;
            let places = out[start..].chunks_exact_mut(bytes);
            for (place, weight) in places.zip(weights) {
                place.copy_from_slice(&u32::to_le_bytes(*weight)[..bytes]);
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

/// The weight at (`row`, `col`) of a tile; `None` for padding.
fn weight_at(matrix: Matrix<'_>, tile: usize, row: usize, col: usize) -> Option<u16> {
    let shape = matrix.grid().shape(tile);
    let inside = row < shape.rows && col < shape.cols;
    inside.then(|| matrix.weight(matrix.tile_row(tile, row), col))
}

/// The symbols of a tile: of each slab, of each lane, in stream order.
fn tile_symbols(matrix: Matrix<'_>, split: Split, filler: u8, tile: usize) -> Vec<Vec<Vec<u8>>> {
    let shape = matrix.grid().shape(tile);
    let slab_symbols = |slab: usize| {
        let mut symbols = vec![vec![0u8; shape.slab(slab).symbols()]; LANES];
        for (place, row, col) in places(shape.slab(slab)) {
            let weight = weight_at(matrix, tile, slab * SLAB_STRIPS * FRAGMENT + row, col);
            let nibble = weight.map_or(filler, |weight| split.nibble(weight));
            let nibble = if nibble < 16 { nibble } else { filler };
            let (symbol, half) = place.symbol();
            symbols[place.lane][symbol] |= nibble << (4 * half);
        }
        symbols
    };
    (0..shape.slabs()).map(slab_symbols).collect()
}

fn encode_tile(
    matrix: Matrix<'_>,
    model: &Model,
    states: &[Vec<usize>],
    tile: usize,
) -> (TileEntry, Vec<u8>) {
    let (shape, split) = (matrix.grid().shape(tile), model.split);
    let mut slabs = Vec::new();
    for (slab, symbols) in tile_symbols(matrix, split, model.filler, tile).iter().enumerate() {
        let raw = |row, col| {
            let weight = weight_at(matrix, tile, slab * SLAB_STRIPS * FRAGMENT + row, col);
            weight.map_or(0, |weight| split.raw(weight))
        };
        let raw = pack_planes(shape.slab(slab), split.raw_bits(), raw);
        slabs.push((raw, symbols.iter().map(|symbols| encode_stream(states, symbols)).collect()));
    }
    let mut exceptions = Vec::new();
    for (row, col) in (0..shape.rows).flat_map(|row| (0..shape.cols).map(move |col| (row, col))) {
        let weight = weight_at(matrix, tile, row, col).expect("inside the tile");
        if split.nibble(weight) > 15 {
            exceptions.push(TileEntry::exception(row, col, weight));
        }
    }
    write_payload(&slabs, &exceptions, matrix.tile_bytes(tile))
}

/// Writes a tile, of each slab the raw words and the lanes' streams; or `weights`, if that takes no
/// more lines.
fn write_payload(
    slabs: &[(Vec<u32>, Vec<Vec<u32>>)],
    exceptions: &[u32],
    weights: Vec<u8>,
) -> (TileEntry, Vec<u8>) {
    let mut entry = TileEntry { kind: TileKind::Coded as u8, ..TileEntry::default() };
    let (mut raw, mut full, mut masks, mut tails) = (vec![], vec![], vec![], vec![]);
    for (slab, (planes, streams)) in slabs.iter().enumerate() {
        raw.extend_from_slice(planes);
        let mut whole = true;
        for row in 0..streams.iter().map(Vec::len).max().expect("there are 32") {
            // A lane has a word here if this or a later one is not zero.
            let present = |stream: &&Vec<u32>| stream.iter().skip(row).any(|&word| word != 0);
            let word = |stream: &Vec<u32>| stream.get(row).copied().unwrap_or(0);
            whole &= streams.iter().filter(present).count() >= 31;
            if whole {
                full.extend(streams.iter().map(word));
                entry.full_rows[slab] += 1;
            } else {
                let bit = |lane: usize| u32::from(present(&&streams[lane])) << lane;
                masks.push((0..LANES).map(bit).sum());
                tails.extend(streams.iter().filter(present).map(word));
                entry.tail_rows[slab] += 1;
            }
        }
    }
    let parts: [&[u32]; 5] = [&raw, &full, &masks, &tails, exceptions];
    let mut payload: Vec<u8> = parts.concat().into_iter().flat_map(u32::to_le_bytes).collect();
    if payload.len().div_ceil(LINE) < weights.len().div_ceil(LINE) {
        entry.exceptions = exceptions.len() as u16;
    } else {
        (entry, payload) = (TileEntry::default(), weights);
    }
    payload.resize(payload.len().next_multiple_of(LINE), 0);
    entry.lines = (payload.len() / LINE) as u16;
    entry.crc = crc32c::crc32c(&payload);
    (entry, payload)
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

/// The weights of a coded tile, row by row, padding rows included.
fn decode_tile(
    entry: &TileEntry,
    payload: &[u8],
    shape: TileShape,
    split: Split,
    table: &[Entry; TABLE],
) -> Vec<u32> {
    let words: Vec<u32> = payload.chunks_exact(4).map(little_endian).collect();
    let mut rest = words.as_slice();
    let mut take = |count: usize| rest.split_off(..count).expect("the structure was checked");
    let per_slab = |f: &dyn Fn(usize) -> usize| (0..shape.slabs()).map(f).collect::<Vec<_>>();
    let slab_words = |slab| shape.slab(slab).raw_bytes(split.raw_bits()) / 4;
    let raw: Vec<_> = per_slab(&slab_words).into_iter().map(&mut take).collect();
    let full_words = |slab| LANES * usize::from(entry.full_rows[slab]);
    let full: Vec<_> = per_slab(&full_words).into_iter().map(&mut take).collect();
    let mask_words = |slab| usize::from(entry.tail_rows[slab]);
    let masks: Vec<_> = per_slab(&mask_words).into_iter().map(&mut take).collect();
    let mut weights = vec![0; shape.strips() * FRAGMENT * shape.cols];
    for (slab, part) in weights.chunks_mut(SLAB_STRIPS * FRAGMENT * shape.cols).enumerate() {
        let mut streams: Vec<Vec<u32>> = vec![vec![]; LANES];
        for row in full[slab].chunks(LANES) {
            streams.iter_mut().zip(row).for_each(|(stream, &word)| stream.push(word));
        }
        for mask in masks[slab] {
            for (lane, stream) in streams.iter_mut().enumerate() {
                stream.push(if mask >> lane & 1 == 1 { take(1)[0] } else { 0 });
            }
        }
        decode_slab(&streams, raw[slab], shape.slab(slab), split, table, part);
    }
    for &record in take(entry.exceptions.into()) {
        let (row, col, weight) = TileEntry::exception_fields(record);
        weights[row * shape.cols + col] = weight.into();
    }
    weights
}

fn decode_slab(
    streams: &[Vec<u32>],
    raw: &[u32],
    shape: SlabShape,
    split: Split,
    table: &[Entry; TABLE],
    weights: &mut [u32],
) {
    let cols = weights.len() / (shape.strips * FRAGMENT);
    let symbols = streams.iter().map(|stream| decode_stream(table, stream, shape.symbols()));
    let symbols: Vec<Vec<u8>> = symbols.collect();
    for (place, row, col) in places(shape).filter(|&(_, _, col)| col < cols) {
        let (symbol, half) = place.symbol();
        let nibble = symbols[place.lane][symbol] >> (4 * half) & 15;
        let raw = raw_at(shape, split.raw_bits(), raw, &place);
        weights[row * cols + col] = split.join(nibble, raw).into();
    }
}

/// A number of up to four bytes.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
