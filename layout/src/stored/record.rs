//! Records: the index has one for each tile.

use crate::{LANES, Place, SLABS, SlabShape};
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

/// How a tile's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TileKind {
    /// The weights unchanged, row by row, without padding.
    Raw = 0,
    /// Tail lengths, raw planes, words, exceptions.
    Coded = 1,
}

impl TileKind {
    /// Returns the kind with this stored code; `None` if there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Coded),
            _ => None,
        }
    }
}

/// A tile's record in the index. All numbers are little endian.
///
/// A coded payload has, each for all slabs in order: [tail lengths](TAIL_LENGTH_BYTES); raw planes; scales and zero points,
/// if the matrix has [groups](crate::GROUP); full rows of words; exceptions; the words of the tail rows, row by row; then
/// zeros up to a whole line. So the offset of the tail lengths follows from the tile's offset, and all other offsets
/// follow from the record. A lane that a tail row leaves out has the word 0 there. In a raw tile, scales and zero
/// points come after the weights, at the next multiple of 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TileEntry {
    /// Offset of the payload from the blob's start, in lines of 128 bytes.
    pub offset: u32,
    /// CRC-32C of the payload.
    pub crc: u32,
    /// Length of the payload in lines.
    pub lines: u16,
    /// Number of exceptions in the payload.
    pub exceptions: u16,
    /// Code of the [`TileKind`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Number of full rows of words of each slab.
    pub full_rows: [u8; SLABS],
    /// Number of tail rows of each slab, at most [`MAX_TAIL_ROWS`]: the rows after the full ones, which leave out the lanes
    /// whose streams have ended.
    pub tail_rows: [u8; SLABS],
    /// Number of words of tail rows that are stored before those of each slab.
    pub tail_start: [u16; SLABS],
    /// Number of exceptions that are listed before those of each slab.
    pub exception_start: [u16; SLABS],
}

// The fields follow each other without gaps and fill the record.
const _: () = assert!(
    size_of::<TileEntry>() == 64
        && offset_of!(TileEntry, crc) == 4
        && offset_of!(TileEntry, lines) == 8
        && offset_of!(TileEntry, exceptions) == 10
        && offset_of!(TileEntry, kind) == 12
        && offset_of!(TileEntry, reserved) == 13
        && offset_of!(TileEntry, full_rows) == 16
        && offset_of!(TileEntry, tail_rows) == 16 + SLABS
        && offset_of!(TileEntry, tail_start) == 16 + 2 * SLABS
        && offset_of!(TileEntry, exception_start) == 16 + 4 * SLABS
        && 16 + 6 * SLABS == 64
);

// SAFETY: all fields are integers or arrays of integers, for which zeros are a value.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for TileEntry {}
// SAFETY: `repr(C)`, all fields are integers or arrays of integers, and the assertion above shows that there is no padding.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for TileEntry {}

/// Most tail rows of a slab, because tail lengths are stored in nibbles.
pub const MAX_TAIL_ROWS: usize = 15;

/// Bytes of a slab's tail lengths: a nibble for every lane, lane 0 in the low nibble of the first byte. A lane's tail length
/// is the number of tail rows in which it has a word. These are the first tail rows: once a row leaves a lane out,
/// so do the rows after it.
pub const TAIL_LENGTH_BYTES: usize = LANES / 2;

/// Exceptions: `[31:27] fragment of the slab | [26:22] lane | [21:20] register | [19] half | [18:16] zero
/// | [15:0] weight`, ascending within a slab. An integer's low byte is `[7:0]`, and its high byte, which counts 256,
/// `[15:8]`; both are signed.
impl TileEntry {
    /// Returns the exception record of `weight` at `place`.
    #[must_use]
    pub const fn exception(place: Place, weight: u16) -> u32 {
        let fragment_and_lane = (place.fragment << 27 | place.lane << 22) as u32;
        fragment_and_lane | (place.register << 20 | place.half << 19) as u32 | weight as u32
    }

    /// Returns the (place, weight) of an exception record.
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

    /// Returns the weight of an exception that is an integer with these bytes.
    #[must_use]
    pub const fn exception_weight(low: i8, high: i8) -> u16 {
        u16::from_le_bytes([low.cast_unsigned(), high.cast_unsigned()])
    }

    /// Returns the low and high byte of the integer that is the weight of an exception.
    #[must_use]
    pub const fn exception_bytes(weight: u16) -> (i8, i8) {
        let [low, high] = weight.to_le_bytes();
        (low.cast_signed(), high.cast_signed())
    }
}

const _: () = assert!(SlabShape::WHOLE.fragments() == 32 && LANES == 32, "five bits each");
