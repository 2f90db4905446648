//! The reference codec: plain and obvious, bit by bit, the oracle of every test.
//!
//! One tile at a time, one weight at a time, straight from the definitions in `docs/format.md`.
//! With the fast codec it shares the layout's maps, the choice of split and frequencies for given
//! counts, the decode table and what surrounds the tiles; it counts, codes, packs, writes and reads
//! by itself.

use core::cmp::Reverse;

use crate::blob::frequencies::{FINAL_STATE_SYMBOLS, FINAL_STATES};
use crate::blob::groups::Groups;
use crate::codec::coding_model::CodingModel;
use crate::{Blob, BlobError, Encoder, Frequencies, Matrix, TileFault};
use fused_rans_layout::{
    Entry, FRAGMENT, GROUP, GROUPS, LANES, LINE, MAX_TAIL_ROWS, PROB_BITS, Place, Plane, SLAB_ROWS,
    SYMBOLS, SlabShape, Split, TABLE, TAIL_LENGTH_BYTES, TileEntry, TileKind, TileShape,
    exchange_signs, planes,
};
use half::f16;

/// Compresses `matrix` to what [`Encoder::encode`] makes of it.
///
/// # Errors
/// Those of [`Encoder::encode`].
pub fn encode(encoder: &Encoder, matrix: Matrix<'_>) -> Result<Blob<'static>, BlobError> {
    let tiles = 0..encoder.check(matrix)?;
    let mut exponents = [0; 256];
    for weight in matrix.as_bytes().chunks_exact(matrix.dtype().byte_len()) {
        let weight = matrix.weight(weight, 0);
        exponents[usize::from(matrix.dtype().exponent(weight))] += 1;
    }
    let model = CodingModel::new(encoder.request(matrix), &exponents, |split, filler| {
        let mut counts = [0; SYMBOLS];
        let slabs = tiles.clone().flat_map(|tile| tile_symbols(matrix, split, filler, tile));
        slabs.flatten().flatten().for_each(|symbol| counts[usize::from(symbol)] += 1);
        counts
    });
    let states = symbol_states(&model.frequencies);
    let tiles = tiles.map(|tile| encode_tile(matrix, &model, &states, tile));
    let tiles = tiles.collect::<Option<_>>().ok_or(BlobError::TooManyLargeIntegers)?;
    encoder.assemble(matrix, &model, tiles)
}

/// Decodes `blob` into row-major weights.
///
/// # Errors
/// [`BlobError::Tile`] for a damaged tile.
pub fn decode(blob: &Blob<'_>) -> Result<Vec<u8>, BlobError> {
    let (grid, split, bytes) = (blob.grid(), blob.split(), blob.dtype().byte_len());
    let table = blob.frequencies().decode_table();
    let mut out = vec![0; blob.decoded_byte_len()];
    for tile in 0..blob.index().len() {
        let (first_row, first_col) = grid.origin(tile);
        blob.tile(tile)?; // checksum and structure
        let (entry, shape) = (&blob.index()[tile], grid.shape(tile));
        let payload = blob.payload(entry);
        let weights = if entry.kind == TileKind::Raw as u8 {
            payload.chunks_exact(bytes).map(little_endian).collect()
        } else {
            let groups = blob.groups().map_or(0, |plane| plane.bytes() * shape.slabs());
            let weights = decode_tile(entry, payload, shape, split, groups, &table);
            weights.ok_or(BlobError::Tile { tile, fault: TileFault::Stream })?
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

/// Every place of a slab in ascending order, with its (row, column) in the slab.
fn places(shape: SlabShape) -> impl Iterator<Item = (Place, usize, usize)> {
    let all = (0..shape.fragments()).flat_map(|f| (0..LANES).map(move |lane| (f, lane)));
    let all = all.flat_map(|(f, lane)| (0..8).map(move |i| (f, lane, i / 2, i % 2)));
    all.map(move |(fragment, lane, register, half)| {
        let place = Place { fragment, lane, register, half };
        let (row, col) = shape.position(place);
        (place, row, col)
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
        let weights_per_symbol = split.weights_per_symbol();
        let mut symbols = vec![vec![0u8; shape.slab(slab).symbols(weights_per_symbol)]; LANES];
        for (place, row, col) in places(shape.slab(slab)) {
            let weight = weight_at(matrix, tile, slab * SLAB_ROWS + row, col);
            let coded = weight.map_or(filler, |weight| split.coded(weight));
            let coded = if coded < weights_per_symbol.values() { coded } else { filler };
            let (symbol, shift) = place.symbol(weights_per_symbol);
            symbols[place.lane][symbol] |= coded << shift;
        }
        symbols
    };
    (0..shape.slabs()).map(slab_symbols).collect()
}

/// What a slab stores.
struct CodedSlab {
    /// Words of the raw planes.
    raw: Vec<u32>,
    /// Words of each lane's stream.
    streams: Vec<Vec<u32>>,
    exceptions: Vec<u32>,
}

fn encode_tile(
    matrix: Matrix<'_>,
    model: &CodingModel,
    states: &[Vec<usize>],
    tile: usize,
) -> Option<(TileEntry, Vec<u8>)> {
    let (shape, split) = (matrix.grid().shape(tile), model.split);
    let mut slabs = Vec::new();
    for (slab, symbols) in tile_symbols(matrix, split, model.filler, tile).iter().enumerate() {
        let weight = |row, col| weight_at(matrix, tile, slab * SLAB_ROWS + row, col);
        let raw = |row, col| weight(row, col).map_or(0, |weight| split.raw(weight));
        let exception = |(place, row, col)| {
            let mut wide = matrix.large_integers_in_row(tile, slab * SLAB_ROWS + row);
            let wide = wide.find(|&(wide, _)| wide == col).map(|(_, weight)| weight);
            let outside =
                |&weight: &u16| split.coded(weight) >= split.weights_per_symbol().values();
            let weight = wide.or_else(|| weight(row, col).filter(outside));
            weight.map(|weight| TileEntry::exception(place, weight))
        };
        slabs.push(CodedSlab {
            raw: pack_planes(shape.slab(slab), split.raw_bits(), raw),
            streams: symbols.iter().map(|symbols| encode_stream(states, symbols)).collect(),
            exceptions: places(shape.slab(slab)).filter_map(exception).collect(),
        });
    }
    let groups = matrix.groups().map_or(vec![], |groups| {
        let slabs = (0..shape.slabs()).map(|slab| group_block(matrix, groups, tile, slab));
        slabs.flatten().collect()
    });
    let mut weights = matrix.tile_bytes(tile);
    if !groups.is_empty() {
        weights.resize(weights.len().next_multiple_of(16), 0);
        weights.extend_from_slice(&groups);
    }
    let has_large_integers = |row| matrix.large_integers_in_row(tile, row).next().is_some();
    let raw_tile = Some(weights).filter(|_| !(0..shape.rows).any(has_large_integers));
    write_payload(&slabs, &groups, raw_tile)
}

/// The scales of a slab, and its zero points as nibbles.
fn group_block(matrix: Matrix<'_>, groups: Groups<'_>, tile: usize, slab: usize) -> Vec<u8> {
    let (grid, (top, left)) = (matrix.grid(), matrix.grid().origin(tile));
    let inside = |row: usize, col: usize| {
        let (row, col) = (top + slab * SLAB_ROWS + row, left + col);
        let number = row * grid.cols.div_ceil(GROUP) + col / GROUP;
        (row < grid.rows && col < grid.cols).then_some(number)
    };
    let (mut scales, mut nibbles) = (vec![], vec![]);
    for (g, group) in (0..8).flat_map(|g| (0..GROUPS).map(move |group| (g, group))) {
        for row in [g, g + 8, g + 16, g + 24] {
            let number = inside(row, group * GROUP);
            let scale = number.map_or(f16::ZERO, |number| groups.scales[number]);
            scales.extend_from_slice(&scale.to_le_bytes());
            if let Some(zeros) = groups.zeros {
                nibbles.push(number.map_or(0, |number| (zeros[number] + 8) as u8));
            }
        }
    }
    scales.extend(nibbles.chunks(2).map(|pair| pair[0] | pair[1] << 4));
    scales
}

/// Streams as they are stored.
struct StoredRows {
    /// Words of the rows that are stored whole.
    full: Vec<u32>,
    /// Rows after those.
    tail_rows: usize,
    /// Of each lane, how many of those it has a word in.
    tail_lengths: Vec<usize>,
    /// These words, row by row.
    tails: Vec<u32>,
}

fn store_rows(streams: &[Vec<u32>]) -> StoredRows {
    // A lane has the words up to its last that is not zero; the rows are counted with all words.
    let stored = |stream: &Vec<u32>| stream.iter().rposition(|&word| word != 0);
    let stored = streams.iter().map(|stream| stored(stream).map_or(0, |last| last + 1));
    let stored: Vec<usize> = stored.collect();
    let rows = streams.iter().map(Vec::len).max().expect("there are 32");
    let everywhere = |row: &usize| stored.iter().all(|length| length > row);
    let shared = (0..rows).take_while(everywhere).count();
    let full_rows = shared.max(rows.saturating_sub(MAX_TAIL_ROWS));
    let word = |lane: usize, row: usize| streams[lane].get(row).copied().unwrap_or(0);
    let tail_row = |row| {
        let lanes = (0..LANES).filter(|&lane| stored[lane] > row);
        lanes.map(|lane| word(lane, row)).collect::<Vec<_>>()
    };
    StoredRows {
        full: (0..full_rows * LANES).map(|at| word(at % LANES, at / LANES)).collect(),
        tail_rows: rows - full_rows,
        tail_lengths: stored.iter().map(|length| length.saturating_sub(full_rows)).collect(),
        tails: (full_rows..rows).flat_map(tail_row).collect(),
    }
}

/// Writes a tile; or `raw_tile`, if there is one and it takes no more lines. `None` if there are more exceptions than a
/// tile can have.
fn write_payload(
    slabs: &[CodedSlab],
    groups: &[u8],
    raw_tile: Option<Vec<u8>>,
) -> Option<(TileEntry, Vec<u8>)> {
    let mut entry = TileEntry { kind: TileKind::Coded as u8, ..TileEntry::default() };
    let (mut raw, mut full, mut lengths) = (vec![], vec![], vec![]);
    let (mut tails, mut exceptions) = (vec![], vec![]);
    for (slab, coded) in slabs.iter().enumerate() {
        let rows = store_rows(&coded.streams);
        entry.full_rows[slab] = (rows.full.len() / LANES) as u8;
        entry.tail_rows[slab] = rows.tail_rows as u8;
        entry.tail_start[slab] = tails.len() as u16;
        entry.exception_start[slab] = exceptions.len() as u16;
        raw.extend_from_slice(&coded.raw);
        full.extend(rows.full);
        lengths.extend(rows.tail_lengths.chunks(2).map(|pair| (pair[0] | pair[1] << 4) as u8));
        tails.extend(rows.tails);
        exceptions.extend_from_slice(&coded.exceptions);
    }
    let count = exceptions.len();
    let bytes = |words: Vec<u32>| words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    let (raw, full, tails, exceptions) = (bytes(raw), bytes(full), bytes(tails), bytes(exceptions));
    let mut payload = [&lengths, &raw, groups, &full, &exceptions, &tails].concat();
    let lines = payload.len().div_ceil(LINE);
    match raw_tile.filter(|raw_tile| lines >= raw_tile.len().div_ceil(LINE)) {
        Some(raw_tile) => (entry, payload) = (TileEntry::default(), raw_tile),
        None => entry.exceptions = count.try_into().ok()?,
    }
    payload.resize(payload.len().next_multiple_of(LINE), 0);
    entry.lines = (payload.len() / LINE) as u16;
    entry.crc = crc32c::crc32c(&payload);
    Some((entry, payload))
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
    // Of the last symbol's states, those with the most trailing zeros.
    let mut ends = all[usize::from(last)].clone();
    ends.sort_by_key(|state| Reverse(state.trailing_zeros()));
    ends.truncate(FINAL_STATES);
    // Of those, the first that leaves the fewest bits in front of the stream's last zeros.
    let nearest = &others[others.len().saturating_sub(FINAL_STATE_SYMBOLS)..];
    let left = |&end: &usize| {
        let (_, bits) = encode_symbols(all, nearest, end);
        bits.len() - bits.iter().take_while(|&&bit| bit == 0).count()
    };
    let end = ends.into_iter().min_by_key(left).expect("the symbol occurs");
    let (state, mut bits) = encode_symbols(all, others, end);
    bits.extend((0..PROB_BITS).map(|bit| (state - TABLE) >> bit & 1));
    bits.reverse();
    let word = |bits: &[usize]| {
        (0..32).fold(0, |word, i| word << 1 | bits.get(i).copied().unwrap_or(0) as u32)
    };
    bits.chunks(32).map(word).collect()
}

/// The state that leads to `symbols` and then to `state`, and the bits in between, the last one first.
fn encode_symbols(all: &[Vec<usize>], symbols: &[u8], mut state: usize) -> (usize, Vec<usize>) {
    let mut bits = Vec::new();
    for &symbol in symbols.iter().rev() {
        let states = &all[usize::from(symbol)];
        while state >= 2 * states.len() {
            bits.push(state & 1);
            state >>= 1;
        }
        state = states[state - states.len()];
    }
    (state, bits)
}

/// The symbols of a stream; `None` if it is longer than its words.
fn decode_stream(table: &[Entry; TABLE], words: &[u32], count: usize) -> Option<Vec<u8>> {
    let mut bits = words.iter().flat_map(|word| (0..32).rev().map(move |bit| word >> bit & 1));
    let mut take = |n: u32| (0..n).try_fold(0, |v, _| Some(v << 1 | bits.next()?));
    let mut entry = table[take(PROB_BITS)? as usize];
    let mut symbols = vec![entry.symbol()];
    // The last symbol's own bits are nowhere.
    for _ in 1..count {
        entry = table[(entry.sub() << entry.bits() | take(entry.bits())?) as usize];
        symbols.push(entry.symbol());
    }
    Some(symbols)
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

/// The weights of a coded tile, row by row, padding rows included. `groups` bytes of scales and zero
/// points are passed over. `None` if a stream is longer than its slab's rows.
fn decode_tile(
    entry: &TileEntry,
    payload: &[u8],
    shape: TileShape,
    split: Split,
    groups: usize,
    table: &[Entry; TABLE],
) -> Option<Vec<u32>> {
    let mut rest = payload;
    let mut take = |bytes: usize| rest.split_off(..bytes).expect("the structure was checked");
    let mut take_words =
        |count: usize| -> Vec<u32> { take(4 * count).chunks_exact(4).map(little_endian).collect() };
    let slabs = 0..shape.slabs();
    let lengths: Vec<_> = slabs.clone().map(|_| take_words(TAIL_LENGTH_BYTES / 4)).collect();
    let raw_words = |slab| shape.slab(slab).raw_bytes(split.raw_bits()) / 4;
    let raw: Vec<_> = slabs.clone().map(|slab| take_words(raw_words(slab))).collect();
    take_words(groups / 4);
    let full_words = |slab: usize| LANES * usize::from(entry.full_rows[slab]);
    let full: Vec<_> = slabs.map(|slab| take_words(full_words(slab))).collect();
    let exceptions = take_words(entry.exceptions.into());
    let mut weights = vec![0; shape.strips() * FRAGMENT * shape.cols];
    for (slab, part) in weights.chunks_mut(SLAB_ROWS * shape.cols).enumerate() {
        let mut streams: Vec<Vec<u32>> = vec![vec![]; LANES];
        for row in full[slab].chunks(LANES) {
            streams.iter_mut().zip(row).for_each(|(stream, &word)| stream.push(word));
        }
        for row in 0..u32::from(entry.tail_rows[slab]) {
            for (lane, stream) in streams.iter_mut().enumerate() {
                let length = lengths[slab][lane / 8] >> (lane % 8 * 4) & 15;
                stream.extend(take_words(usize::from(length > row)));
            }
        }
        let rows = usize::from(entry.full_rows[slab]) + usize::from(entry.tail_rows[slab]);
        // Words that are not stored are 0.
        streams.iter_mut().for_each(|stream| stream.resize(rows, 0));
        decode_slab(&streams, &raw[slab], shape.slab(slab), split, table, part)?;
    }
    let starts = &entry.exception_start[..shape.slabs()];
    for (number, record) in (0..).zip(exceptions) {
        // The last slab whose exceptions do not start behind this one.
        let slab = starts.iter().filter(|&&start| start <= number).count() - 1;
        let (place, weight) = TileEntry::exception_fields(record);
        let (row, col) = shape.slab(slab).position(place);
        weights[(slab * SLAB_ROWS + row) * shape.cols + col] = weight.into();
    }
    Some(weights)
}

fn decode_slab(
    streams: &[Vec<u32>],
    raw: &[u32],
    shape: SlabShape,
    split: Split,
    table: &[Entry; TABLE],
    weights: &mut [u32],
) -> Option<()> {
    let cols = weights.len() / (shape.strips * FRAGMENT);
    let (weights_per_symbol, count) =
        (split.weights_per_symbol(), shape.symbols(split.weights_per_symbol()));
    let symbols = streams.iter().map(|stream| decode_stream(table, stream, count));
    let symbols: Vec<Vec<u8>> = symbols.collect::<Option<_>>()?;
    for (place, row, col) in places(shape).filter(|&(_, _, col)| col < cols) {
        let (symbol, shift) = place.symbol(weights_per_symbol);
        let coded = symbols[place.lane][symbol] >> shift & (weights_per_symbol.values() - 1);
        let raw = raw_at(shape, split.raw_bits(), raw, &place);
        weights[row * cols + col] = split.join(coded, raw).into();
    }
    Some(())
}

/// A number of up to four bytes.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
