//! Blobs to be damaged, and checksums made right again.

use std::ops::Range;
use std::sync::LazyLock;

use crate::allocation;
use crate::crc::crc32c;
use crate::matrices::{GOLDEN, Golden};
use fused_rans::{Blob, BlobError, reference};

/// Where the index starts.
pub const INDEX: usize = 640;
/// Bytes of an index record.
pub const RECORD: usize = 64;

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
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.bytes[offset..][..bytes]);
        u64::from_le_bytes(value)
    }

    /// Sets the field of `bytes` bytes at `offset`.
    pub fn set(&mut self, (offset, bytes): (usize, usize), value: u64) {
        self.bytes[offset..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Tiles of a matrix of the header's sides.
    fn tiles(&self) -> Option<usize> {
        let sides = [self.get(16, 8), self.get(24, 8)].map(|side| side.div_ceil(256));
        usize::try_from(sides[0].checked_mul(sides[1])?).ok()
    }

    /// Bytes before the first payload, if the header's sides bear them out.
    pub fn front(&self) -> Option<usize> {
        let rows = usize::try_from(self.get(16, 8)).ok()?;
        let scales = if self.get(9, 1) & 8 != 0 { rows.checked_mul(2)? } else { 0 };
        let index = self.tiles()?.checked_mul(RECORD)?.checked_add(INDEX)?;
        let front = index.checked_add(scales)?.checked_next_multiple_of(128)?;
        (front <= self.bytes.len()).then_some(front)
    }

    /// Where the payload of tile `tile` is, if that is in the blob.
    pub fn payload(&self, tile: usize) -> Option<Range<usize>> {
        let record = INDEX + RECORD * tile;
        let start = self.get(record, 4) as usize * 128;
        let range = start..start + self.get(record + 8, 2) as usize * 128;
        (range.end <= self.bytes.len()).then_some(range)
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
        if self.front().is_none() {
            return;
        }
        for tile in 0..self.tiles().unwrap_or(0) {
            if let Some(payload) = self.payload(tile) {
                let crc = crc32c(&[&self.bytes[payload]]);
                self.set((INDEX + RECORD * tile + 4, 4), crc.into());
            }
        }
        self.reseal_header();
    }

    /// Makes the header's checksum right again.
    pub fn reseal_header(&mut self) {
        let Some(front) = self.front() else { return };
        let crc = crc32c(&[&self.bytes[..124], &self.bytes[128..front]]);
        self.set((124, 4), crc.into());
    }

    /// What both decoders make of the bytes. Where only the weights' checksum is wrong, it is made
    /// right, and the weights are returned.
    pub fn decode(&mut self) -> Result<Vec<u8>, BlobError> {
        let (blob, largest) = allocation::largest(|| Blob::parse(&self.bytes));
        let limit = self.bytes.len() + 4096;
        assert!(largest <= limit, "parsing {} bytes took {largest} at once", self.bytes.len());
        let blob = blob?;
        // No payload has been looked at, so an index record is all that a tile surely has.
        assert!(blob.weight_bytes() <= self.bytes.len() / RECORD * 256 * 256 * 2);
        let mut fast = vec![0xA5; blob.weight_bytes()];
        let slow = reference::decode(&blob);
        check_groups(&blob);
        match (blob.verify(), blob.decode(&mut fast), slow) {
            (Err(_), Err(error), Err(_)) => Err(error),
            (Ok(()), Ok(()), Ok(slow)) => {
                assert!(fast == slow, "the decoders give different weights");
                Ok(fast)
            }
            (Ok(()), Err(BlobError::WeightsChecksum), Ok(slow)) => {
                self.set((12, 4), crc32c(&[&slow]).into());
                self.reseal_header();
                let blob = Blob::parse(&self.bytes).expect("as good as before");
                blob.decode(&mut fast).expect("the checksum is right");
                assert!(fast == slow, "the decoders give different weights");
                Ok(slow)
            }
            (verify, fast, slow) => panic!("{verify:?}, {fast:?}, {:?}", slow.map(drop)),
        }
    }

    /// What a reader makes of the bytes as they are.
    pub fn read(&self) -> Result<Vec<u8>, BlobError> {
        let blob = Blob::parse(&self.bytes)?;
        let mut weights = vec![0; blob.weight_bytes()];
        blob.decode(&mut weights).map(|()| weights)
    }
}

/// Scales and zero points are read if, and only if, the blob is intact, into no more memory than it bears
/// out.
fn check_groups(blob: &Blob<'_>) {
    let ((scales, zeros), largest) = allocation::largest(|| (blob.scales(), blob.zeros()));
    assert!(largest <= blob.bytes().len() + 4096, "groups took {largest} bytes at once");
    let groups = blob.rows() * blob.cols().div_ceil(128);
    match blob.groups() {
        None => assert_eq!((scales, zeros), (Ok(None), Ok(None))),
        Some(plane) => {
            let intact = blob.verify().is_ok();
            assert_eq!(scales.map(|scales| scales.unwrap().len()).ok(), intact.then_some(groups));
            assert_eq!(zeros.is_ok(), intact || !plane.zeros);
            if let Some(zeros) = zeros.ok().flatten() {
                assert!(zeros.len() == groups && zeros.iter().all(|zero| (-8..8).contains(zero)));
            }
        }
    }
}
