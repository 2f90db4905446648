//! The decode kernels on a real device, against the weights. Skipped where there is none.
#![cfg(feature = "cuda")]

mod common;

use common::{Weights, side};
use fused_rans::gpu::{self, Gpu};
use fused_rans::{Blob, Dtype, Matrix, encode};
use proptest::prelude::*;
use std::sync::OnceLock;

/// The first device, or `None` with a message.
fn device() -> Option<&'static Gpu> {
    static DEVICE: OnceLock<Option<Gpu>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let device = gpu::open(0);
        device.map_err(|error| eprintln!("skipped: {error}")).ok()
    });
    device.as_ref()
}

/// Decodes on the device; returns the exceptions, or `None` if the matrix does not shrink.
fn check(gpu: &Gpu, dtype: Dtype, rows: usize, cols: usize, data: &[u8]) -> Option<u64> {
    let bytes = encode(Matrix::new(dtype, rows, cols, data).unwrap())?;
    let blob = Blob::parse(&bytes).unwrap();
    let layer = gpu.upload(&blob).unwrap();
    assert!(layer.device_bytes() >= bytes.len());
    assert!(layer.decode_to_host().unwrap() == data, "{dtype:?} {rows} x {cols} differs");
    Some(blob.exceptions())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_matrix_comes_back_from_the_device(
        rows in side(),
        cols in side(),
        dtype in prop::sample::select(&Dtype::ALL[..]),
        weights in prop::sample::select(&Weights::ALL[..]),
        seed: u64,
    ) {
        if let Some(gpu) = device() {
            check(gpu, dtype, rows, cols, &weights.bytes(dtype, rows * cols, seed));
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
                let exceptions = check(gpu, dtype, rows, cols, &data);
                // Thin matrices may not shrink, and one byte's values may all have nibbles.
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
    assert!(check(gpu, Dtype::Bf16, 1024, 1024, &data) > Some(10_000));
}

#[test]
fn a_buffer_of_another_size_is_refused() {
    let Some(gpu) = device() else { return };
    let data = Weights::Gaussian.bytes(Dtype::Bf16, 512 * 512, 5);
    let bytes = encode(Matrix::new(Dtype::Bf16, 512, 512, &data).unwrap()).unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut small = gpu.buffer(data.len() - 2).unwrap();
    assert!(layer.decode(&mut small, &gpu.cuda_stream().unwrap()).is_err());
}

#[test]
fn layers_are_used_from_many_threads_and_cuda_streams() {
    let Some(gpu) = device() else { return };
    let data = Weights::Gaussian.bytes(Dtype::Bf16, 768 * 1024, 9);
    let bytes = encode(Matrix::new(Dtype::Bf16, 768, 1024, &data).unwrap()).unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..8).for_each(|_| assert!(layer.decode_to_host().unwrap() == data)));
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
        assert!(matches!(error, gpu::GpuError::Kernels(_)), "{error}");
    }
}
