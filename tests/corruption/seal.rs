//! A blob's fields, whatever they hold, and checksums made right again.

use std::ops::Range;

use crate::crc::crc32c;

/// Where the index starts.
pub const INDEX: usize = 640;
/// Bytes of an index record.
pub const RECORD: usize = 64;

/// The field of `bytes` bytes at `offset`.
pub fn get(blob: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&blob[offset..][..bytes]);
    u64::from_le_bytes(value)
}

/// Sets the field of `bytes` bytes at `offset`.
pub fn set(blob: &mut [u8], (offset, bytes): (usize, usize), value: u64) {
    blob[offset..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}

/// Tiles of a matrix of the header's sides.
pub fn tiles(blob: &[u8]) -> Option<usize> {
    let sides = [get(blob, 16, 8), get(blob, 24, 8)].map(|side| side.div_ceil(256));
    usize::try_from(sides[0].checked_mul(sides[1])?).ok()
}

/// Bytes before the first payload, if there is a header and its sides bear them out.
pub fn front(blob: &[u8]) -> Option<usize> {
    if blob.len() < INDEX {
        return None;
    }
    let rows = usize::try_from(get(blob, 16, 8)).ok()?;
    let scales = if get(blob, 9, 1) & 8 != 0 { rows.checked_mul(2)? } else { 0 };
    let index = tiles(blob)?.checked_mul(RECORD)?.checked_add(INDEX)?;
    let front = index.checked_add(scales)?.checked_next_multiple_of(128)?;
    (front <= blob.len()).then_some(front)
}

/// Where the payload of tile `tile` is, if that is in the blob.
pub fn payload(blob: &[u8], tile: usize) -> Option<Range<usize>> {
    let record = INDEX + RECORD * tile;
    let start = get(blob, record, 4) as usize * 128;
    let range = start..start + get(blob, record + 8, 2) as usize * 128;
    (range.end <= blob.len()).then_some(range)
}

/// Makes the header's and the tiles' checksums right again.
pub fn reseal(blob: &mut [u8]) {
    if front(blob).is_none() {
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

/// Makes the header's checksum right again.
pub fn reseal_header(blob: &mut [u8]) {
    let Some(front) = front(blob) else { return };
    let crc = crc32c(&[&blob[..124], &blob[128..front]]);
    set(blob, (124, 4), crc.into());
}
