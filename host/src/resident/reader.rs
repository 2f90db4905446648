//! Reads resident layers back, weight by weight, straight from the definitions in `fused_rans_layout`: the slow twin of
//! the kernels, for tests.

use super::ResidentLayer;
use super::exceptions::{number, word_at};
use crate::Frequencies;
use crate::codec::reference::places;
use crate::codec::reference::stream::decode_stream;
use fused_rans_layout::{
    Entry, LANES, LINE, Place, SLAB_ROWS, SLAB_STRIPS, SPAN, SlabShape, Split, TABLE, TILE,
    TileGrid, coded_slab_bytes, exchange_signs, panel_plane_start, panel_plane_words,
    panel_raw_bytes, panel_word_offset, plain_slab_bytes, planes,
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
            let stored = self.slabs.get(entry.line as usize * LINE..)?;
            let found = match entry.rows as usize {
                0 => slab.plain(stored.get(..plain_slab_bytes(steps, bytes))?),
                rows => {
                    let raw_bits = split.raw_bits().into();
                    let stored = stored.get(..coded_slab_bytes(rows, steps, raw_bits))?;
                    slab.coded(&table, stored.split_at(rows * LINE))?
                }
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

    /// Lists the exceptions: (row, column, exception).
    pub(super) fn placed_exceptions(
        &self,
        grid: TileGrid,
    ) -> impl Iterator<Item = (usize, usize, fused_rans_layout::ResidentException)> {
        let rows = self.exceptions.starts.windows(2).enumerate();
        rows.flat_map(move |(number, bounds)| {
            let own = &self.exceptions.exceptions[bounds[0] as usize..bounds[1] as usize];
            let (span, row) = (number / grid.rows, number % grid.rows);
            own.iter().map(move |&one| (row, span * SPAN + usize::from(one.col), one))
        })
    }
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
