//! Blobs to be damaged.

use std::ops::Range;
use std::sync::LazyLock;

use crate::golden::{GOLDEN, Golden};
use crate::{readers, seal};
use fused_rans::{Blob, BlobError};

/// A golden blob, to be damaged, and its weights.
#[derive(Clone)]
pub struct Victim {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub weights: Vec<u8>,
}

/// The golden blobs, but for the one that takes long to decode.
pub fn victims() -> &'static [Victim] {
    static VICTIMS: LazyLock<Vec<Victim>> = LazyLock::new(|| {
        let load = |golden: &Golden| Victim {
            name: golden.name,
            bytes: std::fs::read(golden.path()).expect("there is a golden file"),
            weights: golden.weights(),
        };
        GOLDEN.iter().filter(|golden| golden.rows < 1000).map(load).collect()
    });
    &VICTIMS
}

/// Two tiles, one of them raw; exceptions, full rows, tail rows.
pub fn two_tiles() -> Victim {
    victims().iter().find(|victim| victim.name == "i8_r0_raw_tile").expect("it is there").clone()
}

impl Victim {
    /// The field of `bytes` bytes at `offset`.
    pub fn get(&self, offset: usize, bytes: usize) -> u64 {
        seal::get(&self.bytes, offset, bytes)
    }

    /// Sets the field at an offset, of so many bytes.
    pub fn set(&mut self, field: (usize, usize), value: u64) {
        seal::set(&mut self.bytes, field, value);
    }

    /// Where the payload of tile `tile` is, if that is in the blob.
    pub fn payload(&self, tile: usize) -> Option<Range<usize>> {
        seal::payload(&self.bytes, tile)
    }

    /// Where the tail lengths of the first tile are, 16 bytes a slab, if it is a coded one of an intact
    /// blob.
    pub fn tail_lengths(&self) -> Option<Range<usize>> {
        let blob = Blob::parse(&self.bytes).ok()?;
        let start = self.payload(0)?.start;
        let coded = blob.index()[0].kind == 1;
        coded.then_some(start..start + 16 * blob.grid().shape(0).slabs())
    }

    /// Where the exceptions of the first tile start, likewise.
    pub fn exceptions(&self) -> Option<usize> {
        let blob = Blob::parse(&self.bytes).ok()?;
        let (tile, shape) = (blob.index()[0], blob.grid().shape(0));
        let full: usize = tile.full_rows.iter().map(|&rows| usize::from(rows)).sum();
        let groups = blob.groups().map_or(0, |plane| plane.bytes() * shape.slabs());
        let raw = shape.raw_bytes(blob.split().raw_bits());
        Some(self.tail_lengths()?.end + raw + groups + 128 * full)
    }

    /// Makes the header's and the tiles' checksums right again.
    pub fn reseal(&mut self) {
        seal::reseal(&mut self.bytes);
    }

    /// Makes the header's checksum right again.
    pub fn reseal_header(&mut self) {
        seal::reseal_header(&mut self.bytes);
    }

    /// What both decoders make of the bytes. Where only the weights' checksum is wrong, it is made
    /// right, and the weights are returned.
    pub fn decode(&mut self) -> Result<Vec<u8>, BlobError> {
        readers::decode(&mut self.bytes)
    }

    /// What a reader makes of the bytes as they are.
    pub fn read(&self) -> Result<Vec<u8>, BlobError> {
        let blob = Blob::parse(&self.bytes)?;
        let mut weights = vec![0; blob.weight_bytes()];
        blob.decode(&mut weights).map(|()| weights)
    }
}
