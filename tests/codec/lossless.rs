//! The fast and the reference codec: both are lossless, and write the same bytes.

use fused_rans::layout::{GroupPlane, TileKind};
use fused_rans::tile::Tile;
use fused_rans::{
    Blob, BlobError, Dtype, Encoder, Float, Groups, LargeInteger, Matrix, WeightsPerSymbol,
    reference,
};
use half::f16;
use half::slice::HalfFloatSliceExt;
use proptest::prelude::*;
use support::{AnyGroups, AnyLargeIntegers, Job, Recipe, Weights, any_matrix, bf16s};

/// Encodes and decodes with both codecs; returns the blob, or `None` if it would not be smaller.
fn check(dtype: Dtype, rows: usize, cols: usize, data: &[u8]) -> Option<Vec<u8>> {
    let matrix = Matrix::from_bytes(dtype, data, rows, cols).unwrap();
    check_job(Job { matrix, encoder: Encoder::new() })
}

/// Does the same as [`check`] for a matrix and an encoder.
fn check_job(job: Job<'_>) -> Option<Vec<u8>> {
    let bytes = job.encode();
    assert!(bytes == job.encode_by_reference(), "the codecs write different bytes");
    let blob = check_blob(job.matrix, bytes.as_ref()?);
    assert!(blob.groups().is_none());
    assert_eq!((blob.group_scales(), blob.group_zeros()), (Ok(None), Ok(None)));
    bytes
}

/// Decodes the blob of `matrix` with both codecs.
fn check_blob<'a>(matrix: Matrix<'_>, bytes: &'a [u8]) -> Blob<'a> {
    let blob = Blob::parse(bytes).unwrap();
    let grid = matrix.grid();
    assert_eq!((blob.dtype(), blob.grid()), (matrix.dtype(), grid));
    assert_eq!((blob.rows(), blob.cols()), (grid.rows, grid.cols));
    blob.verify().unwrap();
    let mut out = vec![0xA5; matrix.as_bytes().len()];
    blob.decode(&mut out).unwrap();
    assert!(out == matrix.as_bytes(), "the fast decoder differs");
    assert!(reference::decode(&blob).unwrap() == out, "the reference decoder differs");
    blob
}

/// Does the same as [`check_job`] for integers with groups.
fn check_grouped(job: Job<'_>, groups: Groups<'_>) -> Option<Vec<u8>> {
    let job = job.with_groups(groups);
    let bytes = job.encode();
    assert!(bytes == job.encode_by_reference(), "the codecs write different bytes");
    let blob = check_blob(job.matrix, bytes.as_ref()?);
    assert_eq!((blob.split().half_range(), blob.exception_count()), (8, 0));
    assert_eq!(blob.groups(), Some(GroupPlane { zeros: groups.zeros.is_some() }));
    let scales = blob.group_scales().unwrap().expect("it has groups");
    let same = scales.reinterpret_cast() == groups.scales.reinterpret_cast();
    assert!(same, "the scales differ");
    assert!(blob.group_zeros().unwrap().as_deref() == groups.zeros, "the zero points differ");
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_matrix_comes_back(matrix in any_matrix()) {
        check_job(matrix.job(&matrix.bytes()));
    }

    /// Both codecs restore large integers, and `dequantize` does.
    #[test]
    fn matrices_with_large_integers_are_lossless(
        matrix in any_matrix(),
        one_of in prop::sample::select(vec![1, 2, 50, 3000, 1 << 20]),
    ) {
        let large = AnyLargeIntegers::new(&Recipe { dtype: Dtype::I8, ..matrix }, one_of);
        let Some(bytes) = large.job().encode() else { return Ok(()) };
        prop_assert!(large.job().encode_by_reference().as_ref() == Some(&bytes));
        let blob = check_blob(large.job().matrix, &bytes);
        prop_assert_eq!(blob.has_large_integers(), !large.integers.is_empty());
        prop_assert!(blob.large_integers().unwrap() == large.integers);
        let mut numbers = vec![0xA5; 4 * large.data.len()];
        blob.dequantize(Float::F32, &mut numbers).unwrap();
        let expected: Vec<u8> = large.numbers().into_iter().flat_map(f32::to_le_bytes).collect();
        prop_assert!(numbers == expected);
    }

    #[test]
    fn every_grouped_matrix_comes_back(matrix in any_matrix(), zeros: bool) {
        let matrix = Recipe { dtype: Dtype::I8, ..matrix };
        let groups = AnyGroups::new(matrix.rows, matrix.cols, zeros, matrix.seed);
        check_grouped(matrix.job(&matrix.nibbles()), groups.groups());
    }
}

#[test]
fn raw_tiles_store_group_scales() {
    // The lower tile is too small to be coded, and its size is not a multiple of 16 bytes.
    let (rows, cols) = (256 + 3, 256 + 9);
    let data = Weights::Small.bytes(Dtype::I8, rows * cols, 3);
    for (weights_per_symbol, zeros) in
        WeightsPerSymbol::ALL.into_iter().flat_map(|p| [(p, false), (p, true)])
    {
        let groups = AnyGroups::new(rows, cols, zeros, 9);
        let matrix = Matrix::from_bytes(Dtype::I8, &data, rows, cols).unwrap();
        let encoder = Encoder::new().weights_per_symbol(weights_per_symbol);
        let bytes = check_grouped(Job { matrix, encoder }, groups.groups()).expect("it shrinks");
        let blob = Blob::parse(&bytes).unwrap();
        let kinds: Vec<u8> = blob.index().iter().map(|tile| tile.kind).collect();
        assert!(kinds.contains(&(TileKind::Raw as u8)) && kinds[0] == TileKind::Coded as u8);
    }
}

#[test]
fn groups_that_do_not_fit_are_refused() {
    let data = Weights::Small.bytes(Dtype::I8, 64 * 130, 3);
    let matrix = Matrix::from_bytes(Dtype::I8, &data, 64, 130).unwrap();
    let (scales, zeros) = (vec![f16::ONE; 128], vec![0; 128]);
    let with_groups = |scales: &[f16], zeros: Option<&[i8]>| {
        matrix.with_groups(Groups { scales, zeros }).map(drop)
    };
    assert_eq!(with_groups(&scales, Some(&zeros)), Ok(()));
    let count = |found| Err(BlobError::GroupCount { rows: 64, cols: 130, expected: 128, found });
    assert_eq!(with_groups(&scales[1..], None), count(127));
    assert_eq!(with_groups(&scales, Some(&zeros[..64])), count(64));
    assert_eq!(with_groups(&[], None), count(0));
    for found in [-9, 8, i8::MIN, i8::MAX] {
        let mut zeros = zeros.clone();
        zeros[127] = found;
        assert_eq!(with_groups(&scales, Some(&zeros)), Err(BlobError::ZeroPoint { found }));
    }
    for found in [-9, 8, i8::MIN, i8::MAX] {
        let mut data = data.clone();
        data[64 * 130 - 1] = found.cast_unsigned();
        let matrix = Matrix::from_bytes(Dtype::I8, &data, 64, 130).unwrap();
        let groups = Groups { scales: &scales, zeros: None };
        let refused = matrix.with_groups(groups).map(drop);
        assert_eq!(refused, Err(BlobError::GroupedWeight { found }));
    }
    let floats = Matrix::from_bytes(Dtype::F8E4M3, &data, 64, 130).unwrap();
    let refused = floats.with_groups(Groups { scales: &scales, zeros: None }).map(drop);
    assert_eq!(refused, Err(BlobError::GroupType { dtype: Dtype::F8E4M3 }));
}

#[test]
fn row_scales_that_do_not_fit_are_refused() {
    let data = Weights::Small.bytes(Dtype::Bf16, 64 * 96, 3);
    let scaled = |dtype: Dtype, scales: usize| {
        let matrix =
            Matrix::from_bytes(dtype, &data[..64 * 96 * dtype.byte_len()], 64, 96).unwrap();
        matrix.with_row_scales(bf16s(&vec![0x3F80; scales])).map(|scaled| scaled.dtype())
    };
    for dtype in [Dtype::I8, Dtype::F8E4M3] {
        assert_eq!(scaled(dtype, 64), Ok(dtype));
        for found in [0, 63, 65, 96] {
            assert_eq!(scaled(dtype, found), Err(BlobError::RowScales { dtype, rows: 64, found }));
        }
    }
    for dtype in [Dtype::Bf16, Dtype::F16] {
        assert_eq!(scaled(dtype, 64), Err(BlobError::RowScales { dtype, rows: 64, found: 64 }));
    }
}

#[test]
fn large_integers_that_do_not_fit_are_refused() {
    let scales = vec![0x3F80; 4];
    let mut data = vec![1; 4 * 5];
    data[5 + 2] = 300u16 as u8;
    let at = |row, col, integer| LargeInteger { row, col, integer };
    let matrix = Matrix::from_bytes(Dtype::I8, &data, 4, 5).unwrap();
    let with_large_integers = |large: &[LargeInteger]| {
        matrix.with_row_scales(bf16s(&scales)).unwrap().with_large_integers(large).is_ok()
    };
    assert!(with_large_integers(&[]));
    assert!(with_large_integers(&[at(1, 2, 300)]));
    let refused = [
        // It fits in a byte; nine significant bits; outside (twice); another low byte; twice the same; not in order.
        vec![at(1, 2, 44)],
        vec![at(1, 2, 300 + 256 * 7)],
        vec![at(4, 2, 300)],
        vec![at(1, 5, 300)],
        vec![at(1, 3, 300)],
        vec![at(1, 2, 300), at(1, 2, 300)],
        vec![at(1, 2, 300), at(0, 2, -255)],
    ];
    for large in refused {
        assert!(!with_large_integers(&large), "{large:?}");
    }
    assert!(with_large_integers(&[at(0, 2, -255), at(1, 2, 300)]), "in order");
    let large = [at(1, 2, 300)];
    let of_another = |matrix: Matrix<'_>| matrix.with_large_integers(&large).map(drop);
    assert!(matches!(of_another(matrix), Err(BlobError::LargeIntegers(_))), "without scales");
    let f8 = Matrix::from_bytes(Dtype::F8E4M3, &data, 4, 5)
        .unwrap()
        .with_row_scales(bf16s(&scales))
        .unwrap();
    assert!(matches!(of_another(f8), Err(BlobError::LargeIntegers(_))));
    let matrix =
        matrix.with_row_scales(bf16s(&scales)).unwrap().with_large_integers(&large).unwrap();
    let grouped = matrix.with_groups(Groups { scales: &[f16::ZERO; 4], zeros: None });
    assert!(matches!(grouped, Err(BlobError::LargeIntegers(_))));
}

/// A tile can have at most 65,535 exceptions.
#[test]
fn tiles_of_large_integers_alone_are_not_coded() {
    let recipe = Recipe::gaussian(Dtype::I8);
    assert!(AnyLargeIntegers::new(&recipe, 1).job().encode().is_none());
    assert!(AnyLargeIntegers::new(&recipe, 1).job().encode_by_reference().is_none());
    assert!(AnyLargeIntegers::new(&recipe, 2).job().encode().is_some());
    let smaller = Recipe { rows: 255, ..recipe };
    assert!(AnyLargeIntegers::new(&smaller, 1).job().encode().is_some());
}

#[test]
fn columns_of_fragments_follow_the_layout() {
    // A single weight of another exponent is an exception at a known place.
    for (rows, cols) in [(32, 256), (47, 96), (16, 80)] {
        let mut data = Weights::Gaussian.bytes(Dtype::Bf16, rows * cols, 5);
        data.as_chunks_mut::<2>().0.iter_mut().for_each(|weight| weight[1] = 0x3C);
        let at = (rows - 1) * cols + cols - 2;
        data[2 * at..2 * at + 2].copy_from_slice(&[0xFF, 0x7F]);
        let bytes = check(Dtype::Bf16, rows, cols, &data).expect("it shrinks");
        let blob = Blob::parse(&bytes).unwrap();
        let Tile::Coded(tile) = blob.tile(0).unwrap() else { panic!("a coded tile") };
        let slab = tile.slabs().last().expect("there is one");
        let exceptions: Vec<_> = slab.exceptions().collect();
        assert_eq!(exceptions, [((rows - 1) % 32, cols - 2, 0x7FFF)]);
    }
}

#[test]
fn only_a_tail_of_fifteen_rows_is_ragged() {
    // Lane 0 has only rare symbols, so that its stream is much longer than the others.
    let data = (0..1024 * 768).map(|at| (at / 768, at % 768));
    let rare = |(row, col)| row < 32 && row % 8 == 0 && col < 256 && col % 32 < 8;
    let data: Vec<u8> = data.map(|place| u8::from(rare(place))).collect();
    let bytes = check(Dtype::I8, 1024, 768, &data).expect("it shrinks");
    let tile = Blob::parse(&bytes).unwrap().index()[0];
    assert_eq!((tile.full_rows[0], tile.tail_rows[0]), (33, 15));
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
        // All values alone, which do not shrink, then among Gaussian weights, which do.
        let values: Vec<u8> = match dtype.byte_len() {
            1 => (0..=u8::MAX).collect(),
            _ => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        };
        let count = values.len() / dtype.byte_len();
        check(dtype, count / 256, 256, &values);
        let mut data = Weights::Gaussian.bytes(dtype, 1024 * 1024, 3);
        data[..values.len()].copy_from_slice(&values);
        assert!(check(dtype, 1024, 1024, &data).is_some(), "{dtype:?} was meant to shrink");
    }
}

#[test]
fn four_weights_share_a_symbol_where_they_can() {
    let (rows, cols) = (256, 272);
    let packed = |dtype, data: &[u8]| {
        let matrix = Matrix::from_bytes(dtype, data, rows, cols).unwrap();
        let encoder = Encoder::new().weights_per_symbol(WeightsPerSymbol::Four);
        let bytes = check_job(Job { matrix, encoder }).expect("it shrinks");
        Blob::parse(&bytes).unwrap().split()
    };
    for dtype in Dtype::ALL {
        let split = packed(dtype, &Weights::Gaussian.bytes(dtype, rows * cols, 3));
        let four = dtype == Dtype::I8;
        assert_eq!(
            split.weights_per_symbol(),
            if four { WeightsPerSymbol::Four } else { WeightsPerSymbol::Two }
        );
    }
    let small: Vec<u8> = Weights::Gaussian.bytes(Dtype::I8, rows * cols, 3);
    let small: Vec<u8> = small.iter().map(|&w| (w.cast_signed() >> 2).clamp(-8, 7) as u8).collect();
    assert_eq!(packed(Dtype::I8, &small).raw_bits(), 2);
    // Too many weights lie outside -64..=63.
    let eight_bits = Weights::Integers(8).bytes(Dtype::I8, rows * cols, 3);
    assert_eq!(packed(Dtype::I8, &eight_bits).weights_per_symbol(), WeightsPerSymbol::Two);
    // Nearly all symbols are equal: too frequent for a table of four-weight entries.
    let zeros = Weights::MostlyZero.bytes(Dtype::I8, rows * cols, 3);
    assert_eq!(packed(Dtype::I8, &zeros).weights_per_symbol(), WeightsPerSymbol::Two);
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
