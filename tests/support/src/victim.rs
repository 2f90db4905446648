//! Intact blobs for tests to damage.

use std::ops::Range;
use std::sync::LazyLock;

use crate::golden::{GOLDEN, Golden};
use crate::{readers, seal};
use fused_rans::{Blob, BlobError};

/// A golden blob, which a test damages, and its weights.
#[derive(Clone)]
pub struct Victim {
    /// Name of the golden file.
    pub name: &'static str,
    /// The blob.
    pub bytes: Vec<u8>,
    /// The weights of the intact blob.
    pub weights: Vec<u8>,
}

/// Returns all golden blobs except the one that takes long to decode.
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

/// Returns a blob of a coded and a raw tile, with exceptions, full rows and tail rows.
pub fn two_tiles() -> Victim {
    victims().iter().find(|victim| victim.name == "i8_r0_raw_tile").expect("it is there").clone()
}

impl Victim {
    /// Returns the field of `bytes` bytes at `offset`.
    pub fn get(&self, offset: usize, bytes: usize) -> u64 {
        seal::get(&self.bytes, offset, bytes)
    }

    /// Sets a field, given its offset and size.
    pub fn set(&mut self, field: (usize, usize), value: u64) {
        seal::set(&mut self.bytes, field, value);
    }

    /// Returns the byte range of the payload of tile `tile`; `None` if the blob ends before it does.
    pub fn payload(&self, tile: usize) -> Option<Range<usize>> {
        seal::payload(&self.bytes, tile)
    }

    /// Returns the byte range of the first tile's tail lengths, 16 bytes per slab; `None` if the blob does not parse or the
    /// tile is raw.
    pub fn tail_lengths(&self) -> Option<Range<usize>> {
        let blob = Blob::parse(&self.bytes).ok()?;
        let start = self.payload(0)?.start;
        let coded = blob.index()[0].kind == 1;
        coded.then_some(start..start + 16 * blob.grid().shape(0).slabs())
    }

    /// Returns the offset of the first tile's exceptions; `None` if the blob does not parse or the tile is raw.
    pub fn exceptions(&self) -> Option<usize> {
        let blob = Blob::parse(&self.bytes).ok()?;
        let (tile, shape) = (blob.index()[0], blob.grid().shape(0));
        let full: usize = tile.full_rows.iter().map(|&rows| usize::from(rows)).sum();
        let groups = blob.groups().map_or(0, |plane| plane.bytes() * shape.slabs());
        let raw = shape.raw_bytes(blob.split().raw_bits());
        Some(self.tail_lengths()?.end + raw + groups + 128 * full)
    }

    /// Corrects the checksums of the header and the tiles.
    pub fn reseal(&mut self) {
        seal::reseal(&mut self.bytes);
    }

    /// Corrects the checksum of the header.
    pub fn reseal_header(&mut self) {
        seal::reseal_header(&mut self.bytes);
    }

    /// Decodes with both decoders, as [`readers::decode`] does.
    pub fn decode(&mut self) -> Result<Vec<u8>, BlobError> {
        readers::decode(&mut self.bytes)
    }

    /// Decodes the bytes unchanged, with the fast decoder.
    pub fn read(&self) -> Result<Vec<u8>, BlobError> {
        let blob = Blob::parse(&self.bytes)?;
        let mut weights = vec![0; blob.decoded_byte_len()];
        blob.decode(&mut weights).map(|()| weights)
    }
}
