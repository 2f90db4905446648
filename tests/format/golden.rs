//! Golden files pin the format, byte for byte.
//!
//! Version 1 is frozen. Golden files are never rewritten, even if an encoder changes.
//! `FUSED_RANS_REGENERATE=1 cargo test --release --test format golden` writes the missing files of new cases.

use std::fs;
use std::path::Path;
use std::sync::Once;

use crate::golden_file as file;
use fused_rans::layout::{GroupPlane, TileKind};
use fused_rans::{Blob, Dtype, Groups, WeightsPerSymbol, reference};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use support::codec::{Codec, FAST, REFERENCE};
use support::golden::{GOLDEN, Golden};

/// Reads the golden file at `path`. The first call writes missing files if the environment asks for it.
fn read(path: &Path) -> Vec<u8> {
    static WRITE: Once = Once::new();
    WRITE.call_once(|| {
        if std::env::var_os("FUSED_RANS_REGENERATE").is_some_and(|value| value == "1") {
            for golden in &GOLDEN {
                write_missing(&golden.path(), || encoded(golden, &FAST));
            }
            write_missing(&file::path(), file::compressed);
        }
    });
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write_missing(path: &Path, bytes: impl FnOnce() -> Vec<u8>) {
    if !path.exists() {
        fs::write(path, bytes()).unwrap();
    }
}

fn stored(golden: &Golden) -> Vec<u8> {
    read(&golden.path())
}

fn encoded(golden: &Golden, codec: &Codec) -> Vec<u8> {
    let (weights, scales) = (golden.weights(), golden.scales());
    let large = golden.large_integers();
    let matrix = golden.matrix(&weights, &scales, &large);
    let blob = if golden.grouped {
        let (scales, zeros) = golden.groups();
        let groups = Groups { scales: scales.reinterpret_cast(), zeros: Some(&zeros) };
        codec(&golden.encoder(), matrix.with_groups(groups).unwrap())
    } else {
        codec(&golden.encoder(), matrix)
    };
    blob.unwrap_or_else(|error| panic!("{}: {error}", golden.name)).into_bytes()
}

#[test]
fn the_encoders_write_the_golden_files() {
    for golden in &GOLDEN {
        let stored = stored(golden);
        for encoded in [encoded(golden, &FAST), encoded(golden, &REFERENCE)] {
            let differ = encoded.iter().zip(&stored).position(|(new, old)| new != old);
            assert!(encoded == stored, "{} differs, first at {differ:?}", golden.name);
        }
    }
}

#[test]
fn the_golden_files_decode_to_their_weights() {
    for golden in &GOLDEN {
        let (weights, stored) = (golden.weights(), stored(golden));
        let blob = Blob::parse(&stored).unwrap();
        let shape = (blob.dtype(), blob.rows(), blob.cols());
        assert_eq!(shape, (golden.dtype, golden.rows, golden.cols), "{}", golden.name);
        let mut decoded = vec![0xA5; weights.len()];
        blob.decode(&mut decoded).unwrap();
        assert!(decoded == weights, "{}", golden.name);
        assert!(reference::decode(&blob).unwrap() == weights, "{}: reference", golden.name);
        let groups = golden.grouped.then(|| golden.groups());
        let stored = blob.group_scales().unwrap().map(|scales| scales.reinterpret_cast().to_vec());
        let stored = stored.zip(blob.group_zeros().unwrap());
        assert!(stored == groups, "{}: groups", golden.name);
        let scales = golden.row_scales.then(|| golden.scales());
        assert!(
            blob.row_scales().map(|scales| scales.reinterpret_cast()) == scales.as_deref(),
            "{}: scales of rows",
            golden.name
        );
        assert_eq!(blob.large_integers().unwrap(), golden.large_integers(), "{}", golden.name);
        assert_eq!(blob.has_large_integers(), golden.has_large_integers, "{}", golden.name);
    }
}

#[test]
fn the_program_writes_and_restores_the_golden_file() {
    let stored = read(&file::path());
    assert!(file::compressed() == stored, "the compressed file differs");
    assert!(file::restored() == file::plain(), "the restored file differs");
}

/// The golden files still contain everything that they were made to cover.
#[test]
fn the_golden_files_cover_the_format() {
    let blobs = GOLDEN.each_ref().map(stored);
    let blobs = blobs.each_ref().map(|bytes| Blob::parse(bytes).unwrap());
    let any = |what: &dyn Fn(&Blob<'_>) -> bool| blobs.iter().any(what);
    for dtype in Dtype::ALL {
        assert!(any(&|b| b.dtype() == dtype && b.exception_count() > 0 || dtype == Dtype::F8E4M3));
    }
    for raw_bits in [0, 1, 3, 4, 8, 11] {
        assert!(any(&|b| b.split().raw_bits() == raw_bits), "{raw_bits} raw bits");
    }
    let quads = |b: &Blob<'_>| b.split().weights_per_symbol() == WeightsPerSymbol::Four;
    for half_range in [8, 16] {
        assert!(any(&|b| quads(b) && b.split().half_range() == half_range), "{half_range}");
    }
    assert!(any(&|b| quads(b) && b.groups().is_some()));
    // Tiles with the shortest streams: two symbols per lane.
    let short =
        |b: &Blob<'_>, tile: usize| b.grid().shape(tile).cols <= 16 && b.index()[tile].kind == 1;
    assert!(any(&|b| quads(b) && (0..b.index().len()).any(|tile| short(b, tile))));
    assert!(any(&|b| b.split().zero()));
    for dtype in [Dtype::I8, Dtype::F8E4M3] {
        assert!(any(&|b| b.dtype() == dtype && b.row_scales().is_some()), "{dtype:?}");
    }
    assert!(any(&|b| b
        .large_integers()
        .is_ok_and(|large| large.len() < b.exception_count() as usize)));
    assert!(any(&|b| b.frequencies().as_array().contains(&4096)));
    assert!(any(&|b| b.index().iter().any(|t| t.kind == TileKind::Raw as u8)));
    assert!(any(&|b| b.index().iter().any(|t| t.full_rows[0] > 0 && t.tail_rows[0] > 0)));
    assert!(any(&|b| b.index().iter().any(|t| t.full_rows[1] + t.tail_rows[1] > 0)));
    assert!(any(&|b| b.index().iter().any(|t| t.tail_start[1] > 0)));
    assert!(any(&|b| b.index().iter().any(|t| t.exception_start[1] > 0)));
    assert!(any(&|b| b.index().iter().any(|t| t.tail_rows[0] == 15)), "a cut tail");
    let grouped = |b: &Blob<'_>| b.groups() == Some(GroupPlane { zeros: true });
    assert!(any(&|b| grouped(b) && b.index().iter().map(|t| t.kind).eq([1, 0])));
    let rows = |b: &Blob<'_>| b.index()[0].full_rows[0] + b.index()[0].tail_rows[0];
    assert!(any(&|b| rows(b) == 48), "no stream of 48 words");
}

/// The hex dump in docs/format.md shows the bytes of the golden file `example`.
#[test]
fn the_documented_example_is_the_golden_one() {
    let stored = stored(&GOLDEN[0]);
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md");
    let document = fs::read_to_string(document).unwrap();
    let example = document.split("### Example: a blob").nth(1).expect("the example's heading");
    let example = example.split("\n## ").next().expect("its end");
    let mut dumped = 0;
    for line in example.lines().filter_map(|line| line.strip_prefix("    ")) {
        let Some((offset, bytes)) = line.split_once("  ") else { continue };
        let Ok(offset) = usize::from_str_radix(offset, 16) else { continue };
        let bytes = bytes.split("   ").next().expect("there is a first").split_whitespace();
        for (at, byte) in bytes.enumerate() {
            assert_eq!(u8::from_str_radix(byte, 16), Ok(stored[offset + at]), "{line}");
            dumped += 1;
        }
    }
    assert!(dumped > 200, "only {dumped} bytes of the example are in the document");
}
