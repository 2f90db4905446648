//! Tests `fused-rans-bench` and its dense kernels on a GPU. Skipped if there is none.
#![cfg(feature = "cuda")]

use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{DeviceBuffer, Gpu, GpuError};
use fused_rans::layout::TileGrid;
use fused_rans::{Blob, Dtype, Float, Matrix, encode};
use fused_rans_bench::{BenchError, Effort, Measurement, Session, Subject};
use support::product::{activation_type, numbers, weight_numbers};
use support::{Weights, device};

fn upload(gpu: &Gpu, bytes: &[u8]) -> DeviceBuffer {
    let mut buffer = gpu.alloc(bytes.len()).unwrap();
    buffer.copy_from(bytes).unwrap();
    buffer
}

/// Checks all outputs of the dense kernel.
fn check_dense(gpu: &Gpu, dtype: Dtype, rows: usize, cols: usize, m: usize) {
    let float = activation_type(dtype, false);
    let w = Weights::Gaussian.bytes(dtype, rows * cols, 1);
    let x = Weights::Gaussian.bytes(dtype, m * cols, 2);
    let (w_device, x_device) = (upload(gpu, &w), upload(gpu, &x));
    let mut y = upload(gpu, &vec![0xFF; 4 * m * rows]);
    let cuda_stream = gpu.create_stream().unwrap();
    let shape = TileGrid { rows, cols };
    let (w_at, x_at, y_at) = (w_device.as_slice(), x_device.as_slice(), y.as_mut_slice());
    let (dtype_of_x, y_dtype) = (float, Float::F32);
    let product =
        DenseProduct { dtype: dtype_of_x, shape, w: w_at, x: x_at, rows: m, y: y_at, y_dtype };
    product.queue(gpu, &cuda_stream).unwrap();
    gpu.synchronize().unwrap();
    let found = y.to_vec().unwrap();
    let (w, x, found) =
        (weight_numbers(dtype, &w), weight_numbers(dtype, &x), numbers(Float::F32, &found));
    for (i, found) in found.into_iter().enumerate() {
        let products =
            w[i % rows * cols..][..cols].iter().zip(&x[i / rows * cols..]).map(|(w, x)| w * x);
        let (sum, magnitude) =
            products.fold((0.0, 0.0), |(sum, magnitude), p| (sum + p, magnitude + p.abs()));
        let fits = (found - sum).abs() <= 4e-6 * magnitude;
        assert!(fits, "{dtype:?} {rows} x {cols}, {m}: output {i} is {found}, not {sum}");
    }
}

#[test]
fn the_dense_kernels_multiply() {
    let Some(gpu) = device() else { return };
    for dtype in [Dtype::Bf16, Dtype::F16] {
        for (rows, cols) in [(1, 1), (100, 256), (33, 77), (9, 4096), (17, 5000), (64, 1032)] {
            for m in [1, 2, 3, 7, 8, 13, 64] {
                check_dense(gpu, dtype, rows, cols, m);
            }
        }
    }
}

#[test]
fn dense_products_that_do_not_fit_are_refused() {
    let Some(gpu) = device() else { return };
    let buffer = || gpu.alloc(4096).unwrap();
    let (w, x, mut y, cuda_stream) = (buffer(), buffer(), buffer(), gpu.create_stream().unwrap());
    let shape = TileGrid { rows: 32, cols: 64 };
    for (m, dtype, y_dtype, bytes) in [
        (33, Float::Bf16, Float::F32, 4096),
        (32, Float::F32, Float::F32, 4096),
        (32, Float::Bf16, Float::Bf16, 4096),
        (32, Float::Bf16, Float::F32, 4095),
    ] {
        let (w, x, y) = (w.slice(0..bytes), x.as_slice(), y.as_mut_slice());
        let product = DenseProduct { dtype, shape, w, x, rows: m, y, y_dtype };
        let error = product.queue(gpu, &cuda_stream).unwrap_err();
        assert!(matches!(error, GpuError::Matmul(_) | GpuError::Blob(_)), "{error}");
    }
}

#[test]
fn a_layer_is_measured() {
    let Some(gpu) = device() else { return };
    let weights = Weights::Gaussian.bytes(Dtype::Bf16, 512 * 768, 1);
    let blob =
        encode(Matrix::from_bytes(Dtype::Bf16, &weights, 512, 768).unwrap()).unwrap().into_bytes();
    let blob = Blob::parse(&blob).unwrap();
    let mut session = Session::new(gpu.clone()).unwrap();
    let mut subject = Subject::new(&session, "layer", &blob, 9).unwrap();
    for m in [1, 9] {
        let measurement = subject.measure(&mut session, m, Effort::QUICK).unwrap();
        let Measurement { us, speedup, error, reference_error, cublas_us, dense_us, .. } =
            measurement;
        assert!(us > 0.0 && error < 1e-6 && reference_error < Some(1e-6), "{error}");
        assert!(speedup > Some(0.0) && cublas_us.is_some() != dense_us.is_some());
    }
    for m in [0, 10] {
        let error = subject.measure(&mut session, m, Effort::QUICK).unwrap_err();
        assert!(matches!(error, BenchError::Batch { max_rows: 9, .. }), "{error}");
    }
}
