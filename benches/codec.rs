//! Measures encoding, decoding and quantizing on one CPU core, in bytes of weights per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fused_rans::quantize::{NumberMatrix, QuantizeOptions, Quantizer};
use fused_rans::{Blob, Dtype, Float, Matrix, encode};
use half::bf16;
use std::hint::black_box;
use support::Weights;

const SHAPE: (usize, usize) = (2048, 4096);

/// Measures encoding and decoding for every type of weights.
fn codec(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for dtype in Dtype::ALL {
        let data = Weights::Gaussian.bytes(dtype, SHAPE.0 * SHAPE.1, 1);
        let matrix = Matrix::from_bytes(dtype, &data, SHAPE.0, SHAPE.1).expect("the buffer fits");
        let bytes = encode(matrix).expect("Gaussian weights shrink").into_bytes();
        let blob = Blob::parse(&bytes).expect("just encoded");
        let mut out = vec![0; data.len()];
        blob.decode(&mut out).expect("just encoded");
        assert!(out == data, "the decoded weights differ");

        let mut group = criterion.benchmark_group(dtype.name());
        group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
        group.bench_function("encode", |b| {
            b.iter(|| pool.install(|| encode(black_box(matrix))));
        });
        group.bench_function("decode", |b| {
            b.iter(|| pool.install(|| blob.decode(black_box(&mut out))));
        });
        group.finish();
    }
}

/// Measures quantizing and encoding together, in bytes of BF16 numbers per second.
fn quantize(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let (rows, cols) = SHAPE;
    let data = Weights::StudentT.bytes(Dtype::Bf16, rows * cols, 1);
    let source = NumberMatrix::from_bytes(Float::Bf16, &data, rows, cols).expect("the buffer fits");
    let mut group = criterion.benchmark_group("BF16 to");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
    for format in ["int8", "int4", "int4-zero-points", "fp8", "rate=4", "rate=5.7"] {
        let quantizer: Quantizer = format.parse().expect("a valid format");
        let compress = || {
            let quantized = quantizer.quantize(black_box(source), QuantizeOptions::new());
            quantized.expect("all numbers are finite").encode()
        };
        let blob = compress().expect("quantized weights shrink");
        let error = relative_error(&blob, &data);
        assert!(error < 0.2, "{format}: the relative error is {error}");
        group.bench_function(format, |b| b.iter(|| pool.install(compress)));
    }
    group.finish();
}

/// Returns the relative error of a blob's dequantized numbers: their root mean square distance from `data`, divided by
/// the root mean square of `data`.
fn relative_error(blob: &Blob<'_>, data: &[u8]) -> f64 {
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|&bits| bf16::from_le_bytes(bits).to_f64()).collect()
    };
    let mut back = vec![0; data.len()];
    blob.dequantize(Float::Bf16, &mut back).expect("just encoded");
    let pairs: Vec<_> = numbers(data).into_iter().zip(numbers(&back)).collect();
    let error: f64 = pairs.iter().map(|(a, b)| (a - b).powi(2)).sum();
    (error / pairs.iter().map(|(a, _)| a * a).sum::<f64>()).sqrt()
}

criterion_group!(benches, codec, quantize);
criterion_main!(benches);
