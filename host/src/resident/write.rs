//! Filling of a resident layer, row of tiles by row of tiles.

use super::exceptions::SlabExceptions;
use super::plain::write_plain;
use super::plan::ResidentPlan;
use super::{ResidentLayer, reserve};
use crate::blob::tile::{CodedTile, Slab, Tile};
use crate::codec::fast;
use crate::element::zeros;
use crate::{BlobError, TileFault};
use fused_rans_layout::{
    LANES, LINE, Plane, SLAB_ROWS, SLABS, SlabEntry, TileShape, UNIT, panel_plane_start,
    panel_plane_words, panel_raw_bytes, panel_word_offset, planes,
};
use rayon::prelude::*;

/// Where one tile goes: its slabs, and the scales and zero points of each.
#[derive(Default)]
struct TileOut<'a> {
    slabs: Vec<(SlabEntry, &'a mut [u8])>,
    groups: Vec<&'a mut [u8]>,
}

impl ResidentPlan<'_> {
    /// Makes the whole layer. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::Memory`] if the layer does not fit into memory; the errors of
    /// [`write_tile_row`](Self::write_tile_row).
    pub fn build(self) -> Result<ResidentLayer, BlobError> {
        let mut slabs: Vec<u8> = zeros(self.slab_bytes())?;
        let mut groups: Vec<u8> = zeros(self.group_bytes())?;
        let (mut rest, mut rest_of_groups) = (&mut slabs[..], &mut groups[..]);
        let mut parts = reserve(self.tile_rows())?;
        for tile_row in 0..self.tile_rows() {
            let of_slabs = split_off(&mut rest, self.slab_range(tile_row).len());
            let of_groups = split_off(&mut rest_of_groups, self.group_range(tile_row).len());
            parts.push((tile_row, of_slabs, of_groups));
        }
        parts.into_par_iter().try_for_each(|(tile_row, slabs, groups)| {
            self.write_tile_row(tile_row, slabs, groups)
        })?;
        let buffer_rows = self.buffer_rows();
        Ok(ResidentLayer { slabs, index: self.into_index(), groups, buffer_rows })
    }

    /// Writes row `tile_row` of tiles: `slabs` has the bytes of [`slab_range`](Self::slab_range), `groups` those of
    /// [`group_range`](Self::group_range). Writes every byte, so both may hold anything before. Reads and checks each tile
    /// once; tiles run in parallel on rayon's current thread pool.
    ///
    /// # Errors
    /// [`BlobError::Tile`] for a damaged tile, after which the slices hold unspecified bytes. A stream that is too long
    /// is found only where it must be decoded: in plain slabs, and in lanes with exceptions.
    ///
    /// # Panics
    /// If a slice has another size, or there is no such row.
    pub fn write_tile_row(
        &self,
        tile_row: usize,
        slabs: &mut [u8],
        groups: &mut [u8],
    ) -> Result<(), BlobError> {
        assert_eq!(slabs.len(), self.slab_range(tile_row).len(), "size of the slabs");
        assert_eq!(groups.len(), self.group_range(tile_row).len(), "size of the groups");
        let across = self.blob.grid().across();
        let outs = self.divide(tile_row, slabs, groups)?;
        let first_tile = tile_row * across;
        let tiles = outs.into_par_iter().enumerate();
        tiles.try_for_each(|(col, out)| self.write_tile(first_tile + col, out))
    }

    /// Divides the bytes of a row of tiles among its tiles.
    fn divide<'a>(
        &self,
        tile_row: usize,
        mut slabs: &'a mut [u8],
        mut groups: &'a mut [u8],
    ) -> Result<Vec<TileOut<'a>>, BlobError> {
        let across = self.blob.grid().across();
        let mut outs = reserve(across)?;
        outs.resize_with(across, TileOut::default);
        for (number, entry) in self.entries(tile_row).enumerate() {
            let out: &mut TileOut<'_> = &mut outs[number % across];
            let slab = split_off(&mut slabs, self.bytes_of(entry));
            out.slabs.push((self.index()[entry], slab));
            out.groups.push(split_off(&mut groups, self.group_plane_bytes()));
        }
        Ok(outs)
    }

    /// Writes tile number `tile`.
    fn write_tile(&self, tile: usize, out: TileOut<'_>) -> Result<(), BlobError> {
        let stored = self.blob.tile(tile)?;
        let plane_bytes = self.group_plane_bytes();
        for (number, group) in out.groups.into_iter().enumerate() {
            group.copy_from_slice(&stored.groups()[number * plane_bytes..][..plane_bytes]);
        }
        match stored {
            Tile::Raw { weights, .. } => {
                self.write_plain_slabs(self.blob.grid().shape(tile), weights, out.slabs);
                Ok(())
            }
            Tile::Coded(coded) => self
                .write_coded_tile(&coded, out.slabs)
                .map_err(|fault| BlobError::Tile { tile, fault }),
        }
    }

    /// Writes the slabs of a coded tile, plain ones included.
    fn write_coded_tile(
        &self,
        coded: &CodedTile<'_>,
        mut outs: Vec<(SlabEntry, &mut [u8])>,
    ) -> Result<(), TileFault> {
        let split = self.blob.split();
        for (slab, (entry, out)) in coded.slabs().zip(&mut outs) {
            let (words, rest) = out.split_at_mut(entry.word_units() as usize * UNIT);
            let (listed, planes) = rest.split_at_mut(usize::from(entry.exceptions) * UNIT);
            let exceptions = SlabExceptions { slab, split };
            if entry.rows > 0 {
                slab.write_rows(words);
                if !listed.is_empty() {
                    exceptions.write(self.table(), words, listed)?;
                }
                write_planes(&slab, split.raw_bits(), planes);
            } else if !listed.is_empty() {
                exceptions.write_large(listed);
            }
        }
        if outs.iter().any(|(entry, _)| entry.rows == 0) {
            let mut weights = vec![0; coded.shape.weights() * split.dtype().byte_len()];
            let row_bytes = coded.shape.cols * split.dtype().byte_len();
            let mut rows: Vec<&mut [u8]> = weights.chunks_exact_mut(row_bytes).collect();
            fast::decode_tile(coded, split, self.table(), &mut rows)?;
            self.write_plain_slabs(coded.shape, &weights, outs);
        }
        Ok(())
    }

    /// Writes those slabs of a tile that are plain. `weights` holds those of the tile, row by row.
    fn write_plain_slabs(
        &self,
        shape: TileShape,
        weights: &[u8],
        outs: Vec<(SlabEntry, &mut [u8])>,
    ) {
        let byte_len = self.blob.dtype().byte_len();
        let slab_bytes = SLAB_ROWS * shape.cols * byte_len;
        for ((entry, out), weights) in outs.into_iter().zip(weights.chunks(slab_bytes)) {
            let out = &mut out[entry.front_units() as usize * UNIT..];
            match byte_len {
                _ if entry.rows > 0 => {}
                1 => write_plain::<1>(shape, weights, out),
                _ => write_plain::<2>(shape, weights, out),
            }
        }
    }
}

/// Splits the first `bytes` bytes off `rest`.
fn split_off<'a>(rest: &mut &'a mut [u8], bytes: usize) -> &'a mut [u8] {
    rest.split_off_mut(..bytes).expect("the plan's ranges add up")
}

/// Copies the raw planes of a slab to `out`, panel by panel.
fn write_planes(slab: &Slab<'_>, raw_bits: u8, out: &mut [u8]) {
    let mut stored = slab.raw;
    for plane in planes(raw_bits) {
        let words = plane.words(slab.shape);
        let part = stored.split_off(..words * LINE).expect("the slab has all of its planes");
        let start = panel_plane_start(raw_bits.into(), plane.width);
        let count = panel_plane_words(plane.width);
        let panels = out.chunks_exact_mut(panel_raw_bytes(raw_bits.into()));
        for (panel, out) in panels.enumerate() {
            let out = &mut out[start..][..count * LINE];
            write_panel(plane, part, words, panel * count, out);
        }
    }
}

/// Copies the words of a panel from `stored`, a plane with `words` words per lane: those from number `first` on. Words
/// that the slab does not have become 0.
fn write_panel(plane: Plane, stored: &[u8], words: usize, first: usize, out: &mut [u8]) {
    let count = panel_plane_words(plane.width);
    if first + count > words {
        return write_part_of_panel(plane, stored, words, first, out);
    }
    if count >= 4 {
        // Whole fours, which lie as in the blob.
        return out.copy_from_slice(&stored[first * LINE..][..count * LINE]);
    }
    // Two words of each lane, whose four may be shared with the next panel.
    let together = (words - first / 4 * 4).min(4);
    let fours = &stored[first / 4 * 4 * LINE..][..together * LINE];
    match together {
        4 => take_pairs::<16>(fours, first % 4 * 4, out),
        3 => take_pairs::<12>(fours, first % 4 * 4, out),
        _ => out.copy_from_slice(fours),
    }
}

/// Copies eight bytes of each `BYTES` bytes of `stored`, from byte `start` on.
fn take_pairs<const BYTES: usize>(stored: &[u8], start: usize, out: &mut [u8]) {
    let pairs = out.as_chunks_mut::<8>().0.iter_mut();
    for (pair, own) in pairs.zip(stored.as_chunks::<BYTES>().0) {
        pair.copy_from_slice(&own[start..start + 8]);
    }
}

/// Copies the words of a panel one by one: at the right edge of the matrix, a slab does not have all of them.
fn write_part_of_panel(plane: Plane, stored: &[u8], words: usize, first: usize, out: &mut [u8]) {
    out.fill(0);
    let (stored, out) = (stored.as_chunks::<4>().0, out.as_chunks_mut::<4>().0);
    for word in first..words {
        for lane in 0..LANES {
            let to = panel_word_offset(plane.width, lane, word - first);
            out[to] = stored[Plane::word_offset(words, lane, word)];
        }
    }
}

const _: () = assert!(LINE == 4 * LANES && SLABS * SLAB_ROWS == fused_rans_layout::TILE);
