//! The properties of a blob that all its tiles share, and the checks of index records that follow from them.

use crate::blob::values::may_be_exception;
use fused_rans_layout::{
    Dtype, GroupPlane, LINE, MAX_TAIL_ROWS, MAX_WORD_ROWS, SLABS, Split, TAIL_LENGTH_BYTES,
    TileEntry, TileKind, TileShape,
};

/// Alignment of the scales in a payload, in bytes.
pub const GROUP_ALIGNMENT: usize = 16;

/// Format of the tiles of a blob.
#[derive(Clone, Copy, Debug)]
pub struct TileFormat {
    /// Split of the weights into coded and raw bits.
    pub split: Split,
    /// Layout of group scales and zero points, if weights have groups.
    pub groups: Option<GroupPlane>,
    /// Whether exceptions may be large integers, which do not fit in a byte.
    pub large_integers: bool,
}

impl TileFormat {
    /// Returns the size of the group scales and zero points of a tile in bytes.
    pub fn group_bytes(self, shape: TileShape) -> usize {
        self.groups.map_or(0, |plane| plane.bytes() * shape.slabs())
    }

    /// Returns the size of the weights of a raw tile in bytes, with the padding before the scales.
    pub fn raw_weight_bytes(self, shape: TileShape) -> usize {
        let bytes = shape.weights() * self.split.dtype().byte_len();
        if self.groups.is_some() { bytes.next_multiple_of(GROUP_ALIGNMENT) } else { bytes }
    }

    /// Returns the size of a raw tile in lines.
    pub fn raw_tile_lines(self, shape: TileShape) -> usize {
        (self.raw_weight_bytes(shape) + self.group_bytes(shape)).div_ceil(LINE)
    }

    /// Returns the smallest possible size of a coded tile in bytes. It does not count the tail words of the last slab,
    /// whose number only the payload holds.
    fn min_coded_bytes(self, entry: &TileEntry, shape: TileShape) -> usize {
        let tail_words = entry.tail_start.iter().max().copied().unwrap_or(0);
        let full_rows: usize = entry.full_rows.iter().map(|&rows| usize::from(rows)).sum();
        TAIL_LENGTH_BYTES * shape.slabs()
            + shape.raw_bytes(self.split.raw_bits())
            + self.group_bytes(shape)
            + LINE * full_rows
            + 4 * (usize::from(entry.exceptions) + usize::from(tail_words))
    }

    /// Returns whether an exception can have this weight.
    pub fn may_be_exception(self, weight: u16) -> bool {
        self.split.dtype() != Dtype::I8 || may_be_exception(weight, self.large_integers)
    }

    /// Checks the record of a tile of this shape, except its offset.
    pub fn check(self, entry: &TileEntry, shape: TileShape) -> Result<(), &'static str> {
        if entry.reserved != [0; 3] {
            return Err("unknown flags");
        }
        let lines = usize::from(entry.lines);
        match TileKind::from_code(entry.kind).ok_or("unknown kind of tile")? {
            TileKind::Raw if lines != self.raw_tile_lines(shape) => {
                Err("impossible size of a raw tile")
            }
            TileKind::Raw => check_slabs(entry, 0),
            TileKind::Coded if LINE * lines < self.min_coded_bytes(entry, shape) => {
                Err("the payload is too short for its parts")
            }
            TileKind::Coded => check_slabs(entry, shape.slabs()),
        }
    }
}

/// Checks the fields of each slab. Only the first `slabs` may have fields other than 0. The starts of the tail words
/// are checked together with the payload.
fn check_slabs(entry: &TileEntry, slabs: usize) -> Result<(), &'static str> {
    for slab in 0..SLABS {
        let (full, tail) = (entry.full_rows[slab], entry.tail_rows[slab]);
        let starts = (entry.tail_start[slab], entry.exception_start[slab]);
        if slab >= slabs && (full, tail, starts) != (0, 0, (0, 0)) {
            return Err("a slab outside the tile has entries");
        }
        let rows = usize::from(full) + usize::from(tail);
        if rows > MAX_WORD_ROWS || usize::from(tail) > MAX_TAIL_ROWS {
            return Err("too many rows of words");
        }
    }
    // The exceptions of the first slab start at 0, those of the last slab end with the tile's. A raw tile has no slabs
    // and no exceptions.
    let mut starts = entry.exception_start[..slabs].iter().chain([&entry.exceptions]);
    if !starts.clone().is_sorted() || starts.next() != Some(&0) {
        return Err("the exceptions of the slabs do not add up to the tile's");
    }
    Ok(())
}
