//! Sizes around 2^31 and 2^32 bytes, in sparse files.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use fused_rans::file::{self, CompressedFile, FileError, HeaderFault, Model, TensorFault};
use fused_rans::{Blob, Dtype, Matrix, encode};

use super::large::{compressed, crc, header, sparse};
use crate::place::Place;
use support::craft::{Files, bf16, framed, resealed};
use support::crc::crc32c;
use support::seal::{BYTES, COLS, EXCEPTIONS, INDEX, RECORD, get, reseal_header, set};

const GIB: u64 = 1 << 30;

#[test]
fn plain_headers_are_checked_against_the_file_size() {
    let files = Files::new();
    let path = files.path("in");
    let open = |bytes: u64| {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        Model::open(&path).map(|model| model.tensor_bytes())
    };
    let shapes = [
        ("U8", [1, 2 * GIB - 1]),
        ("U8", [2 * GIB, 1]),
        ("U8", [1 << 16, 1 << 16]),
        ("U8", [1, 4 * GIB - 1]),
        ("U8", [4 * GIB + 1, 1]),
        ("BF16", [2 * GIB - 1, 1]),
        ("BF16", [2 * GIB + 1, 1]),
        ("I8", [(1 << 16) + 1, (1 << 16) - 1]),
        ("F32", [1 << 15, (1 << 15) + 1]),
        ("F64", [GIB, 8]),
    ];
    for (dtype, shape) in shapes {
        let width = match dtype {
            "F64" => 8,
            "F32" => 4,
            "BF16" => 2,
            _ => 1,
        };
        let bytes = shape[0] * shape[1] * width;
        let text = header(dtype, shape, bytes);
        let whole = 8 + text.len() as u64 + bytes;
        sparse(&path, &text, 0);
        assert_eq!(open(whole).unwrap(), bytes, "{dtype} {shape:?}");
        let fault = open(whole + 1).unwrap_err();
        let FileError::Header { source: HeaderFault::Trailing { expected, found }, .. } = fault
        else {
            panic!("{fault:?}")
        };
        assert_eq!((expected, found), (bytes, bytes + 1));
        // One byte less, and the length cut to 32 and 31 bits.
        for length in [whole - 1, whole & 0xFFFF_FFFF, whole & 0x7FFF_FFFF] {
            let length = length.max(8 + text.len() as u64);
            match open(length) {
                Err(FileError::Truncated { needed, found, .. }) => {
                    assert_eq!((needed, found), (whole, length));
                }
                other => assert!(length == whole && other.is_ok(), "{other:?}"),
            }
        }
        // A tensor's length cut to 32 bits does not match its shape.
        let wrapped = bytes & 0xFFFF_FFFF;
        if wrapped != bytes {
            sparse(&path, &header(dtype, shape, wrapped), wrapped);
            let fault = Model::open(&path).unwrap_err();
            assert!(matches!(fault, FileError::Header { source: HeaderFault::Size(_), .. }));
        }
    }
}

#[test]
fn tensors_follow_each_other_beyond_32_bits() {
    let files = Files::new();
    let path = files.path("in");
    let first = 4 * GIB + 2;
    for (start, fits) in [(first, true), (first - 1, false), (2, false), (first + 1, false)] {
        let end = start + 4;
        let text = format!(
            r#"{{"b":{{"dtype":"F32","shape":[1],"data_offsets":[{start},{end}]}},
            "a":{{"dtype":"U8","shape":[{first}],"data_offsets":[0,{first}]}}}}"#
        );
        sparse(&path, &text, end.max(first));
        match Model::open(&path) {
            Ok(model) => assert!(fits && model.tensor_bytes() == end),
            Err(FileError::Header { source: HeaderFault::Offset(_), .. }) => assert!(!fits),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn raw_tensors_of_compressed_files_may_be_large() {
    let files = Files::new();
    let path = files.path("packed");
    let bytes = 4 * GIB + 2;
    let write = |original: [u64; 2], stored: u64, length: u64| {
        let bytes = original[0] * original[1];
        let made = compressed(&header("U8", original, bytes), "[1,2]", "U8", &[]);
        let made = resealed(&made, |text| {
            text.replace("[1,2]", &format!("[1,{stored}]"))
                .replace(r#""data_offsets":[0,0]"#, &format!(r#""data_offsets":[0,{stored}]"#))
        });
        fs::write(&path, &made).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(made.len() as u64 + length).unwrap();
        CompressedFile::open(&path)
    };
    let file = write([1, bytes], bytes, bytes).unwrap();
    assert_eq!(file.original_bytes(), 8 + header("U8", [1, bytes], bytes).len() as u64 + bytes);
    let report = file::inspect(&path).unwrap();
    assert_eq!((report.totals.weights, report.tensors[0].stored_bytes), (bytes, bytes));
    for (stored, length) in [(bytes, 2), (bytes, bytes - 1)] {
        let fault = write([1, bytes], stored, length).unwrap_err();
        assert!(matches!(fault, FileError::Truncated { .. }), "{fault:?}");
    }
    let fault = write([1, bytes], 2, 2).unwrap_err();
    let other = TensorFault::Original("another dtype or shape");
    assert!(matches!(fault, FileError::Tensor { source, .. } if source == other));
}

/// Returns the header and index of a blob of 256 rows and `tiles` raw tiles, all zeros, and the length of the whole blob.
fn front_of_zeros(tiles: u64) -> (Vec<u8>, u64) {
    let weights = bf16(256 * 256);
    let mut front =
        encode(Matrix::from_bytes(Dtype::Bf16, &weights, 256, 256).unwrap()).unwrap().into_bytes();
    front.truncate(INDEX);
    let start = (INDEX as u64 + RECORD as u64 * tiles).next_multiple_of(128);
    let zeros = crc32c(&[&[0; 1 << 17]]).to_le_bytes();
    for tile in 0..tiles {
        let line = ((start + (tile << 17)) / 128) as u32;
        front.extend([&line.to_le_bytes()[..], &zeros, &1024u16.to_le_bytes(), &[0; 54]].concat());
    }
    front.resize(start as usize, 0);
    let bytes = start + (tiles << 17);
    for (field, value) in [(COLS, 256 * tiles), (BYTES, bytes), (EXCEPTIONS, 0)] {
        set(&mut front, field, value);
    }
    reseal_header(&mut front);
    (front, bytes)
}

/// Reads a file with a blob of more than 2^32 bytes, followed by another blob.
#[test]
fn blobs_may_stand_beyond_32_bits() {
    let files = Files::new();
    let path = files.path("packed");
    let tiles = (1 << 15) + 1;
    let (front, bytes) = front_of_zeros(tiles);
    let weights = bf16(64 * 48);
    let second =
        encode(Matrix::from_bytes(Dtype::Bf16, &weights, 64, 48).unwrap()).unwrap().into_bytes();
    let (middle, end) = (tiles << 17, (tiles << 17) + 64 * 48 * 2);
    let original = format!(
        r#"{{"a":{{"dtype":"BF16","shape":[256,{}],"data_offsets":[0,{middle}]}},"b":{{"dtype":"BF16","shape":[64,48],"data_offsets":[{middle},{end}]}}}}"#,
        256 * tiles
    );
    let (text, stored) = (serde_json::to_string(&original).unwrap(), bytes + second.len() as u64);
    let text = format!(
        r#"{{"__metadata__":{{"fused_rans":"1 00000000","fused_rans.crc32c":"{:08x} {:08x}","fused_rans.header":{text}}},"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":[{bytes},{stored}]}}}}"#,
        crc(&front),
        crc(&second),
        second.len(),
    );
    let head = resealed(&framed(&text, b""), |text| text);
    let mut file = File::create(&path).unwrap();
    file.write_all(&[&head[..], &front].concat()).unwrap();
    file.seek(SeekFrom::Start(head.len() as u64 + bytes)).unwrap();
    file.write_all(&second).unwrap();

    let opened = CompressedFile::open(&path).unwrap();
    let blob = opened.blob("a").unwrap();
    assert_eq!((blob.rows(), blob.cols()), (256, 256 * tiles as usize));
    assert_eq!(blob.decoded_byte_len() as u64, middle);
    blob.tile(tiles as usize - 1).unwrap();
    let mut decoded = vec![0; weights.len()];
    opened.blob("b").unwrap().decode(&mut decoded).unwrap();
    assert!(decoded == weights);
    // Changes the first byte of the last tile, 2^32 bytes after the first byte of the first tile.
    file.seek(SeekFrom::Start(head.len() as u64 + front.len() as u64 + (1 << 32))).unwrap();
    file.write_all(&[1]).unwrap();
    let blob = opened.blob("a").unwrap();
    assert!(blob.tile(0).is_ok() && blob.tile(tiles as usize - 1).is_err());
    // Cuts off the last byte of the file.
    file.set_len(head.len() as u64 + stored - 1).unwrap();
    assert!(matches!(CompressedFile::open(&path), Err(FileError::Truncated { .. })));
}

/// Tile offsets are 32-bit counts of lines. An offset that is wrong by a power of two is refused, not wrapped.
#[test]
fn places_of_tiles_do_not_wrap() {
    let (front, bytes) = front_of_zeros(2);
    let blob = [front, vec![0; 2 << 17]].concat();
    assert_eq!(blob.len() as u64, bytes);
    Blob::parse(&blob).unwrap();
    for place in [1 << 25, 1 << 24, 1 << 31] {
        let mut moved = blob.clone();
        let line = get(&moved, INDEX, 4);
        set(&mut moved, (INDEX, 4), line ^ place);
        reseal_header(&mut moved);
        Blob::parse(&moved).unwrap_err();
    }
}

/// Compresses, verifies and restores a tensor of more than 2^32 bytes.
#[test]
#[ignore = "takes 8 GB of disk and a minute"]
fn tensors_of_more_than_32_bits_come_back() {
    let place = Place::empty();
    let (rows, cols) = ((1 << 15) + 1, 1 << 16);
    let (middle, end) = (2 * rows * cols, 2 * rows * cols + 64 * 64 * 2);
    let text = format!(
        r#"{{"large":{{"dtype":"BF16","shape":[{rows},{cols}],"data_offsets":[0,{middle}]}},
        "small":{{"dtype":"BF16","shape":[64,64],"data_offsets":[{middle},{end}]}}}}"#
    );
    sparse(&place.path("in"), &text, end);
    let mut file = OpenOptions::new().write(true).open(place.path("in")).unwrap();
    file.seek(SeekFrom::End(-64 * 64 * 2)).unwrap();
    file.write_all(&bf16(64 * 64)).unwrap();
    // Writes weights around offsets 2^31 and 2^32 of the tensor, too.
    for gib in [2, 4] {
        file.seek(SeekFrom::Start(8 + text.len() as u64 + gib * GIB - 512)).unwrap();
        file.write_all(&bf16(512)).unwrap();
    }
    place.ok(&["compress", "in", "-o", "packed"]);
    place.ok(&["verify", "packed", "--against", "in"]);
    place.ok(&["decompress", "packed", "-o", "back"]);
    let same = Command::new("cmp").arg(place.path("in")).arg(place.path("back")).status();
    assert!(same.unwrap().success());
}
