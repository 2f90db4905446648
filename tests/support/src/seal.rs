//! Reads and writes a blob's fields without checking them, and corrects its checksums.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::crc::crc32c;

/// Offset and size of the header's number of columns.
pub const COLS: (usize, usize) = (24, 8);
/// Offset and size of the header's length of the blob.
pub const BYTES: (usize, usize) = (32, 8);
/// Offset and size of the header's number of exceptions.
pub const EXCEPTIONS: (usize, usize) = (40, 8);
/// Offset and size of the header's checksum.
pub const CRC: (usize, usize) = (124, 4);
/// Offset of the index.
pub const INDEX: usize = 640;
/// Size of an index record in bytes.
pub const RECORD: usize = 64;

/// Offset and size of each of the header's fields after magic and version.
pub const HEADER_FIELDS: [(usize, usize); 15] = [
    (6, 1),
    (7, 1),
    (8, 1),
    (9, 1),
    (10, 1),
    (11, 1),
    (12, 4),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (116, 8),
    (124, 4),
];

/// Returns the field of `bytes` bytes at `offset`.
pub fn get(blob: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&blob[offset..][..bytes]);
    u64::from_le_bytes(value)
}

/// Sets the field of `bytes` bytes at `offset`.
pub fn set(blob: &mut [u8], (offset, bytes): (usize, usize), value: u64) {
    blob[offset..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}

/// Returns values at which the meaning of a field of `bytes` bytes, now `now`, may change: limits and neighbors.
pub fn interesting(now: u64, bytes: usize) -> BTreeSet<u64> {
    let powers = (0..64).map(|bit| 1 << bit);
    let sizes = [0, 3, 12, 15, 17, 48, 49, 50, 240, 241, 255, 257, 4095, 4097, 1025, 65535, 65537];
    let floats = [16.0f64, 16.1, -0.0, -1.0, f64::NAN, f64::INFINITY].map(f64::to_bits);
    let near = [now.wrapping_sub(1), now.wrapping_add(1), now.wrapping_mul(2), now / 2, !now];
    let large = (0..64).map(|shift| u64::MAX >> shift);
    let all = powers.chain(sizes).chain(floats).chain(near).chain(large);
    all.filter(|&value| bytes == 8 || value >> (8 * bytes) == 0).collect()
}

/// Returns the number of tiles of a matrix of the header's sides.
pub fn tiles(blob: &[u8]) -> Option<usize> {
    let sides = [get(blob, 16, 8), get(blob, 24, 8)].map(|side| side.div_ceil(256));
    usize::try_from(sides[0].checked_mul(sides[1])?).ok()
}

/// Returns the offset of the first payload; `None` if the blob is too short for its header, index and scales.
pub fn payload_start(blob: &[u8]) -> Option<usize> {
    if blob.len() < INDEX {
        return None;
    }
    let rows = usize::try_from(get(blob, 16, 8)).ok()?;
    let scales = if get(blob, 9, 1) & 8 != 0 { rows.checked_mul(2)? } else { 0 };
    let index = tiles(blob)?.checked_mul(RECORD)?.checked_add(INDEX)?;
    let start = index.checked_add(scales)?.checked_next_multiple_of(128)?;
    (start <= blob.len()).then_some(start)
}

/// Returns the byte range of the payload of tile `tile`; `None` if the blob ends before it does.
pub fn payload(blob: &[u8], tile: usize) -> Option<Range<usize>> {
    let record = INDEX + RECORD * tile;
    let start = get(blob, record, 4) as usize * 128;
    let range = start..start + get(blob, record + 8, 2) as usize * 128;
    (range.end <= blob.len()).then_some(range)
}

/// Sets the offsets of the index so that payloads follow each other, and pads the blob to whole lines.
pub fn lay_out(blob: &mut Vec<u8>) {
    blob.resize(blob.len().next_multiple_of(128), 0);
    let Some(start) = payload_start(blob) else { return };
    let (length, mut line) = (blob.len(), start / 128);
    set(blob, BYTES, length as u64);
    for tile in 0..tiles(blob).unwrap_or(0) {
        let record = INDEX + RECORD * tile;
        set(blob, (record, 4), line as u64);
        line += get(blob, record + 8, 2) as usize;
    }
}

/// Corrects the checksums of the header and the tiles.
pub fn reseal(blob: &mut [u8]) {
    if payload_start(blob).is_none() {
        return;
    }
    for tile in 0..tiles(blob).unwrap_or(0) {
        if let Some(payload) = payload(blob, tile) {
            let crc = crc32c(&[&blob[payload]]);
            set(blob, (INDEX + RECORD * tile + 4, 4), crc.into());
        }
    }
    reseal_header(blob);
}

/// Corrects the checksum of the header.
pub fn reseal_header(blob: &mut [u8]) {
    let Some(start) = payload_start(blob) else { return };
    let crc = crc32c(&[&blob[..CRC.0], &blob[128..start]]);
    set(blob, CRC, crc.into());
}
