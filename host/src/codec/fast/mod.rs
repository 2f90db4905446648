//! The fast codec. It writes the same bytes as the [reference](crate::codec::reference), which explains the steps.
//!
//! It loads a slab into rows of coded and raw bits, which vectorizes. Then it codes the 32 streams side by side, symbol
//! by symbol, so that their latencies overlap.

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

/// Symbols of the 32 streams of a slab: one row per symbol, one column per lane.
type Symbols = [[u8; LANES]; MAX_SYMBOLS];

vectorized! {
    /// Counts the exponents of the weights in `data`.
    pub fn count_exponents(dtype: Dtype, data: &[u8]) -> [u64; 256] {
        let mut counter = Counter::new();
        let mut exponents = [0; 1 << 12];
        for data in data.chunks(exponents.len() * dtype.byte_len()) {
            let exponents = &mut exponents[..data.len() / dtype.byte_len()];
            by_type!(dtype, TYPE => {
                for_each_weight(TYPE, data, exponents, |weight, exponent| *exponent = TYPE.exponent(weight));
            });
            match dtype {
                // Small integers are on both sides of 0, that is 256.
                Dtype::I8 => counter.add(exponents),
                _ => counter.add_near(exponents),
            }
        }
        counter.sums()
    }
}

vectorized! {
    /// Counts the symbols of a tile, with `filler` as the coded bits of exceptions and padding.
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
    /// Encodes tile number `tile`. Returns its record, without the offset, and its payload; `None` if there are more
    /// exceptions than a tile can list.
    pub fn encode_tile(
        matrix: Matrix,
        model: &CodingModel,
        table: &EncodeTable,
        tile: usize,
    ) -> Option<(TileEntry, Vec<u8>)> {
        let (shape, format) = (matrix.grid().shape(tile), tile_format(matrix, model));
        let mut weights = SlabWeights::new();
        let mut symbols = [[0; LANES]; MAX_SYMBOLS];
        let (mut rows, mut raw) = ([[0; LANES]; 64], Vec::new());
        let (mut writer, mut exceptions) = (TileWriter::default(), Vec::new());
        for slab in 0..shape.slabs() {
            let slab_shape = shape.slab(slab);
            let (split, filler) = (model.split, model.filler);
            exceptions.clear();
            weights.load_coded(matrix, split, filler, tile, slab, &mut exceptions);
            add_large_integers(matrix, tile, slab, &mut exceptions);
            weights.load_raw(matrix, split, tile, slab);
            weights.write_symbols(slab_shape, split.weights_per_symbol(), &mut symbols);
            planes::pack(slab_shape, split.raw_bits(), &weights.raw, &mut raw);
            let count = slab_shape.symbols(split.weights_per_symbol());
            let lengths = streams::encode(table, &symbols[..count], &mut rows);
            writer.slab(&raw, &rows, &lengths, &exceptions);
        }
        let groups = matrix.groups().map_or(vec![], |groups| groups.blocks(matrix.grid(), tile));
        writer.finish(shape, format, &groups, || matrix.tile_bytes(tile))
    }
}

/// Adds the large integers of a slab to the records of its exceptions, and sorts them.
fn add_large_integers(matrix: Matrix<'_>, tile: usize, slab: usize, exceptions: &mut Vec<u32>) {
    let shape = matrix.grid().shape(tile).slab(slab);
    for row in 0..SLAB_ROWS {
        let large_integers = matrix.large_integers_in_row(tile, slab * SLAB_ROWS + row);
        exceptions.extend(
            large_integers.map(|(col, weight)| TileEntry::exception(shape.place(row, col), weight)),
        );
    }
    exceptions.sort_unstable();
    // A large integer whose low byte is also an exception has two records. The second one, with the high byte, stays.
    exceptions.dedup_by(|next, first| {
        let same_place = *next >> 16 == *first >> 16;
        if same_place {
            *first = *next;
        }
        same_place
    });
}

vectorized! {
    /// Decodes a coded tile into `out`, one slice per row.
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
                weights.load_decoded(SlabShape::WHOLE, split, &symbols, slab.raw);
            } else {
                weights.load_decoded(slab.shape, split, &symbols, slab.raw);
            }
            weights.store(split, out);
            for (row, col, weight) in slab.exceptions() {
                let element = &mut out[row][col * bytes..][..bytes];
                element.copy_from_slice(&weight.to_le_bytes()[..bytes]);
            }
        }
        Ok(())
    }
}
