//! The index: one record for each tile.

use crate::SLABS;
use bytemuck::{Pod, Zeroable};

/// How a tile's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TileKind {
    /// The weights as they are, row by row, without padding.
    Raw = 0,
    /// Raw planes, words, exceptions.
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
/// A coded payload is: the raw planes of all slabs; the full rows of words of all slabs; for every
/// tail row of every slab the mask of the lanes that have a word in it; the words of those lanes,
/// row by row; the exceptions; zeros up to a whole line. A lane that a tail row leaves out has the
/// word 0 there.
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
    /// Of each slab, the rows after those, stored as a mask of lanes and their words.
    pub tail_rows: [u8; SLABS],
}

const _: () = assert!(size_of::<TileEntry>() == 32);

/// Exceptions: `[31:24] row in the tile | [23:16] column | [15:0] the weight`, ascending.
impl TileEntry {
    /// The exception record of `weight` at (`row`, `col`) of a tile.
    #[must_use]
    pub const fn exception(row: usize, col: usize, weight: u16) -> u32 {
        (row as u32) << 24 | (col as u32 & 0xFF) << 16 | weight as u32
    }

    /// (row, column, weight) of an exception record.
    #[inline(always)]
    #[must_use]
    pub const fn exception_fields(record: u32) -> (usize, usize, u16) {
        ((record >> 24) as usize, (record >> 16 & 0xFF) as usize, record as u16)
    }
}
