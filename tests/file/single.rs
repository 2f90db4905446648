//! Single files: round trips, comparison, reports.

use std::fs;
use support::craft;

use fused_rans::ErrorKind;
use fused_rans::file::{self, CompressOptions, CompressedFile, FileError, Progress, StoredAs};
use proptest::prelude::*;
use safetensors::SafeTensors;
use support::craft::{Files, Tensor, bf16, compress, framed, i8, noise, plain, tensor};

use crate::counts;

/// Returns tensors of many types and shapes, empty ones and odd names among them.
fn mixed() -> Vec<Tensor> {
    vec![
        tensor("empty first", "F64", &[0, 3], vec![]),
        tensor("wide", "BF16", &[64, 48], bf16(64 * 48)),
        tensor("bias", "BF16", &[7], bf16(7)),
        tensor("scalar", "F32", &[], noise(4)),
        tensor("quote\" back\\slash \n ü 重み \u{1F980}", "I8", &[64, 64], i8(64 * 64)),
        tensor("", "F16", &[3, 2, 2], noise(24)),
        tensor("incompressible", "F8_E4M3", &[40, 3], noise(120)),
        tensor("no rows", "BF16", &[0, 8], vec![]),
        tensor("no columns", "I8", &[8, 0], vec![]),
        tensor("bool", "BOOL", &[3], vec![0, 1, 1]),
        tensor("one", "F16", &[1, 1], noise(2)),
        tensor("nibbles", "F4", &[2, 3], noise(3)),
        tensor("tall", "F16", &[300, 17], bf16(300 * 17)),
        tensor("blob-like", "U8", &[256], noise(256)),
    ]
}

/// Compresses and restores a file. Checks every promise about the compressed file on the way.
fn round_trip(bytes: &[u8]) -> CompressedFile {
    let files = Files::new();
    let (input, packed) = (files.put("in", bytes), files.path("packed"));
    let restored = files.path("restored");
    let summary = compress(&input, &packed).unwrap();
    assert_eq!(counts(&craft::decompress(&packed, &restored).unwrap()), counts(&summary));
    assert!(fs::read(restored).unwrap() == bytes, "restored bytes differ");
    let verified = file::verify(&packed, Progress::silent()).unwrap();
    assert_eq!(counts(&verified), counts(&summary));
    let verified = file::verify_against(&packed, &input, Progress::silent()).unwrap();
    assert_eq!(counts(&verified), counts(&summary));
    let stored = fs::read(&packed).unwrap();
    assert_eq!(summary.original_bytes, bytes.len() as u64);
    assert_eq!(summary.stored_bytes, stored.len() as u64);
    assert_eq!(files.names(), ["in", "packed", "restored"]);
    let file = CompressedFile::open(&packed).unwrap();
    assert_eq!(file.original_bytes(), bytes.len() as u64);
    existing_tools_can_read(bytes, &stored, &file);
    file
}

/// Checks with the `safetensors` crate that blobs come first and are aligned, and that other tensors are unchanged.
fn existing_tools_can_read(original: &[u8], stored: &[u8], file: &CompressedFile) {
    let (original, tensors) =
        (SafeTensors::deserialize(original).unwrap(), SafeTensors::deserialize(stored).unwrap());
    assert_eq!(tensors.len(), original.len());
    let place = |data: &[u8]| data.as_ptr().addr() - stored.as_ptr().addr();
    let blobs: Vec<&str> = file.blob_names().collect();
    let mut end = 0;
    for name in &blobs {
        let data = tensors.tensor(name).unwrap().data();
        assert!(place(data).is_multiple_of(128) && data.len().is_multiple_of(128));
        assert!(place(data) >= end, "blobs keep their order");
        end = place(data) + data.len();
        assert_eq!(file.blob(name).unwrap().as_bytes(), data);
    }
    for (name, tensor) in tensors.iter().filter(|(name, _)| !blobs.contains(name)) {
        assert_eq!(tensor, original.tensor(name).unwrap());
        assert!(tensor.data().is_empty() || place(tensor.data()) >= end, "blobs come first");
    }
}

#[test]
fn mixed_files_come_back() {
    for (metadata, spaces) in [("", 0), (r#"{"format":"pt"}"#, 1), ("null", 77), ("{}", 128)] {
        let file = round_trip(&plain(&mixed(), metadata, spaces));
        let blobs: Vec<&str> = file.blob_names().collect();
        assert!(blobs.contains(&"wide") && blobs.len() <= 3, "{blobs:?}");
        assert_eq!(file.tensor_count(), mixed().len());
    }
}

#[test]
fn odd_headers_come_back() {
    round_trip(&plain(&[], "", 0));
    round_trip(&framed("{}", b""));
    round_trip(&framed(" \n{ }\t ", b""));
    round_trip(&plain(&[], r#"{"a":"\u0000 \ud83e\udd80 \" \\","b":"","a":"again"}"#, 3));
    let reordered = r#"{"b":{"data_offsets":[2,4],"dtype":"U8","shape":[2]},
        "__metadata__":{"k":"v"}, "a":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2],"x":[{}]}}"#;
    round_trip(&framed(reordered, b"abcd"));
}

#[test]
fn options_select_tensors_by_name() {
    let files = Files::new();
    let input = files.put("in", &plain(&mixed(), "", 0));
    let options = CompressOptions::default().select(|name| name != "wide");
    let mut steps = Vec::new();
    let progress = Progress::new(|done, total| steps.push((done, total)));
    file::compress(&input, files.path("out"), &options, progress).unwrap();
    let total = mixed().iter().map(|tensor| tensor.data.len() as u64).sum();
    assert!(steps.is_sorted() && steps.len() == mixed().len());
    assert_eq!(steps.last(), Some(&(total, total)));
    let file = CompressedFile::open(files.path("out")).unwrap();
    assert!(file.blob_names().all(|name| name != "wide"));
    let missing = file.blob("wide").unwrap_err();
    assert!(matches!(missing, FileError::NoSuchBlob { ref tensor, .. } if tensor == "wide"));
    file::verify_against(files.path("out"), &input, Progress::silent()).unwrap();
}

#[test]
fn comparison_finds_every_difference() {
    let files = Files::new();
    let input = files.put("in", &plain(&mixed(), "", 0));
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    let differs = |tensors: &[Tensor]| {
        let other = files.put("other", &plain(tensors, "", 0));
        match file::verify_against(&packed, other, Progress::silent()) {
            Err(FileError::Differs { tensor, what, .. }) => Some((tensor, what)),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    };
    let with = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut tensors = mixed();
        change(&mut tensors);
        differs(&tensors)
    };
    let found = |name: &str, what| Some((name.to_owned(), what));
    assert_eq!(with(&|tensors| tensors.reverse()), None);
    assert_eq!(with(&|tensors| tensors[1].data[99] ^= 4), found("wide", "bytes"));
    assert_eq!(with(&|tensors| tensors[2].dtype = "F16"), found("bias", "dtype"));
    assert_eq!(with(&|tensors| tensors[1].shape.reverse()), found("wide", "shape"));
    assert_eq!(
        with(&|tensors| tensors[1].name.push('r')),
        found("wider", "missing in the compressed file")
    );
    assert_eq!(with(&|t| drop(t.remove(1))), found("wide", "only in the compressed file"));
}

#[test]
fn reports_count_everything() {
    let files = Files::new();
    let bytes = plain(&mixed(), "", 0);
    let input = files.put("in", &bytes);
    let before = file::inspect(&input).unwrap();
    let packed = files.packed(&bytes);
    let after = file::inspect(files.path("packed")).unwrap();
    for (tensor, (a, b)) in mixed().iter().zip(before.tensors.iter().zip(&after.tensors)) {
        assert_eq!((&a.name, &a.shape, &a.dtype), (&b.name, &b.shape, &b.dtype));
        assert_eq!((&a.name, a.weights), (&tensor.name, b.weights));
        assert_eq!(a.format, StoredAs::Raw);
        assert_eq!(a.stored_bytes, tensor.data.len() as u64);
        assert!(
            (a.entropy_bits_per_weight - b.entropy_bits_per_weight).abs() < 1e-6,
            "{a:?} {b:?}"
        );
        assert!(a.bits_per_weight.is_finite() && b.stored_bytes <= a.stored_bytes);
        if tensor.data.is_empty() {
            assert_eq!((a.bits_per_weight, a.entropy_bits_per_weight), (0.0, 0.0));
        }
    }
    assert_eq!(after.tensors[1].format, StoredAs::Lossless);
    assert_eq!(before.tensors[11].entropy_bits_per_weight, 4.0);
    assert_eq!(before.totals.stored_bytes, bytes.len() as u64);
    assert_eq!(after.totals.original_bytes, bytes.len() as u64);
    assert_eq!(after.totals.stored_bytes, packed.len() as u64);
    let empty = file::inspect(files.put("empty", &plain(&[], "", 0))).unwrap();
    assert_eq!((empty.totals.weights, empty.totals.bits_per_weight), (0, 0.0));
}

#[test]
fn compressed_and_plain_files_are_not_confused() {
    let files = Files::new();
    let input = files.put("in", &plain(&mixed(), "", 0));
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    let again = compress(&packed, &files.path("again")).unwrap_err();
    assert!(matches!(again, FileError::AlreadyCompressed { .. }));
    let plain = craft::decompress(&input, &files.path("again")).unwrap_err();
    assert!(matches!(plain, FileError::NotCompressed { .. }));
    assert_eq!(
        (again.kind(), plain.kind()),
        (ErrorKind::InvalidArgument, ErrorKind::InvalidArgument)
    );
    let against = file::verify_against(&packed, &packed, Progress::silent()).unwrap_err();
    assert!(matches!(against, FileError::AlreadyCompressed { .. }));
    assert_eq!(files.names(), ["in", "packed"]);
}

const DTYPES: [(&str, usize); 8] = [
    ("BF16", 2),
    ("F16", 2),
    ("F8_E4M3", 1),
    ("I8", 1),
    ("BF16", 2),
    ("F32", 4),
    ("U8", 1),
    ("BOOL", 1),
];

prop_compose! {
    fn any_tensor()(
        kind in prop::sample::select(&DTYPES[..]),
        shape in prop_oneof![
            prop::collection::vec(0_usize..6, 0..4),
            prop::collection::vec(1_usize..80, 2..=2),
        ],
        name in ".{0,12}",
        smooth in any::<bool>(),
    ) -> Tensor {
        let bytes = shape.iter().product::<usize>() * kind.1;
        let data = if smooth { bf16(bytes.div_ceil(2))[..bytes].to_vec() } else { noise(bytes) };
        Tensor { name, dtype: kind.0, shape, data }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_file_comes_back(
        mut tensors in prop::collection::vec(any_tensor(), 0..8),
        metadata in prop::option::of(prop::collection::btree_map(".{0,8}", ".{0,8}", 0..3)),
        spaces in 0_usize..9,
    ) {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors.dedup_by(|a, b| a.name == b.name);
        let metadata = metadata.map_or_else(String::new, |map| serde_json::to_string(&map).unwrap());
        round_trip(&plain(&tensors, &metadata, spaces));
    }
}
