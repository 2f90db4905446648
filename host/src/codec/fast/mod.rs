//! The fast codec, for whole matrices: the program's. Byte for byte the same as the
//! [reference](crate::codec::reference), which says what the steps mean.
//!
//! A slab is loaded into rows of coded and raw bits, which vectorizes; its 32 streams are then
//! coded side by side, symbol after symbol, so that their latencies overlap.

mod count;
mod planes;
mod streams;
mod weights;

use crate::Matrix;
use crate::TileFault;
use crate::blob::frequencies::EncodeTable;
use crate::blob::tile::{CodedTile, TileWriter};
use crate::codec::coding_model::CodingModel;
use crate::codec::tile_format;
use crate::vectorized::vectorized;
use count::Counter;
use fused_rans_layout::{
    Dtype, Entry, LANES, MAX_SYMBOLS, SLAB_ROWS, SYMBOLS, SlabShape, Split, TABLE, TileEntry,
};
use weights::{SlabWeights, by_type, for_each_weight};

/// The symbols of a slab's 32 streams, side by side.
type Symbols = [[u8; LANES]; MAX_SYMBOLS];

vectorized! {
    /// How often each exponent occurs among the weights in `data`.
    pub fn count_exponents(dtype: Dtype, data: &[u8]) -> [u64; 256] {
        let mut counter = Counter::new();
        let mut exponents = [0; 1024];
        for data in data.chunks(exponents.len() * dtype.byte_len()) {
            let exponents = &mut exponents[..data.len() / dtype.byte_len()];
            by_type!(dtype, TYPE => {
                for_each_weight(TYPE, data, exponents, |weight, place| *place = TYPE.exponent(weight));
            });
            counter.add(exponents);
        }
        counter.sums()
    }
}

vectorized! {
    /// How often each symbol occurs in a tile.
    pub fn count_symbols(matrix: Matrix, split: Split, filler: u8, tile: usize) -> [u64; SYMBOLS] {
        let shape = matrix.grid().shape(tile);
        let (mut weights, mut counter) = (SlabWeights::new(), Counter::new());
        for slab in 0..shape.slabs() {
            weights.load_coded(matrix, split, filler, tile, slab, &mut Vec::new());
            weights.count(shape.slab(slab), split.weights_per_symbol(), &mut counter);
        }
        counter.sums()
    }
}

vectorized! {
    /// Encodes tile number `tile`: its record (without offset) and its payload.
    pub fn encode_tile(
        matrix: Matrix,
        model: &CodingModel,
        table: &EncodeTable,
        tile: usize,
    ) -> Option<(TileEntry, Vec<u8>)> {
        let (shape, coding) = (matrix.grid().shape(tile), tile_format(matrix, model));
        let mut weights = SlabWeights::new();
        let mut symbols = [[0; LANES]; MAX_SYMBOLS];
        let (mut rows, mut raw) = ([[0; LANES]; 64], Vec::new());
        let (mut writer, mut exceptions) = (TileWriter::default(), Vec::new());
        for slab in 0..shape.slabs() {
            let slab_shape = shape.slab(slab);
            let (split, filler) = (model.split, model.filler);
            exceptions.clear();
            weights.load_coded(matrix, split, filler, tile, slab, &mut exceptions);
            add_wide(matrix, tile, slab, &mut exceptions);
            weights.load_raw(matrix, split, tile, slab);
            weights.symbols(slab_shape, split.weights_per_symbol(), &mut symbols);
            planes::pack(slab_shape, split.raw_bits(), &weights.raw, &mut raw);
            let count = slab_shape.symbols(split.weights_per_symbol());
            let lengths = streams::encode(table, &symbols[..count], &mut rows);
            writer.slab(&raw, &rows, &lengths, &exceptions);
        }
        let groups = matrix.groups().map_or(vec![], |groups| groups.blocks(matrix.grid(), tile));
        writer.finish(shape, coding, &groups, || matrix.tile_bytes(tile))
    }
}

/// Adds a slab's large integers to its exceptions, and sorts these.
fn add_wide(matrix: Matrix<'_>, tile: usize, slab: usize, exceptions: &mut Vec<u32>) {
    let shape = matrix.grid().shape(tile).slab(slab);
    for row in 0..SLAB_ROWS {
        let wide = matrix.large_integers_in_row(tile, slab * SLAB_ROWS + row);
        exceptions
            .extend(wide.map(|(col, weight)| TileEntry::exception(shape.place(row, col), weight)));
    }
    exceptions.sort_unstable();
    // One whose low byte is an exception, too, is there twice; the second one, which has the high byte, stays.
    exceptions.dedup_by(|next, first| {
        let same = *next >> 16 == *first >> 16;
        if same {
            *first = *next;
        }
        same
    });
}

vectorized! {
    /// Decodes a coded tile into `out`: the tile's part of each row of the matrix.
    pub fn decode_tile(
        tile: &CodedTile,
        split: Split,
        table: &[Entry; TABLE],
        out: &mut [&mut [u8]],
    ) -> Result<(), TileFault> {
        let mut weights = SlabWeights::new();
        let mut symbols = [[0; LANES]; MAX_SYMBOLS];
        let mut rows = [[0; LANES]; 64];
        let bytes = split.dtype().byte_len();
        for (slab, out) in tile.slabs().zip(out.chunks_mut(weights.coded.len())) {
            slab.expand(&mut rows);
            let count = slab.shape.symbols(split.weights_per_symbol());
            if streams::decode(table, &rows, &mut symbols[..count]) > slab.word_rows {
                return Err(TileFault::Stream);
            }
            if slab.shape == SlabShape::WHOLE {
                weights.set(SlabShape::WHOLE, split, &symbols, slab.raw);
            } else {
                weights.set(slab.shape, split, &symbols, slab.raw);
            }
            weights.store(split, out);
            for (row, col, weight) in slab.exceptions() {
                let place = &mut out[row][col * bytes..][..bytes];
                place.copy_from_slice(&weight.to_le_bytes()[..bytes]);
            }
        }
        Ok(())
    }
}
