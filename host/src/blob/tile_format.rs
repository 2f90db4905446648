//! What a tile's record in the index may say.

use crate::blob::values::may_be_exception;
use fused_rans_layout::{
    Dtype, GroupPlane, LINE, MAX_TAIL_ROWS, MAX_WORD_ROWS, SLABS, Split, TAIL_LENGTH_BYTES,
    TileEntry, TileKind, TileShape,
};

/// Scales stand at multiples of this many bytes of the payload.
pub const GROUP_ALIGNMENT: usize = 16;

/// What the payload of every tile of a blob depends on.
#[derive(Clone, Copy, Debug)]
pub struct TileFormat {
    /// How the weights split.
    pub split: Split,
    /// The groups' scales and zero points, if there are any.
    pub groups: Option<GroupPlane>,
    /// Whether there are integers that take more than a byte.
    pub large_integers: bool,
}

impl TileFormat {
    /// Bytes of the scales and zero points of a tile.
    pub fn group_bytes(self, shape: TileShape) -> usize {
        self.groups.map_or(0, |plane| plane.bytes() * shape.slabs())
    }

    /// Bytes of the weights of a raw tile, with the zeros before scales.
    pub fn raw_weight_bytes(self, shape: TileShape) -> usize {
        let bytes = shape.weights() * self.split.dtype().byte_len();
        if self.groups.is_some() { bytes.next_multiple_of(GROUP_ALIGNMENT) } else { bytes }
    }

    /// Lines of a raw tile.
    pub fn raw_tile_lines(self, shape: TileShape) -> usize {
        (self.raw_weight_bytes(shape) + self.group_bytes(shape)).div_ceil(LINE)
    }

    /// Least bytes of a coded tile: with the tail words before the last slab's, but without its own, whose number only the
    /// payload says.
    fn coded_bytes(self, entry: &TileEntry, shape: TileShape) -> usize {
        let tail_words = entry.tail_start.iter().max().copied().unwrap_or(0);
        let full_rows: usize = entry.full_rows.iter().map(|&rows| usize::from(rows)).sum();
        TAIL_LENGTH_BYTES * shape.slabs()
            + shape.raw_bytes(self.split.raw_bits())
            + self.group_bytes(shape)
            + LINE * full_rows
            + 4 * (usize::from(entry.exceptions) + usize::from(tail_words))
    }

    /// Whether an exception can have this weight.
    pub fn may_be_exception(self, weight: u16) -> bool {
        self.split.dtype() != Dtype::I8 || may_be_exception(weight, self.large_integers)
    }

    /// Checks what `entry` says of a tile of this shape, apart from its place among the others.
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
            TileKind::Coded if LINE * lines < self.coded_bytes(entry, shape) => {
                Err("the payload is too short for its parts")
            }
            TileKind::Coded => check_slabs(entry, shape.slabs()),
        }
    }
}

/// Checks the fields of each slab, of which the tile codes `slabs`: all are 0 for those that it does
/// not. Where in the payload the tail words start is left to the payload's check.
fn check_slabs(entry: &TileEntry, slabs: usize) -> Result<(), &'static str> {
    for slab in 0..SLABS {
        let (full, tail) = (entry.full_rows[slab], entry.tail_rows[slab]);
        let starts = (entry.tail_start[slab], entry.exception_start[slab]);
        if slab >= slabs && (full, tail, starts) != (0, 0, (0, 0)) {
            return Err("a slab that the tile lacks");
        }
        let rows = usize::from(full) + usize::from(tail);
        if rows > MAX_WORD_ROWS || usize::from(tail) > MAX_TAIL_ROWS {
            return Err("too many rows of words");
        }
    }
    // The first slab's exceptions start at 0, the last slab's end with the tile's. Without slabs
    // that is one and the same.
    let mut starts = entry.exception_start[..slabs].iter().chain([&entry.exceptions]);
    if !starts.clone().is_sorted() || starts.next() != Some(&0) {
        return Err("the slabs' exceptions are not the tile's");
    }
    Ok(())
}
