//! Where segments lie in a layer.

use super::memory::{Slots, WarpMemory};
use crate::device::matmul::Arguments;
use crate::device::ptx::opaque;
use crate::unrolled;
use fused_rans_layout::{SLAB_ROWS, SLABS, SlabShape, TILE, TileShape};

/// The part of a tile that lies in a band: `S` slabs, fewer at the layer's lower edge.
#[derive(Clone, Copy)]
pub struct Segment<const S: usize> {
    pub band: u32,
    /// Column of tiles.
    pub col: u32,
}

impl<const S: usize> Segment<S> {
    /// Returns segment number `number` of a layer that is `across` tiles wide, as a
    /// [`Partition`](fused_rans_layout::Partition) numbers them.
    #[inline(always)]
    pub fn new(number: u32, across: u32) -> Self {
        Self { band: number / across, col: number % across }
    }

    /// Returns the segment after this one.
    #[inline(always)]
    pub fn next(self, across: u32) -> Self {
        let Self { band, col } = self;
        if col + 1 == across {
            Self { band: band + 1, col: 0 }
        } else {
            Self { band, col: col + 1 }
        }
    }

    /// Returns its number in the layer.
    #[inline(always)]
    pub fn number(self, across: u32) -> u32 {
        self.band * across + self.col
    }

    /// Returns the number of its first slab in the tile.
    #[inline(always)]
    pub fn slab(self) -> u32 {
        self.band * S as u32 % SLABS as u32
    }

    /// Row of tiles.
    #[inline(always)]
    fn tile_row(self) -> u32 {
        self.band * S as u32 / SLABS as u32
    }

    /// Returns the number of the tile in the layer.
    #[inline(always)]
    pub fn tile(self, across: u32) -> u32 {
        self.tile_row() * across + self.col
    }

    /// Checks whether the tile is whole. A segment below the layer's rows or beyond its columns has none.
    #[inline(always)]
    pub fn is_whole(self, arguments: &Arguments) -> bool {
        // Divisions do not wrap where products with `TILE` would.
        self.tile_row() < arguments.rows / TILE as u32 && self.col < arguments.cols / TILE as u32
    }

    /// Returns the number of slabs.
    #[inline(always)]
    pub fn slabs(self, arguments: &Arguments) -> usize {
        if self.is_whole(arguments) {
            return S;
        }
        // Opaque, so that this is computed only here, which is hardly ever reached.
        let rows = opaque(arguments.rows) - self.band * (S * SLAB_ROWS) as u32;
        (rows.div_ceil(SLAB_ROWS as u32) as usize).min(S)
    }

    /// Returns the shape of the tile.
    #[inline(always)]
    pub fn tile_shape(self, arguments: &Arguments) -> TileShape {
        // Opaque for the same reason.
        let side = |all: u32, at: u32| (opaque(all) - TILE as u32 * at).min(TILE as u32) as usize;
        TileShape {
            rows: side(arguments.rows, self.tile_row()),
            cols: side(arguments.cols, self.col),
        }
    }
}

/// A segment whose slabs are located, so that it can be decoded.
pub struct SegmentInput<'a, const S: usize> {
    pub segment: Segment<S>,
    arguments: &'a Arguments,
    memory: &'a WarpMemory,
    /// Which half of the slots and end of the buffers the segment uses; the next one uses the other.
    pub parity: u32,
}

impl<'a, const S: usize> SegmentInput<'a, S> {
    #[inline(always)]
    pub fn new(
        segment: Segment<S>,
        arguments: &'a Arguments,
        memory: &'a WarpMemory,
        parity: u32,
    ) -> Self {
        Self { segment, arguments, memory, parity }
    }

    /// Returns the number of tiles in a row of tiles.
    #[inline(always)]
    pub fn across(&self) -> u32 {
        across(self.arguments)
    }

    /// Returns the number of slabs.
    #[inline(always)]
    pub fn slabs(&self) -> usize {
        self.segment.slabs(self.arguments)
    }

    /// Returns the shape of the tile.
    #[inline(always)]
    pub fn tile_shape(&self) -> TileShape {
        self.segment.tile_shape(self.arguments)
    }

    /// Returns the shape of slab `s`.
    #[inline(always)]
    pub fn shape(&self, s: usize) -> SlabShape {
        if self.segment.is_whole(self.arguments) {
            SlabShape::WHOLE
        } else {
            self.tile_shape().slab(self.segment.slab() as usize + s)
        }
    }

    /// Returns the slots of its slabs.
    #[inline(always)]
    pub fn slots(&self) -> Slots {
        self.memory.slots::<S>(self.parity)
    }

    /// Returns the slots of the next segment's slabs.
    #[inline(always)]
    pub fn next_slots(&self) -> Slots {
        self.memory.slots::<S>(self.parity ^ 1)
    }

    /// Checks whether the first stage reads no words of tail rows.
    #[inline(always)]
    pub fn starts_full(&self) -> bool {
        let (slots, mut full) = (self.slots(), true);
        unrolled::<S>(
            #[inline(always)]
            // SAFETY: the segment is located.
            |s| full &= unsafe { slots.slab(s) }.starts_full(),
        );
        full
    }

    /// Returns the number of rows of words that every lane must have taken of each slab before the next segment's words
    /// may be requested, so that they do not overwrite rows that are still to be read.
    ///
    /// # Safety
    /// There is a next segment, and it is located.
    #[inline(always)]
    pub unsafe fn rows_to_take(&self) -> [u32; S] {
        let (slots, next_slots) = (self.slots(), self.next_slots());
        let mut rows = [0; S];
        unrolled::<S>(
            #[inline(always)]
            |s| {
                // SAFETY: the slabs of this segment are located, too.
                let (slab, next) = unsafe { (slots.slab(s), next_slots.slab(s)) };
                let all = slab.rows() + next.rows();
                rows[s] = all.saturating_sub(self.arguments.buffer_rows);
            },
        );
        rows
    }
}

/// Returns the number of tiles in a row of tiles: computed where it is needed, because registers are short.
#[inline(always)]
pub fn across(arguments: &Arguments) -> u32 {
    opaque(arguments.cols).div_ceil(TILE as u32)
}
