//! Reads any bytes as a blob: unchanged, with corrected checksums, and with corrected lengths, offsets and checksums.
#![no_main]

use fused_rans::{Activations, Blob, BlobError, Epilogue, Float, Outputs, TileFault};
use fused_rans_fuzz::crc::crc32c;
use fused_rans_fuzz::readers::{check_groups, parse};
use fused_rans_fuzz::{allocation, one_thread, seal};
use libfuzzer_sys::fuzz_target;

/// Size in bytes of the weights of the largest blob that is decoded.
const MOST: usize = 1 << 20;

fuzz_target!(init: one_thread(), |bytes: &[u8]| {
    let mut sealed = bytes.to_vec();
    seal::reseal(&mut sealed);
    let mut placed = bytes.to_vec();
    seal::lay_out(&mut placed);
    seal::reseal(&mut placed);
    read(bytes);
    if sealed != bytes {
        read(&sealed);
    }
    if placed != sealed {
        read(&placed);
    }
});

/// Reads everything in a blob.
fn read(bytes: &[u8]) {
    let Ok(blob) = parse(bytes) else { return };
    let intact = blob.verify().is_ok();
    check_groups(&blob);
    check_wide(&blob, intact);
    if blob.decoded_byte_len() > MOST {
        return;
    }
    let mut weights = vec![0xA5; blob.decoded_byte_len()];
    match blob.decode(&mut weights) {
        Ok(()) => check_numbers(&blob, &weights),
        Err(BlobError::WeightsChecksum) => {
            assert!(intact);
            let mut right = bytes.to_vec();
            seal::set(&mut right, (12, 4), crc32c(&[&weights]).into());
            seal::reseal_header(&mut right);
            check_numbers(&parse(&right).expect("as good as before"), &weights);
        }
        // Only decoding finds a fault of a stream.
        Err(BlobError::Tile { fault: TileFault::Stream, .. }) => {}
        Err(_) => assert!(!intact),
    }
}

/// Checks that large integers can be read if the blob is intact, that they are sorted and in range, and that no allocation
/// is larger than the blob justifies: 24 bytes for 4 bytes of the blob, doubled while their list grows.
fn check_wide(blob: &Blob<'_>, intact: bool) {
    let (wide, largest) = allocation::largest(|| blob.large_integers());
    assert!(
        largest <= 12 * blob.as_bytes().len() + 4096,
        "large integers took {largest} bytes at once"
    );
    assert_eq!(wide.is_ok(), intact || !blob.has_large_integers());
    let wide = wide.unwrap_or_default();
    assert!(wide.is_sorted_by(|a, b| (a.row, a.col) < (b.row, b.col)));
    assert!(wide.iter().all(|wide| wide.row < blob.rows() && wide.col < blob.cols()));
    assert!(wide.iter().all(|wide| i8::try_from(wide.integer).is_err()));
}

/// Dequantizes an intact blob and multiplies with it.
fn check_numbers(blob: &Blob<'_>, weights: &[u8]) {
    for wide in blob.large_integers().expect("it is intact") {
        let weight = weights[wide.row * blob.cols() + wide.col];
        assert_eq!(wide.integer as u8, weight);
    }
    let (rows, cols) = (blob.rows(), blob.cols());
    for dtype in [Float::Bf16, Float::F16, Float::F32] {
        let mut numbers = vec![0; rows * cols * dtype.byte_len()];
        blob.dequantize(dtype, &mut numbers).expect("it is intact");
    }
    let dtype = if blob.dtype().name() == "F16" { Float::F16 } else { Float::Bf16 };
    let (x, mut y) = (vec![0x3F; 2 * cols], vec![0; 4 * rows]);
    let x = Activations { data: &x[..], dtype, rows: 1, row_stride: cols };
    let y = Outputs { data: &mut y[..], dtype: Float::F32, row_stride: rows };
    blob.matmul(x, y, Epilogue::default()).expect("it is intact");
}
