//! Reads resident layers back, weight by weight, straight from the definitions in `fused_rans_layout`: the slow twin of
//! the kernels, for tests.

use super::ResidentLayer;
use super::exceptions::number;
use super::word_at;
use crate::Frequencies;
use crate::codec::reference::places;
use crate::codec::reference::stream::decode_stream;
use fused_rans_layout::{
    Entry, ExceptionEnds, LANES, LINE, Place, ROW_CLASSES, SLAB_ROWS, SLAB_STRIPS, SlabEntry,
    SlabException, SlabShape, Split, TABLE, TILE, TileGrid, UNIT, activation_column,
    exchange_signs, panel_plane_start, panel_plane_words, panel_raw_bytes, panel_word_offset,
    planes, slab_bytes,
};

impl ResidentLayer {
    /// Returns the weights of a layer of this shape, split and these frequencies: row by row, little endian, with the
    /// low bytes of large integers. Returns `None` if the layer is invalid.
    #[must_use]
    pub fn weights(
        &self,
        grid: TileGrid,
        split: Split,
        frequencies: &Frequencies,
    ) -> Option<Vec<u8>> {
        let mut weights = self.decoded_weights(grid, split, frequencies)?;
        let bytes = split.dtype().byte_len();
        for (row, col, exception) in self.placed_exceptions(grid) {
            let at = (row * grid.cols + col) * bytes;
            let place = weights.get_mut(at..at + bytes)?;
            place.copy_from_slice(&exception.weight.to_le_bytes()[..bytes]);
        }
        Some(weights)
    }

    /// Returns the weights as [`weights`](Self::weights) does, but without the exceptions: those that a kernel decodes.
    #[must_use]
    pub fn decoded_weights(
        &self,
        grid: TileGrid,
        split: Split,
        frequencies: &Frequencies,
    ) -> Option<Vec<u8>> {
        let table = frequencies.decode_table();
        let bytes = split.dtype().byte_len();
        let mut weights = vec![0; grid.rows * grid.cols * bytes];
        let across = grid.across();
        for (at, entry) in self.index.iter().enumerate() {
            let (top, left) = (at / across * SLAB_ROWS, at % across * TILE);
            let steps = grid.shape(at % across).steps();
            let slab = SlabReader { shape: SlabShape { strips: SLAB_STRIPS, steps }, split };
            let stored = self.slabs.get(entry.start as usize * UNIT..)?;
            let stored = stored.get(..slab_bytes(*entry, steps, split.raw_bits().into(), bytes))?;
            let (front, rest) = stored.split_at(entry.front_units() as usize * UNIT);
            let found = match entry.rows {
                0 => slab.plain(rest),
                rows => slab.coded(&table, (&front[..usize::from(rows) * LINE], rest))?,
            };
            for ((_, row, col), weight) in places(slab.shape).zip(found) {
                let (row, col) = (top + row, left + col);
                if row < grid.rows && col < grid.cols {
                    let at = (row * grid.cols + col) * bytes;
                    weights[at..at + bytes].copy_from_slice(&weight.to_le_bytes()[..bytes]);
                } else if entry.rows == 0 && weight != 0
                    || col >= grid.cols && !number(split.dtype(), weight).is_finite()
                {
                    // A kernel multiplies these, too: by zero.
                    return None;
                }
            }
        }
        Some(weights)
    }

    /// Lists the exceptions, slab by slab: (row, column, exception).
    pub fn placed_exceptions(
        &self,
        grid: TileGrid,
    ) -> impl Iterator<Item = (usize, usize, SlabException)> {
        let across = grid.across();
        self.index.iter().enumerate().flat_map(move |(number, &entry)| {
            let (top, left) = (number / across * SLAB_ROWS, number % across * TILE);
            let steps = grid.shape(number % across).steps();
            let place = move |one: SlabException| {
                let col = activation_column(steps, one.place.into());
                (top + usize::from(one.row), left + col, one)
            };
            self.exceptions_of(entry).into_iter().map(place)
        })
    }

    /// Returns the exceptions of a slab, in their order.
    #[must_use]
    pub fn exceptions_of(&self, entry: SlabEntry) -> Vec<SlabException> {
        let start = (entry.start + entry.word_units()) as usize * UNIT;
        read_exceptions(&self.slabs[start..][..usize::from(entry.exceptions) * UNIT])
    }
}

/// Reads the exceptions of a slab, which start with their [`ExceptionEnds`]; none from no bytes.
#[must_use]
pub fn read_exceptions(all: &[u8]) -> Vec<SlabException> {
    let Some((ends, all)) = all.split_at_checked(size_of::<ExceptionEnds>()) else {
        return Vec::new();
    };
    let ExceptionEnds(ends) = bytemuck::pod_read_unaligned(ends);
    let all = all.chunks_exact(size_of::<SlabException>()).map(bytemuck::pod_read_unaligned);
    all.take(ends[ROW_CLASSES - 1].into()).collect()
}

/// Reads one slab.
#[derive(Clone, Copy)]
struct SlabReader {
    shape: SlabShape,
    split: Split,
}

impl SlabReader {
    /// Returns the weights of a plain slab in the order of [`places`].
    fn plain(self, stored: &[u8]) -> Vec<u16> {
        let elements = stored.chunks_exact(self.split.dtype().byte_len());
        let weights = elements.map(|bytes| match *bytes {
            [low, high] => u16::from_le_bytes([low, high]),
            _ => bytes[0].into(),
        });
        weights.collect()
    }

    /// Returns the weights of a coded slab, (rows of words, raw planes), in the order of [`places`].
    fn coded(self, table: &[Entry; TABLE], (words, raw): (&[u8], &[u8])) -> Option<Vec<u16>> {
        let weights_per_symbol = self.split.weights_per_symbol();
        let count = self.shape.symbols(weights_per_symbol);
        let symbols = (0..LANES).map(|lane| {
            let words: Vec<_> =
                (0..words.len() / LINE).map(|row| word_at(words, row * LANES + lane)).collect();
            decode_stream(table, &words, count)
        });
        let symbols: Vec<Vec<u8>> = symbols.collect::<Option<_>>()?;
        let weights = places(self.shape).map(|(place, _, _)| {
            let (symbol, shift) = place.symbol(weights_per_symbol);
            let coded = symbols[place.lane][symbol] >> shift & (weights_per_symbol.values() - 1);
            self.split.join(coded, self.raw_at(raw, place))
        });
        Some(weights.collect())
    }

    /// Reads the raw bits at `place` from the planes of the panels.
    fn raw_at(self, panels: &[u8], place: Place) -> u16 {
        let raw_bits = u32::from(self.split.raw_bits());
        let mut raw = 0;
        for plane in planes(self.split.raw_bits()) {
            let (word, bit) = plane.position(place.fragment, place.register, place.half);
            let of_panel = panel_plane_words(plane.width);
            let start = word / of_panel * panel_raw_bytes(raw_bits)
                + panel_plane_start(raw_bits, plane.width);
            let offset = panel_word_offset(plane.width, place.lane, word % of_panel);
            let word = word_at(&panels[start..], offset);
            let word = if plane.width == 8 { exchange_signs(word) } else { word };
            raw |= (word >> bit & ((1 << plane.width) - 1)) << plane.shift;
        }
        raw as u16
    }
}
