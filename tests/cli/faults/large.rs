//! Files that take long to process, or that expand to far more than their size. Creating them takes neither time nor disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use fused_rans::{Blob, Dtype, Matrix, encode};
use half::bf16;

use support::craft::{framed, resealed};
use support::seal::{BYTES, COLS, CRC, INDEX, RECORD, get, reseal_header, set};

/// Writes a sparse file: this header, followed by `bytes` zeros that take no disk space.
pub fn sparse(path: &Path, header: &str, bytes: u64) {
    let head = framed(header, b"");
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(head.len() as u64 + bytes).unwrap();
}

/// Returns the header of an uncompressed file with the one tensor `w`.
pub fn header(dtype: &str, shape: [u64; 2], bytes: u64) -> String {
    format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#)
}

/// Writes an uncompressed file with one BF16 tensor of 4 GiB.
pub fn long_to_compress(path: &Path) {
    sparse(path, &header("BF16", [1 << 15, 1 << 16], 1 << 32), 1 << 32);
}

/// Returns a blob of 256 rows and `tiles` tiles, all as small as a tile can be: a constant matrix of integers, with row
/// scales if `scaled`. The checksum of its weights is wrong.
pub fn smallest(tiles: usize, scaled: bool) -> Vec<u8> {
    let (weights, scales) = (vec![3; 256 * 512], [bf16::ONE; 256]);
    let matrix = Matrix::from_bytes(Dtype::I8, &weights, 256, 512).unwrap();
    let matrix = if scaled { matrix.with_row_scales(&scales).unwrap() } else { matrix };
    let two = encode(matrix).unwrap().into_bytes();
    let entry = Blob::parse(&two).unwrap().index()[1];
    let (record, scales) = two[INDEX + RECORD..].split_at(RECORD);
    let scales = &scales[..if scaled { 512 } else { 0 }];
    let payload = &two[entry.offset as usize * 128..][..usize::from(entry.lines) * 128];
    let start = (INDEX + RECORD * tiles + scales.len()).next_multiple_of(128);
    let mut blob = two[..INDEX].to_vec();
    for tile in 0..tiles {
        let offset = (start + tile * payload.len()) / 128;
        blob.extend([&(offset as u32).to_le_bytes(), &record[4..]].concat());
    }
    blob.extend(scales);
    blob.resize(start, 0);
    blob.extend(payload.repeat(tiles));
    let bytes = blob.len() as u64;
    set(&mut blob, COLS, 256 * tiles as u64);
    set(&mut blob, BYTES, bytes);
    reseal_header(&mut blob);
    blob
}

/// Returns the checksum of a blob's header.
pub fn crc(blob: &[u8]) -> u64 {
    get(blob, CRC.0, CRC.1)
}

/// Returns a compressed file with the blob of [`smallest`]: an I8 tensor, or a quantized F32 tensor if `scaled`.
pub fn bomb(tiles: usize, scaled: bool) -> Vec<u8> {
    let blob = smallest(tiles, scaled);
    let (dtype, width) = if scaled { ("F32", 4) } else { ("I8", 1) };
    let cols = 256 * tiles as u64;
    let original = header(dtype, [256, cols], 256 * cols * width);
    compressed(&original, &format!("[{}]", blob.len()), "U8", &blob)
}

/// Returns a compressed file with the one tensor `w`, whose stored bytes are the blob `data`. Without data, it is a raw
/// tensor whose checksum is zero.
pub fn compressed(original: &str, shape: &str, dtype: &str, data: &[u8]) -> Vec<u8> {
    let crc = if data.is_empty() { 0 } else { crc(data) };
    let (text, bytes) = (serde_json::to_string(original).unwrap(), data.len());
    let header = format!(
        r#"{{"__metadata__":{{"fused_rans":"1 00000000","fused_rans.crc32c":"{crc:08x}","fused_rans.header":{text}}},"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#
    );
    resealed(&framed(&header, data), |header| header)
}
