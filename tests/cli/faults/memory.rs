//! Files that decode to more bytes than the memory has.

use std::fs;
use std::process::{Command, Output};

use fused_rans::quantize::{NumberMatrix, QuantizeOptions, Quantizer};
use fused_rans::{Blob, BlobError, Dtype, Float, Matrix, TileFault, encode};

use super::large::{bomb, smallest};
use crate::place::Place;
use support::seal::{BYTES, INDEX, reseal_header, set};

/// Largest number of weights per byte of a blob: a tile's weights over its index record and the one line that a payload has
/// at least.
const MAX_WEIGHTS_PER_BYTE: f64 = 65536.0 / (64.0 + 128.0);

#[test]
fn no_tile_is_smaller_than_two_lines() {
    let tiles = 1024;
    let blob = smallest(tiles, false);
    let parsed = Blob::parse(&blob).unwrap();
    assert_eq!(parsed.decoded_byte_len(), tiles << 16);
    assert!(parsed.decoded_byte_len() as f64 > 0.99 * MAX_WEIGHTS_PER_BYTE * blob.len() as f64);
    // A tile without a payload is refused.
    let mut none = smallest(1, false);
    none.truncate(none.len() - 128);
    let bytes = none.len() as u64;
    set(&mut none, BYTES, bytes);
    set(&mut none, (INDEX + 8, 2), 0);
    reseal_header(&mut none);
    let fault = TileFault::Index("the payload is too short for its parts");
    assert_eq!(Blob::parse(&none).err(), Some(BlobError::Tile { tile: 0, fault }));
    // No encoder makes smaller tiles, not even of constant weights.
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F8E4M3, Dtype::I8] {
        let zeros = vec![0; 4096 * 4096 * dtype.byte_len()];
        let blob =
            encode(Matrix::from_bytes(dtype, &zeros, 4096, 4096).unwrap()).unwrap().into_bytes();
        assert!((1 << 24) as f64 <= MAX_WEIGHTS_PER_BYTE * blob.len() as f64, "{dtype:?}");
    }
    let ones = 1f32.to_le_bytes().repeat(1024 * 1024);
    for quantizer in ["int8", "fp8", "int4", "int4-zero-points", "rate=2", "rate=7"] {
        let quantizer: Quantizer = quantizer.parse().unwrap();
        let source = NumberMatrix::from_bytes(Float::F32, &ones, 1024, 1024).unwrap();
        let quantized = quantizer.quantize(source, QuantizeOptions::new()).unwrap();
        let blob = quantized.encode().unwrap().into_bytes();
        assert!((1 << 20) as f64 <= MAX_WEIGHTS_PER_BYTE * blob.len() as f64, "{quantizer:?}");
    }
}

/// Runs the program with one thread and an address space of `limit` KiB.
fn limited(place: &Place, limit: u64, args: &[&str]) -> Output {
    let program = place.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {limit}; exec \"$@\""), "sh"]);
    command.arg(program.get_program()).args(program.get_args()).args(["--threads", "1"]);
    command.current_dir(place.path("")).output().unwrap()
}

/// A valid file whose weights exceed the memory gives an error, whether the decoder's buffer or the buffer of quantized
/// weights does not fit.
#[test]
fn weights_that_do_not_fit_into_memory_are_an_error() {
    let place = Place::empty();
    fs::write(place.path("out"), "old").unwrap();
    for scaled in [false, true] {
        fs::write(place.path("bomb"), bomb(1 << 10, scaled)).unwrap();
        let said = (150..600).step_by(30).map(|mebibytes| {
            let args = ["decompress", "bomb", "-o", "out"];
            let Output { status, stderr, .. } = limited(&place, mebibytes << 10, &args);
            assert_eq!(status.code(), Some(1), "{mebibytes}");
            String::from_utf8(stderr).unwrap()
        });
        let said: Vec<String> = said.collect();
        let has = |what: &str| said.iter().any(|said| said.contains(what));
        // With enough memory, decoding runs to its end and finds the wrong checksum.
        assert!(has("weights do not match their checksum"), "{said:?}");
        // A part is a row of tiles: of weights, and of numbers if there are scales.
        let no_memory =
            |bytes| format!("error: bomb: tensor `w`: no memory for {bytes} bytes of it");
        assert!(has(&no_memory(1 << 26)), "{said:?}");
        assert_eq!(has(&no_memory(1 << 28)), scaled, "{said:?}");
        assert_eq!(fs::read(place.path("out")).unwrap(), b"old");
        assert_eq!(place.names(), ["bomb", "out"]);
    }
}
