//! A warp's way through its tiles.

use super::epilogue::{Place, finish};
use super::mainloop::Mainloop;
use super::ring::Ring;
use super::sums::SharedSums;
use super::{Arguments, Kind};
use crate::Format;
use crate::device::instructions::{
    async_copy_wait, barrier, blocks, shared_memory, thread, threads, warp, warp_barrier,
};
use crate::device::payload::{SlabPayload, copy_table, find, learn};
use fused_rans_layout::{
    GroupPlane, LANES, LINE, RING_STAGES, Run, SLAB_ROWS, SLABS, SlabShape, TABLE, TILE, TileEntry,
    TileShape, ring_stage_bytes,
};

/// A tile, and its place.
#[derive(Clone, Copy)]
pub struct Tile {
    number: u32,
    row: u32,
    pub col: u32,
}

impl Tile {
    fn new(number: u32, across: u32) -> Self {
        Self { number, row: number / across, col: number % across }
    }

    #[inline(always)]
    fn next(self, across: u32) -> Self {
        let Self { number, row, col } = self;
        if col + 1 == across {
            Self { number: number + 1, row: row + 1, col: 0 }
        } else {
            Self { number: number + 1, row, col: col + 1 }
        }
    }

    #[inline(always)]
    pub fn shape(self, arguments: &Arguments) -> TileShape {
        let side = |all: u32, at: u32| (all - TILE as u32 * at).min(TILE as u32) as usize;
        TileShape { rows: side(arguments.rows, self.row), cols: side(arguments.cols, self.col) }
    }
}

/// Steps of preparing a slab while another one is decoded, of which each needs what the one before has
/// loaded; they are a fraction of a slab apart.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Find the tile's payload.
    Find,
    /// Learn how long the lanes' words are.
    Learn,
    /// Send for the words, and for the raw planes.
    Fetch,
}

/// What a warp works on.
struct Warp<'a> {
    arguments: &'a Arguments,
    format: Format,
    group_bytes: u32,
    /// Tiles beside each other.
    across: u32,
    /// The warp's slab of a tile.
    slab: u32,
    run: Run,
    /// Addresses of its ring, and of its first buffer of rows.
    ring: u32,
    rows: u32,
}

/// # Safety
/// As the kernels'.
#[inline(always)]
pub unsafe fn run<const B: usize, const WIDE: bool>(kind: Kind, arguments: &Arguments) {
    let warp = Warp::new::<B>(kind, arguments);
    // SAFETY: the table is whole.
    unsafe { copy_table(arguments.table, thread(), threads() as usize) };
    let mut tile = Tile::new(warp.run.start, warp.across);
    // SAFETY: nothing has been decoded yet.
    let mut current = unsafe { warp.prepare_first() };
    let mut mainloop = Mainloop::<B, WIDE>::new(kind, arguments, warp.format, warp.ring::<B>());
    if let Some(slab) = current.filter(|slab| warp.whole(tile) && !slab.is_raw()) {
        mainloop.prime(slab.raw(), tile);
    }
    async_copy_wait();
    barrier();
    let sums = SharedSums::<B>::new();
    sums.clear();
    let mut part = warp.run.start;
    let mut buffer = 0;
    let single = arguments.single_buffer();
    while tile.number < warp.run.end {
        let following = tile.next(warp.across);
        // This slab's words are there, and nobody reads those of the last one any more.
        mainloop.wait_for_words();
        warp_barrier();
        let mut next = Next::NOTHING;
        let mut prepare = |phase| {
            if !(single && matches!(phase, Phase::Fetch)) {
                // SAFETY: as above.
                unsafe { warp.prepare(phase, &mut next, following, buffer ^ 1) };
            }
            let whole = warp.whole(following);
            next.slab.filter(|slab| whole && !slab.is_raw()).map(|slab| slab.raw())
        };
        if let Some(payload) = &current {
            let slab = SlabInput {
                payload,
                shape: tile.shape(arguments).slab(warp.slab as usize),
                tile,
                number: tile.number * SLABS as u32 + warp.slab,
                first_row: warp.slab * SLAB_ROWS as u32,
                memory_rows: warp.buffer(buffer),
            };
            mainloop.slab(&slab, prepare, sums);
        } else {
            // The tile has no such slab.
            prepare(Phase::Find);
            prepare(Phase::Learn);
            prepare(Phase::Fetch);
            mainloop.nothing();
        }
        if single {
            warp_barrier();
            // SAFETY: as above; the warp is done with its buffer.
            unsafe { warp.prepare(Phase::Fetch, &mut next, following, 0) };
        }
        if following.row != tile.row || following.number == warp.run.end {
            if current.is_some() && !kind.fragments {
                let part = Run { start: part, end: following.number };
                // SAFETY: the caller's promise.
                unsafe { finish(kind, arguments, tile.row, part, sums.load()) };
            }
            part = following.number;
            sums.clear();
        }
        (tile, current, buffer) = (following, next.slab, if single { 0 } else { buffer ^ 1 });
    }
}

/// A slab that is ready to be decoded.
pub struct SlabInput<'a> {
    pub payload: &'a SlabPayload,
    pub shape: SlabShape,
    pub tile: Tile,
    /// Number of the slab in the layer.
    pub number: u32,
    /// Its first row in the tile.
    pub first_row: u32,
    /// Where its words are in shared memory.
    pub memory_rows: u32,
}

impl<'a> Warp<'a> {
    #[inline(always)]
    fn new<const B: usize>(kind: Kind, arguments: &'a Arguments) -> Self {
        let place = Place::new(arguments, blocks());
        let buffers = if arguments.single_buffer() { 1 } else { 2 };
        let buffers = buffers * warp() as u32 * arguments.row_capacity;
        let warps = threads() / LANES as u32;
        let rings = shared_memory() + 4 * TABLE as u32 + warps * SharedSums::<B>::WARP_BYTES;
        let format = Format::new(kind.dtype, kind.raw_bits, arguments.base, arguments.zero());
        let ring_bytes = RING_STAGES * ring_stage_bytes(B, format.raw_bits()) as u32;
        let groups = GroupPlane { zeros: arguments.zero_points() };
        Self {
            arguments,
            format,
            group_bytes: if kind.grouped { groups.bytes() as u32 } else { 0 },
            across: place.partition.across,
            slab: place.slab,
            run: place.partition.run(place.block, place.group, place.slab),
            ring: rings + warp() as u32 * ring_bytes,
            rows: rings + warps * ring_bytes + LINE as u32 * buffers,
        }
    }

    fn ring<const B: usize>(&self) -> Ring<B> {
        Ring::new(self.ring, self.format.raw_bits())
    }

    /// Address of buffer 0 or 1.
    #[inline(always)]
    fn buffer(&self, number: u32) -> u32 {
        self.rows + number * self.arguments.row_capacity * LINE as u32
    }

    /// The warp's slab of `tile`; `None` beyond the run, and where a tile has no such slab.
    #[inline(always)]
    fn shape(&self, tile: Tile) -> Option<TileShape> {
        let shape = tile.shape(self.arguments);
        let there = tile.number < self.run.end && self.slab < shape.slabs() as u32;
        there.then_some(shape)
    }

    /// Whether `tile` is one of the run, and whole.
    #[inline(always)]
    fn whole(&self, tile: Tile) -> bool {
        self.shape(tile).is_some_and(TileShape::is_whole)
    }

    /// Does phase `phase` of preparing the warp's slab of `tile`, if there is one.
    ///
    /// # Safety
    /// Nobody reads buffer `buffer`; all lanes of the warp are here.
    #[inline(always)]
    unsafe fn prepare(&self, phase: Phase, next: &mut Next, tile: Tile, buffer: u32) {
        let Some(shape) = self.shape(tile) else { return };
        // SAFETY: tiles of the run are the layer's, and this one has the slab; the rest is the caller's
        // promise.
        unsafe {
            match phase {
                Phase::Find => next.payload = find(self.arguments.blob, self.entry(tile)),
                Phase::Learn => next.tail_lengths = learn(next.payload, self.slab),
                Phase::Fetch => {
                    let slab = self.load(tile, shape);
                    slab.fetch(self.buffer(buffer));
                    slab.fetch_tails(next.tail_lengths, self.buffer(buffer));
                    next.slab = Some(slab);
                }
            }
        }
    }

    /// All of that for the warp's first slab.
    ///
    /// # Safety
    /// As [`Warp::prepare`].
    #[inline(always)]
    unsafe fn prepare_first(&self) -> Option<SlabPayload> {
        let tile = Tile::new(self.run.start, self.across);
        let shape = self.shape(tile)?;
        // SAFETY: as above.
        unsafe {
            let slab = self.load(tile, shape);
            let tail_lengths = slab.tail_lengths();
            slab.fetch(self.buffer(0));
            slab.fetch_tails(tail_lengths, self.buffer(0));
            Some(slab)
        }
    }

    #[inline(always)]
    fn entry(&self, tile: Tile) -> *const TileEntry {
        self.arguments.index.wrapping_add(tile.number as usize)
    }

    /// # Safety
    /// The tile, of shape `shape`, is one of the run, and has the warp's slab.
    #[inline(always)]
    unsafe fn load(&self, tile: Tile, shape: TileShape) -> SlabPayload {
        let (raw_bits, slab) = (self.format.raw_bits(), self.slab);
        let (blob, entry) = (self.arguments.blob, self.entry(tile));
        // SAFETY: the caller's promise.
        unsafe { SlabPayload::load(blob, entry, shape, slab, raw_bits, self.group_bytes) }
    }
}

/// The slab after the one that is being decoded, as far as it is prepared.
struct Next {
    /// The tile's payload.
    payload: *const u8,
    /// See [`SlabPayload::tail_lengths`].
    tail_lengths: u8,
    /// `None` beyond the run, and where a tile has no such slab.
    slab: Option<SlabPayload>,
}

impl Next {
    const NOTHING: Self = Self { payload: core::ptr::null(), tail_lengths: 0, slab: None };
}
