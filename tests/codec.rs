//! The codecs: lossless for every matrix, and all of them alike.

mod common;

use common::{Weights, any_matrix};
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
    fn every_matrix_comes_back(matrix in any_matrix()) {
        check(matrix.dtype, matrix.rows, matrix.cols, &matrix.bytes());
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

#[test]
fn every_value_of_every_type_comes_back() {
    for dtype in Dtype::ALL {
        // Once by themselves, which does not shrink, and once among ordinary weights, which does.
        let values: Vec<u8> = match dtype.bytes() {
            1 => (0..=u8::MAX).collect(),
            _ => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        };
        let count = values.len() / dtype.bytes();
        check(dtype, count / 256, 256, &values);
        let mut data = Weights::Gaussian.bytes(dtype, 1024 * 1024, 3);
        data[..values.len()].copy_from_slice(&values);
        assert!(check(dtype, 1024, 1024, &data).is_some(), "{dtype:?} was meant to shrink");
    }
}

#[test]
fn a_tile_that_does_not_shrink_is_stored_raw_among_others() {
    let mut data = Weights::Gaussian.bytes(Dtype::Bf16, 512 * 256, 3);
    let random = Weights::AnyBits.bytes(Dtype::Bf16, 256 * 256, 4);
    data[..random.len()].copy_from_slice(&random);
    let bytes = check(Dtype::Bf16, 512, 256, &data).expect("half of it shrinks");
    let kinds: Vec<u8> = Blob::parse(&bytes).unwrap().index().iter().map(|t| t.kind).collect();
    assert_eq!(kinds, [0, 1]);
}
