//! The codecs: lossless for every matrix, and all of them alike.

mod common;

use common::{Weights, side};
use fused_rans::{Blob, Dtype, Matrix, encode, reference};
use proptest::prelude::*;

/// Encodes with both codecs, decodes with both, and returns the blob if there is one.
fn check(dtype: Dtype, rows: usize, cols: usize, data: &[u8]) -> Option<Vec<u8>> {
    let matrix = Matrix::new(dtype, rows, cols, data).unwrap();
    let bytes = encode(matrix);
    assert!(bytes == reference::encode(matrix), "the codecs write different bytes");
    let blob = Blob::parse(bytes.as_ref()?).unwrap();
    assert_eq!((blob.dtype(), blob.rows(), blob.cols()), (dtype, rows, cols));
    blob.verify().unwrap();
    let mut out = vec![0xA5; data.len()];
    blob.decode(&mut out).unwrap();
    assert!(out == data, "the fast decoder differs");
    assert!(reference::decode(&blob).unwrap() == data, "the reference decoder differs");
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_matrix_comes_back(
        rows in side(),
        cols in side(),
        dtype in prop::sample::select(&Dtype::ALL[..]),
        weights in prop::sample::select(&Weights::ALL[..]),
        seed: u64,
    ) {
        check(dtype, rows, cols, &weights.bytes(dtype, rows * cols, seed));
    }
}

#[test]
fn sides_of_a_thousand_and_one_weight() {
    for dtype in Dtype::ALL {
        for (rows, cols) in [(1, 1000), (1000, 1), (1000, 1000), (1, 1), (0, 5)] {
            check(dtype, rows, cols, &Weights::Gaussian.bytes(dtype, rows * cols, 7));
        }
    }
}
