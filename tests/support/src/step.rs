//! Runs the GPU's decode step on the CPU, lane by lane.

use fused_rans::Blob;
use fused_rans::layout::{FRAGMENT, LANES, Place, SLAB_ROWS, TableKind};
use fused_rans::tile::{CodedTile, Tile, WordRows};
use fused_rans_kernels::{SliceMemory, WeightFormat, decode_slab};

/// Decodes all coded tiles of `blob` and checks them against its weights `data`, row-major. Returns the number of coded
/// tiles.
pub fn check(blob: &Blob<'_>, data: &[u8]) -> usize {
    let table = blob.frequencies().kernel_table(blob.split());
    let exponent_table = blob.frequencies().exponent_table(blob.split());
    let mut coded = 0;
    for number in 0..blob.index().len() {
        let Tile::Coded(tile) = blob.tile(number).unwrap() else { continue };
        coded += 1;
        let decoded = decode_tile(&tile, WeightFormat::from(blob.split()), &table);
        if let Some(table) = &exponent_table {
            let format = WeightFormat::from_split(blob.split(), TableKind::Exponent);
            assert!(decode_tile(&tile, format, table) == decoded, "exponent entries differ");
        }
        let width = tile.shape.steps() * FRAGMENT;
        for (expected, decoded) in rows(blob, data, number).zip(decoded.chunks_exact(width)) {
            let decoded = decoded[..tile.shape.cols]
                .iter()
                .flat_map(|w| w.to_le_bytes().into_iter().take(blob.dtype().byte_len()));
            assert!(decoded.eq(expected.iter().copied()), "tile {number} differs");
        }
    }
    coded
}

/// Returns the parts of the rows of `data` that lie in tile `tile`.
fn rows<'a>(blob: &Blob<'_>, data: &'a [u8], tile: usize) -> impl Iterator<Item = &'a [u8]> {
    let (grid, bytes) = (blob.grid(), blob.dtype().byte_len());
    let ((row, col), shape) = (grid.origin(tile), grid.shape(tile));
    let rows = data.chunks_exact(grid.cols * bytes).skip(row).take(shape.rows);
    rows.map(move |row| &row[col * bytes..][..shape.cols * bytes])
}

/// Decodes a tile as the kernel's lanes do; returns its weights row-major, padded to whole fragments.
fn decode_tile(tile: &CodedTile<'_>, format: WeightFormat, table: &[u32]) -> Vec<u16> {
    let (shape, table) = (tile.shape, table.try_into().expect("the table has an entry per slot"));
    let width = shape.steps() * FRAGMENT;
    let mut weights = vec![0; shape.strips() * FRAGMENT * width];
    for (number, slab) in tile.slabs().enumerate() {
        let top = number * SLAB_ROWS;
        let mut rows: WordRows = [[u32::MAX; LANES]; 64];
        slab.expand(&mut rows);
        let raw: Vec<u32> = slab.raw.as_chunks().0.iter().map(|&w| u32::from_le_bytes(w)).collect();
        for lane in 0..LANES {
            let memory = SliceMemory { table, rows: &rows, lane, raw: &raw };
            decode_slab(&memory, lane, slab.shape, format, |strip, step, registers| {
                let fragment = step * slab.shape.strips + strip;
                for (register, value) in registers.into_iter().enumerate() {
                    for half in 0..2 {
                        let place = Place { fragment, lane, register, half };
                        let (row, col) = slab.shape.position(place);
                        weights[(top + row) * width + col] = (value >> (16 * half)) as u16;
                    }
                }
            });
        }
        for (row, col, weight) in slab.exceptions() {
            weights[(top + row) * width + col] = weight;
        }
    }
    weights
}
