//! The GPU's decode step, run on the CPU lane by lane, against the weights.

mod common;

use common::{Weights, any_matrix};
use fused_rans::layout::{FRAGMENT, LANES, Place, SLAB_STRIPS, TableKind, TileEntry, TileShape};
use fused_rans::tile::{CodedTile, Rows, Tile};
use fused_rans::{Blob, Dtype, Matrix, Packing, encode};
use fused_rans_kernels::{Format, SliceMemory, decode_slab};
use proptest::prelude::*;

/// A tile's weights, row by row, whole fragments, as the kernel's lanes decode them.
fn decode_tile(tile: &CodedTile<'_>, format: Format, table: &[u32]) -> Vec<u16> {
    let (shape, table) = (tile.shape, table.try_into().expect("an entry for each slot"));
    let width = shape.steps() * FRAGMENT;
    let mut weights = vec![0; shape.strips() * FRAGMENT * width];
    for (number, slab) in tile.slabs().enumerate() {
        let top = number * SLAB_STRIPS * FRAGMENT;
        let mut rows: Rows = [[u32::MAX; LANES]; 64];
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

fn tile_bytes(matrix: Matrix<'_>, tile: usize, shape: TileShape) -> Vec<Vec<u8>> {
    let (row, col) = matrix.grid().origin(tile);
    let bytes = matrix.dtype().bytes();
    let rows = matrix.data().chunks_exact(matrix.grid().cols * bytes).skip(row).take(shape.rows);
    rows.map(|row| row[col * bytes..][..shape.cols * bytes].to_vec()).collect()
}

/// Returns how many tiles the device step decoded.
fn check(matrix: Matrix<'_>) -> usize {
    let dtype = matrix.dtype();
    let Some(bytes) = encode(matrix) else { return 0 };
    let blob = Blob::parse(&bytes).unwrap();
    let table = blob.frequencies().kernel_table(blob.split());
    let wide = blob.frequencies().wide_table(blob.split());
    let mut coded = 0;
    for number in 0..blob.index().len() {
        let Tile::Coded(tile) = blob.tile(number).unwrap() else { continue };
        coded += 1;
        let decoded = decode_tile(&tile, Format::from(blob.split()), &table);
        if let Some(wide) = &wide {
            let format = Format::of(blob.split(), TableKind::Wide);
            assert!(decode_tile(&tile, format, wide) == decoded, "wide entries differ");
        }
        let width = tile.shape.steps() * FRAGMENT;
        let expected = tile_bytes(matrix, number, tile.shape);
        for (expected, decoded) in expected.iter().zip(decoded.chunks_exact(width)) {
            let decoded = decoded[..tile.shape.cols]
                .iter()
                .flat_map(|w| w.to_le_bytes().into_iter().take(dtype.bytes()));
            assert!(decoded.eq(expected.iter().copied()), "tile {number} differs");
        }
    }
    coded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_device_step_decodes_every_matrix(matrix in any_matrix()) {
        check(matrix.matrix(&matrix.bytes()));
    }
}

#[test]
fn whole_tiles_of_every_type_go_through_the_device_step() {
    for dtype in Dtype::ALL {
        for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero, Weights::Small] {
            let data = weights.bytes(dtype, 256 * 272, 3);
            for packing in Packing::ALL {
                let coded = check(Matrix::new(dtype, 256, 272, &data).unwrap().packed(packing));
                assert!(coded > 0, "{dtype:?} {weights:?} was not coded");
            }
        }
    }
}

#[test]
fn exception_records_keep_their_fields_and_their_order() {
    let place = |fragment, lane, register, half| Place { fragment, lane, register, half };
    let ascending = [place(0, 0, 0, 0), place(0, 0, 3, 1), place(0, 31, 0, 0), place(31, 0, 1, 1)];
    for (place, weight) in ascending.into_iter().zip([0, u16::MAX, 0x8001, 1]) {
        let record = TileEntry::exception(place, weight);
        assert_eq!(TileEntry::exception_fields(record), (place, weight));
        assert_eq!(record >> 16 & 7, 0);
    }
    let records = ascending.map(|place| TileEntry::exception(place, u16::MAX));
    assert!(records.is_sorted_by(|a, b| a < b) && ascending.is_sorted());
}
