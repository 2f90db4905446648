//! The GPU's decode step, run on the CPU lane by lane, against the weights.

mod common;

use common::{Weights, any_matrix};
use fused_rans::layout::{
    FRAGMENT, LANES, SLAB_STRIPS, TABLE, TileEntry, TileShape, register_position,
};
use fused_rans::tile::{CodedTile, Rows, Tile};
use fused_rans::{Blob, Dtype, Matrix, encode};
use fused_rans_kernels::{Format, SliceMemory, decode_slab, tail_slot};
use proptest::prelude::*;

/// A tile's weights, row by row, whole fragments, as the kernel's lanes decode them.
fn decode_tile(blob: &Blob<'_>, tile: &CodedTile<'_>, table: &[u32; TABLE]) -> Vec<u16> {
    let shape = tile.shape;
    let format = Format::from(blob.split());
    let width = shape.steps() * FRAGMENT;
    let mut weights = vec![0; shape.strips() * FRAGMENT * width];
    for (number, slab) in tile.slabs().enumerate() {
        let mut rows: Rows = [[u32::MAX; LANES]; 64];
        slab.expand(&mut rows);
        let raw: Vec<u32> = slab.raw.as_chunks().0.iter().map(|&w| u32::from_le_bytes(w)).collect();
        for lane in 0..LANES {
            let memory = SliceMemory { table, rows: &rows, lane, raw: &raw };
            decode_slab(&memory, lane, slab.shape, format, |strip, step, registers| {
                for (register, value) in registers.into_iter().enumerate() {
                    for half in 0..2 {
                        let (row, col) = register_position(lane, register, half);
                        let row = (number * SLAB_STRIPS + strip) * FRAGMENT + row;
                        weights[row * width + step * FRAGMENT + col] =
                            (value >> (16 * half)) as u16;
                    }
                }
            });
        }
    }
    for (row, col, weight) in tile.exceptions() {
        weights[row * width + col] = weight;
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
fn check(dtype: Dtype, rows: usize, cols: usize, data: &[u8]) -> usize {
    let matrix = Matrix::new(dtype, rows, cols, data).unwrap();
    let Some(bytes) = encode(matrix) else { return 0 };
    let blob = Blob::parse(&bytes).unwrap();
    let table = blob.frequencies().decode_table().map(|entry| entry.0);
    let mut coded = 0;
    for number in 0..blob.index().len() {
        let Tile::Coded(tile) = blob.tile(number).unwrap() else { continue };
        coded += 1;
        let decoded = decode_tile(&blob, &tile, &table);
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
        check(matrix.dtype, matrix.rows, matrix.cols, &matrix.bytes());
    }

    #[test]
    fn tail_slots_number_the_lanes_of_a_mask(mask: u32) {
        let slots: Vec<_> = (0..32).filter_map(|lane| tail_slot(mask, lane)).collect();
        prop_assert_eq!(slots, (0..mask.count_ones()).collect::<Vec<_>>());
    }
}

#[test]
fn whole_tiles_of_every_type_go_through_the_device_step() {
    for dtype in Dtype::ALL {
        for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero, Weights::Small] {
            let coded = check(dtype, 256, 272, &weights.bytes(dtype, 256 * 272, 3));
            assert!(coded > 0, "{dtype:?} {weights:?} was not coded");
        }
    }
}

#[test]
fn exception_records_keep_their_fields() {
    for (row, col, weight) in [(0, 0, 0), (255, 255, u16::MAX), (1, 254, 0x8001)] {
        let record = TileEntry::exception(row, col, weight);
        assert_eq!(TileEntry::exception_fields(record), (row, col, weight));
    }
}
