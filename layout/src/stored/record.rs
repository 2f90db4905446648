//! The index: one record for each tile.

use crate::{LANES, Place, SLABS, SlabShape};
use bytemuck::{Pod, Zeroable};

/// How a tile's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TileKind {
    /// The weights as they are, row by row, without padding.
    Raw = 0,
    /// Tail lengths, raw planes, words, exceptions.
    Coded = 1,
}

impl TileKind {
    /// The kind with this stored code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Coded),
            _ => None,
        }
    }
}

/// A tile's record in the index; all numbers little endian.
///
/// A coded payload is: of every slab the [tail lengths](TAIL_LENGTH_BYTES); the raw planes of all
/// slabs; the full rows of words of all slabs; the exceptions, slab by slab; the words of the tail
/// rows, slab by slab and row by row; zeros up to a whole line. So the tail lengths follow from the
/// tile's offset alone, and all other places but that of the last zeros from the record. A lane that a
/// tail row leaves out has the word 0 there. The scales of a matrix that has [groups](crate::GROUP)
/// stand before the full rows, or after the weights of a raw tile, at the next multiple of 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TileEntry {
    /// Where the payload starts, in lines of 128 bytes from the blob's start.
    pub offset: u32,
    /// CRC-32C of the payload.
    pub crc: u32,
    /// Length of the payload in lines.
    pub lines: u16,
    /// Exceptions listed in the payload.
    pub exceptions: u16,
    /// Code of the [`TileKind`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Of each slab, the rows of words that are stored whole.
    pub full_rows: [u8; SLABS],
    /// Of each slab, the rows after those, at most [`MAX_TAIL_ROWS`], of which the lanes' words are
    /// stored that are not left out.
    pub tail_rows: [u8; SLABS],
    /// Of each slab, the words of tail rows that are stored before its own.
    pub tail_start: [u16; SLABS],
    /// Of each slab, the exceptions that are listed before its own.
    pub exception_start: [u16; SLABS],
}

const _: () = assert!(size_of::<TileEntry>() == 64);

/// Most tail rows of a slab: tail lengths are stored in nibbles.
pub const MAX_TAIL_ROWS: usize = 15;

/// Bytes of a slab's tail lengths: of every lane, a nibble with the number of tail rows in which
/// it has a word, lane 0 in the low nibble of the first byte. These are the first ones: a lane has no
/// word after a row that left it out.
pub const TAIL_LENGTH_BYTES: usize = LANES / 2;

/// Exceptions: `[31:27] fragment of the slab | [26:22] lane | [21:20] register | [19] half | [18:16] zero
/// | [15:0] weight`, ascending within a slab. An integer's low byte is `[7:0]`, and its high byte, which counts 256,
/// `[15:8]`; both are signed.
impl TileEntry {
    /// The exception record of `weight` at `place`.
    #[must_use]
    pub const fn exception(place: Place, weight: u16) -> u32 {
        let fragment_and_lane = (place.fragment << 27 | place.lane << 22) as u32;
        fragment_and_lane | (place.register << 20 | place.half << 19) as u32 | weight as u32
    }

    /// (place, weight) of an exception record.
    #[inline(always)]
    #[must_use]
    pub const fn exception_fields(record: u32) -> (Place, u16) {
        let place = Place {
            fragment: (record >> 27) as usize,
            lane: (record >> 22 & 31) as usize,
            register: (record >> 20 & 3) as usize,
            half: (record >> 19 & 1) as usize,
        };
        (place, record as u16)
    }

    /// The weight of an exception that is an integer with these bytes.
    #[must_use]
    pub const fn exception_weight(low: i8, high: i8) -> u16 {
        u16::from_le_bytes([low.cast_unsigned(), high.cast_unsigned()])
    }

    /// Low and high byte of the integer that is the weight of an exception.
    #[must_use]
    pub const fn exception_bytes(weight: u16) -> (i8, i8) {
        let [low, high] = weight.to_le_bytes();
        (low.cast_signed(), high.cast_signed())
    }
}

const _: () = assert!(SlabShape::WHOLE.fragments() == 32 && LANES == 32, "five bits each");
