//! Encode and decode on the CPU, one core, in bytes of weights per second.

#[path = "../tests/common/mod.rs"]
mod common;

use common::Weights;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fused_rans::{Blob, Dtype, Matrix, encode};
use std::hint::black_box;

const SHAPE: (usize, usize) = (2048, 4096);

fn codec(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for dtype in Dtype::ALL {
        let data = Weights::Gaussian.bytes(dtype, SHAPE.0 * SHAPE.1, 1);
        let matrix = Matrix::new(dtype, SHAPE.0, SHAPE.1, &data).expect("the buffer fits");
        let bytes = encode(matrix).expect("Gaussian weights shrink");
        let blob = Blob::parse(&bytes).expect("just encoded");
        let mut out = vec![0; data.len()];
        blob.decode(&mut out).expect("just encoded");
        assert!(out == data, "a bench times only what it has checked");

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

criterion_group!(benches, codec);
criterion_main!(benches);
