//! The encoder: symbols, exceptions and groups of each tile.

use super::payload::{CodedSlab, write_payload};
use super::places;
use super::planes::pack_planes;
use super::stream::{encode_stream, symbol_states};
use crate::blob::groups::Groups;
use crate::codec::coding_model::CodingModel;
use crate::{Blob, BlobError, Encoder, Matrix};
use fused_rans_layout::{GROUP, GROUPS, LANES, SLAB_ROWS, SYMBOLS, Split, TileEntry};
use half::f16;

/// Compresses `matrix` to the same bytes as [`Encoder::encode`]. Use it to check the fast codec.
///
/// # Errors
/// The errors of [`Encoder::encode`].
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
    encoder.assemble(matrix, &model, tiles, Vec::new())
}

/// Returns the weight at (`row`, `col`) of a tile; `None` for padding.
fn weight_at(matrix: Matrix<'_>, tile: usize, row: usize, col: usize) -> Option<u16> {
    let shape = matrix.grid().shape(tile);
    let inside = row < shape.rows && col < shape.cols;
    inside.then(|| matrix.weight(matrix.tile_row(tile, row), col))
}

/// Returns the symbols of a tile: for each slab, for each lane, in stream order.
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

/// Encodes tile number `tile`: returns its record, without the offset, and its payload. `None` if there are more
/// exceptions than a tile can list.
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
        slabs.push(CodedSlab {
            raw: pack_planes(shape.slab(slab), split.raw_bits(), raw),
            streams: symbols.iter().map(|symbols| encode_stream(states, symbols)).collect(),
            exceptions: slab_exceptions(matrix, split, tile, slab),
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

/// Returns the records of the exceptions of a slab: large integers, and weights outside the coded window.
fn slab_exceptions(matrix: Matrix<'_>, split: Split, tile: usize, slab: usize) -> Vec<u32> {
    let exception = |(place, row, col)| {
        let row = slab * SLAB_ROWS + row;
        let mut large_integers = matrix.large_integers_in_row(tile, row);
        let large = large_integers.find(|&(large, _)| large == col).map(|(_, weight)| weight);
        let outside = |&weight: &u16| split.coded(weight) >= split.weights_per_symbol().values();
        let weight = large.or_else(|| weight_at(matrix, tile, row, col).filter(outside));
        weight.map(|weight| TileEntry::exception(place, weight))
    };
    places(matrix.grid().shape(tile).slab(slab)).filter_map(exception).collect()
}

/// Returns the stored block of the groups of a slab: scales, then zero points as nibbles.
fn group_block(matrix: Matrix<'_>, groups: Groups<'_>, tile: usize, slab: usize) -> Vec<u8> {
    let (grid, (top, left)) = (matrix.grid(), matrix.grid().origin(tile));
    let number_at = |row: usize, col: usize| {
        let (row, col) = (top + slab * SLAB_ROWS + row, left + col);
        let number = row * grid.cols.div_ceil(GROUP) + col / GROUP;
        (row < grid.rows && col < grid.cols).then_some(number)
    };
    let (mut block, mut nibbles) = (vec![], vec![]);
    for (g, group) in (0..8).flat_map(|g| (0..GROUPS).map(move |group| (g, group))) {
        for row in [g, g + 8, g + 16, g + 24] {
            let number = number_at(row, group * GROUP);
            let scale = number.map_or(f16::ZERO, |number| groups.scales[number]);
            block.extend_from_slice(&scale.to_le_bytes());
            if let Some(zeros) = groups.zeros {
                nibbles.push(number.map_or(0, |number| (zeros[number] + 8) as u8));
            }
        }
    }
    block.extend(nibbles.chunks(2).map(|pair| pair[0] | pair[1] << 4));
    block
}
