//! The decode kernels on a real device, against the weights. Skipped where there is none.
#![cfg(feature = "cuda")]

use fused_rans::file::{self, CompressedFile};
use fused_rans::gpu::{self, Gpu, GpuError};
use fused_rans::layout::TABLE;
use fused_rans::{Blob, BlobError, Dtype, Matrix, WeightsPerSymbol, encode};
use proptest::prelude::*;
use support::{Weights, any_matrix, device};

/// Decodes on the device; returns the exceptions, or `None` if the matrix does not shrink.
fn check(gpu: &Gpu, matrix: Matrix<'_>) -> Option<u64> {
    let bytes = encode(matrix)?;
    let blob = Blob::parse(&bytes).unwrap();
    let layer = gpu.upload(&blob).unwrap();
    let wide = blob.frequencies().exponent_table(blob.split()).map_or(0, |table| table.len());
    // Behind the blob there is room for a slab's tails, whatever their lengths say.
    assert_eq!(layer.device_bytes(), bytes.len() + 15 * 128 + 4 * (TABLE + wide));
    let same = layer.decode_to_host().unwrap() == matrix.data();
    assert!(same, "{:?} {:?} differs", matrix.dtype(), matrix.grid());
    Some(blob.exceptions())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_matrix_comes_back_from_the_device(matrix in any_matrix()) {
        if let Some(gpu) = device() {
            check(gpu, matrix.matrix(&matrix.bytes()));
        }
    }
}

#[test]
fn large_and_odd_layers_of_every_type() {
    let Some(gpu) = device() else { return };
    for dtype in Dtype::ALL {
        for (rows, cols) in [(2048, 5632), (1000, 1000), (4099, 1027), (192, 576), (17, 4096)] {
            for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero] {
                let data = weights.bytes(dtype, rows * cols, 11);
                let matrix = Matrix::new(dtype, rows, cols, &data).unwrap();
                let exceptions = check(gpu, matrix);
                if dtype == Dtype::I8 {
                    check(gpu, matrix.packed(WeightsPerSymbol::Four));
                }
                // Thin matrices may not shrink, and one byte's values may leave no exceptions.
                let dirty = matches!(weights, Weights::Dirty) && rows >= 192;
                if dirty && dtype.bytes() == 2 {
                    assert!(exceptions > Some(0), "{dtype:?} was meant to have exceptions");
                }
            }
        }
    }
}

#[test]
fn all_bf16_values_at_once() {
    let Some(gpu) = device() else { return };
    // Mostly ordinary weights, so that the tile is coded, and every bit pattern once.
    let mut data = Weights::Gaussian.bytes(Dtype::Bf16, 1024 * 1024, 5);
    for value in 0..=u16::MAX {
        let at = usize::from(value) * 16;
        data[2 * at..2 * at + 2].copy_from_slice(&value.to_le_bytes());
    }
    assert!(check(gpu, Matrix::new(Dtype::Bf16, 1024, 1024, &data).unwrap()) > Some(10_000));
}

#[test]
fn a_buffer_of_another_size_is_refused() {
    let Some(gpu) = device() else { return };
    let data = Weights::Gaussian.bytes(Dtype::Bf16, 512 * 512, 5);
    let bytes = encode(Matrix::new(Dtype::Bf16, 512, 512, &data).unwrap()).unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let (mut small, cuda_stream) =
        (gpu.buffer(data.len() - 2).unwrap(), gpu.cuda_stream().unwrap());
    let error = layer.decode(&mut small, &cuda_stream).expect_err("too small");
    assert!(matches!(error, GpuError::Blob(BlobError::BufferSize { .. })), "{error}");
}

#[test]
fn real_weights_come_back_from_the_device() {
    let Some(gpu) = device() else { return };
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/data/whisper-base-sample.bf16.safetensors");
    // The same layers as FP16, too, if they are at hand.
    let paths = std::env::var("FUSED_RANS_WEIGHTS").unwrap_or_default();
    let directory = tempfile::tempdir().unwrap();
    let mut layers = 0;
    for path in [plain].into_iter().chain(paths.split(':').filter(|path| !path.is_empty())) {
        let compressed = directory.path().join("compressed");
        file::compress(path, &compressed, &file::Options::default(), &mut |_, _| {}).unwrap();
        let compressed = CompressedFile::open(&compressed).unwrap();
        for name in compressed.blob_names() {
            let blob = compressed.blob(name).unwrap();
            let mut weights = vec![0; blob.weight_bytes()];
            blob.decode(&mut weights).unwrap();
            assert!(gpu.upload(&blob).unwrap().decode_to_host().unwrap() == weights, "{name}");
            layers += 1;
        }
    }
    println!("{layers} real layers");
    assert!(layers >= 2);
}

#[test]
#[ignore = "takes 15 GB of memory"]
fn a_layer_of_more_than_four_gigabytes() {
    let Some(gpu) = device() else { return };
    let (rows, cols) = (66_000, 65_536);
    let some = Weights::Gaussian.bytes(Dtype::I8, 1_000_003, 1);
    let data: Vec<u8> = some.iter().copied().cycle().take(rows * cols).collect();
    assert!(data.len() > 1 << 32);
    check(gpu, Matrix::new(Dtype::I8, rows, cols, &data).unwrap()).expect("it shrinks");
}

#[test]
fn handles_outlive_the_device_and_are_dropped_anywhere() {
    if device().is_none() {
        return;
    }
    let gpu = gpu::open(0).unwrap();
    let (buffer, cuda_stream) = (gpu.buffer(1 << 20).unwrap(), gpu.cuda_stream().unwrap());
    drop(gpu);
    std::thread::spawn(move || drop((buffer, cuda_stream))).join().unwrap();
}

#[test]
fn layers_are_used_from_many_threads_and_cuda_streams() {
    let Some(gpu) = device() else { return };
    // Of one type, but with streams of other lengths, so that they want other shared memory.
    let layer = |weights: Weights| {
        let data = weights.bytes(Dtype::I8, 768 * 1024, 9);
        let bytes = encode(Matrix::new(Dtype::I8, 768, 1024, &data).unwrap()).unwrap();
        (gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap(), data)
    };
    let layers = [layer(Weights::Gaussian), layer(Weights::Small), layer(Weights::MostlyZero)];
    std::thread::scope(|scope| {
        for (layer, data) in layers.iter().chain(&layers) {
            scope.spawn(|| (0..8).for_each(|_| assert!(layer.decode_to_host().unwrap() == *data)));
        }
    });
}

#[test]
fn without_a_device_there_is_an_error_that_says_so() {
    let error = gpu::open(9999).expect_err("nobody has ten thousand devices");
    assert!(error.to_string().contains("no CUDA device 9999"), "{error}");
}

#[test]
fn kernels_that_do_not_load_are_a_typed_error() {
    if device().is_some() {
        let error = Gpu::open(0, "not PTX").expect_err("not PTX");
        assert!(matches!(error, gpu::GpuError::Kernels { .. }), "{error}");
    }
}
