//! Compares the weights that the GPU's decode step gives, run on the CPU lane by lane, with the original ones.

use fused_rans::layout::{Place, TileEntry};
use fused_rans::{Dtype, Encoder, Matrix, WeightsPerSymbol};
use proptest::prelude::*;
use support::step;
use support::{Job, Weights, any_matrix};

/// Encodes a matrix, decodes it with the GPU's decode step and compares; returns the number of coded tiles.
fn check(job: Job<'_>) -> usize {
    let Ok(blob) = job.encoder.encode(job.matrix) else { return 0 };
    step::check(&blob, job.matrix.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_device_step_decodes_every_matrix(matrix in any_matrix()) {
        check(matrix.job(&matrix.bytes()));
    }
}

#[test]
fn whole_tiles_of_every_type_go_through_the_device_step() {
    for dtype in Dtype::ALL {
        for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero, Weights::Small] {
            let data = weights.bytes(dtype, 256 * 272, 3);
            for weights_per_symbol in WeightsPerSymbol::ALL {
                let matrix = Matrix::from_bytes(dtype, &data, 256, 272).unwrap();
                let encoder = Encoder::new().weights_per_symbol(weights_per_symbol);
                let coded = check(Job { matrix, encoder });
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
