//! The decoder: tiles to row-major weights.

use super::places;
use super::planes::raw_at;
use super::stream::decode_stream;
use crate::{Blob, BlobError, TileFault};
use fused_rans_layout::{
    Entry, FRAGMENT, LANES, SLAB_ROWS, SlabShape, Split, TABLE, TAIL_LENGTH_BYTES, TileEntry,
    TileKind, TileShape,
};

/// Decodes `blob` to row-major weights, little endian. Use it to check the fast codec. Verifies the checksum of every
/// tile.
///
/// # Errors
/// [`BlobError::Tile`] for a damaged tile.
pub fn decode(blob: &Blob<'_>) -> Result<Vec<u8>, BlobError> {
    let (grid, split, bytes) = (blob.grid(), blob.split(), blob.dtype().byte_len());
    let table = blob.frequencies().decode_table();
    let mut out = vec![0; blob.decoded_byte_len()];
    for tile in 0..blob.index().len() {
        let (first_row, first_col) = grid.origin(tile);
        blob.tile(tile)?; // Checks checksum and structure.
        let (entry, shape) = (&blob.index()[tile], grid.shape(tile));
        let payload = blob.payload(entry);
        let weights = if entry.kind == TileKind::Raw as u8 {
            payload.chunks_exact(bytes).map(little_endian).collect()
        } else {
            let group_bytes = blob.groups().map_or(0, |plane| plane.bytes() * shape.slabs());
            let weights = decode_tile(entry, payload, shape, split, group_bytes, &table);
            weights.ok_or(BlobError::Tile { tile, fault: TileFault::Stream })?
        };
        for (row, weights) in weights.chunks_exact(shape.cols).take(shape.rows).enumerate() {
            let start = ((first_row + row) * grid.cols + first_col) * bytes;
            let elements = out[start..].chunks_exact_mut(bytes);
            for (element, weight) in elements.zip(weights) {
                element.copy_from_slice(&u32::to_le_bytes(*weight)[..bytes]);
            }
        }
    }
    Ok(out)
}

/// Decodes a coded tile. Returns its weights row by row, including padding rows. Skips `group_bytes` bytes of scales
/// and zero points. Returns `None` if a stream is longer than its slab's rows of words.
fn decode_tile(
    entry: &TileEntry,
    payload: &[u8],
    shape: TileShape,
    split: Split,
    group_bytes: usize,
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
    take_words(group_bytes / 4);
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
    patch_exceptions(entry, shape, &exceptions, &mut weights);
    Some(weights)
}

/// Writes the exceptions of a tile over its decoded `weights`.
fn patch_exceptions(entry: &TileEntry, shape: TileShape, exceptions: &[u32], weights: &mut [u32]) {
    let starts = &entry.exception_start[..shape.slabs()];
    for (number, &record) in (0..).zip(exceptions) {
        // The slab is the last one whose exceptions start at or before this one.
        let slab = starts.iter().filter(|&&start| start <= number).count() - 1;
        let (place, weight) = TileEntry::exception_fields(record);
        let (row, col) = shape.slab(slab).position(place);
        weights[(slab * SLAB_ROWS + row) * shape.cols + col] = weight.into();
    }
}

/// Decodes a slab into `weights`, row by row. Returns `None` if a stream has too few words.
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

/// Reads a number of up to four bytes.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
