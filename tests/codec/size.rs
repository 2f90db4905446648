//! Bounds of the stored size, headers and tables included.
//!
//! `cargo test --release --test codec size -- --nocapture` prints the table.

use fused_rans::{Blob, Dtype, Matrix, encode};
use support::Weights;

struct Size {
    stored: f64,
    entropy: f64,
    exceptions: u64,
}

/// Encodes a matrix; prints and returns its sizes in bits per weight.
fn measure(weights: Weights, dtype: Dtype, rows: usize, cols: usize) -> Size {
    let data = weights.bytes(dtype, rows * cols, 42);
    let bytes = encode(Matrix::from_bytes(dtype, &data, rows, cols).unwrap())
        .expect("it shrinks")
        .into_bytes();
    let blob = Blob::parse(&bytes).unwrap();
    let size = Size {
        stored: 8.0 * bytes.len() as f64 / (rows * cols) as f64,
        entropy: blob.entropy(),
        exceptions: blob.exception_count(),
    };
    println!(
        "{weights:?} {} {rows} x {cols}: {:.3} b/w, entropy {:.3}, + {:.3}, exceptions {:.1e}",
        dtype.name(),
        size.stored,
        size.entropy,
        size.stored - size.entropy,
        size.exceptions as f64 / (rows * cols) as f64
    );
    size
}

#[test]
fn large_bf16_layers_take_at_most_0_15_bits_over_their_entropy() {
    for weights in [Weights::Gaussian, Weights::StudentT, Weights::Laplace] {
        let size = measure(weights, Dtype::Bf16, 4096, 14336);
        assert!(size.stored <= size.entropy + 0.15);
    }
}

#[test]
fn small_bf16_layers_take_at_most_0_30_bits_over_their_entropy() {
    let size = measure(Weights::Gaussian, Dtype::Bf16, 2048, 512);
    assert!(size.stored <= size.entropy + 0.30);
}

#[test]
fn narrow_models_take_at_most_11_bits() {
    for width in [384, 576] {
        for rows in [width, 4 * width] {
            assert!(measure(Weights::Gaussian, Dtype::Bf16, rows, width).stored <= 11.0);
            assert!(measure(Weights::Gaussian, Dtype::Bf16, width, rows).stored <= 11.0);
        }
    }
}

#[test]
fn the_other_types_come_as_close() {
    for dtype in [Dtype::F16, Dtype::F8E4M3, Dtype::I8] {
        let size = measure(Weights::Gaussian, dtype, 4096, 4096);
        // The raw bits of integers have slightly less entropy than they take.
        let slack = if dtype == Dtype::I8 { 0.22 } else { 0.15 };
        assert!(size.stored <= size.entropy + slack);
    }
}

#[test]
fn four_bit_integers_are_coded_whole() {
    let size = measure(Weights::Small, Dtype::I8, 1024, 1024);
    // Every symbol takes 8 bits, so that every stream is 4 bits longer than 32 words.
    assert!(size.exceptions == 0 && size.stored <= size.entropy + 0.155);
}

#[test]
fn a_pruned_layer_shrinks_to_its_entropy() {
    let size = measure(Weights::MostlyZero, Dtype::Bf16, 2048, 2048);
    // The raw plane stores sign and mantissa of zeros, which have no entropy.
    assert!(size.stored <= size.entropy + 0.15);
}
