//! A warp's slabs: their copies on the way, and the panels that are there.

use super::{Exceptions, ResidentLayer};
use crate::device::ptx::{
    BulkCopy, advance, arrive_once, barriers_made, broadcast_first_lane, expect_once, is_elected,
    lane, load_ahead, load_constant, load_global, load_shared_words, make_barrier, multiply_add,
    opaque_four, shared_memory, wait_barrier, warp_barrier,
};
use crate::{Lane, RawWords, SlabMemory, Words};
use fused_rans_layout::{
    LINE, LeanMemory, PANELS, RAW_STAGES, SlabEntry, TableKind, UNIT, WARP_BARRIER_BYTES,
    panel_plane_start, panel_raw_bytes, raw_comes_with_words,
};

/// The slabs that a warp takes, one after the other: the next one's words and first panels are on their way while it decodes
/// one.
pub struct Slabs<'a> {
    layer: &'a ResidentLayer,
    raw_bits: u32,
    /// Whether groups of weights have scales.
    grouped: bool,
    /// Addresses of the warp's parts of shared memory.
    words: u32,
    raw: u32,
    groups: u32,
    /// Address of the warp's barriers: of the words, then of the two stages of raw planes.
    barriers: u32,
    /// Slabs whose words were requested, and slabs that were begun.
    words_requested: u32,
    words_begun: u32,
}

/// A slab in device memory.
#[derive(Clone, Copy)]
pub struct Slab {
    pub entry: SlabEntry,
    /// Its number in the index.
    pub number: u32,
    /// Its panels.
    pub panels: u32,
}

impl Slab {
    /// Returns whether it is plain.
    #[inline(always)]
    pub fn is_plain(self) -> bool {
        self.entry.rows == 0
    }

    /// Returns whether it is coded and has all panels.
    #[inline(always)]
    pub fn is_whole(self) -> bool {
        self.coded_panels() == PANELS as u32
    }

    /// Returns the panels that have raw planes.
    #[inline(always)]
    fn coded_panels(self) -> u32 {
        if self.is_plain() { 0 } else { self.panels }
    }
}

/// Raw planes of a panel, in shared memory, from this lane's first word on.
#[derive(Clone, Copy)]
pub struct Planes {
    at: u32,
    raw_bits: u32,
    /// Words of the planes of two bits and of one bit, which are loaded at once for the whole panel.
    two: [u32; 4],
    one: [u32; 2],
}

/// What a lane decodes from: table and words.
struct LaneMemory {
    /// Address of the lane's first word.
    first: u32,
    /// See [`opaque_four`].
    four: u32,
}

impl<'a> Slabs<'a> {
    /// Number of a warp's barriers.
    const BARRIERS: u32 = 3;

    #[inline(always)]
    pub fn new(
        layer: &'a ResidentLayer,
        raw_bits: u32,
        grouped: bool,
        memory: LeanMemory,
        warp: u32,
    ) -> Self {
        Self {
            layer,
            raw_bits,
            grouped,
            words: memory.words + 2 * warp * layer.buffer_rows * LINE as u32,
            raw: memory.raw + 2 * warp * panel_raw_bytes(raw_bits) as u32,
            groups: memory.groups + 2 * warp * LeanMemory::GROUP_BYTES,
            barriers: memory.barriers + warp * WARP_BARRIER_BYTES,
            words_requested: 0,
            words_begun: 0,
        }
    }

    /// Returns whether raw planes come with words.
    #[inline(always)]
    fn raw_with_words(&self) -> bool {
        raw_comes_with_words(self.grouped, self.raw_bits)
    }

    /// Makes the warp's barriers.
    #[inline(always)]
    pub fn make_barriers(&self) {
        if is_elected() {
            let mut i = 0;
            while i < Self::BARRIERS {
                // SAFETY: the barriers' places, which nothing uses yet.
                unsafe { make_barrier(self.barriers + 8 * i, 1) };
                i += 1;
            }
            barriers_made();
        }
        warp_barrier();
    }

    /// Loads the entry of slab `number`, in column `col` of tiles. The layer must have it.
    #[inline(always)]
    pub fn locate(&self, number: u32, col: u32) -> Slab {
        // SAFETY: the index has an entry for each slab.
        let entry = unsafe { load_global(self.layer.entry(number).cast()) };
        self.located(number, col, entry)
    }

    /// Starts to load the words of the entry of slab `number`, for [`located`](Self::located). The layer must have it.
    #[inline(always)]
    pub fn load_entry(&self, number: u32) -> [u32; 2] {
        // SAFETY: the index has an entry for each slab.
        unsafe { load_ahead(self.layer.entry(number).cast()) }
    }

    /// Returns slab `number`, in column `col` of tiles, whose entry has these words.
    #[inline(always)]
    pub fn located(&self, number: u32, col: u32, [start, sizes]: [u32; 2]) -> Slab {
        // The same in all lanes, which the compiler must know: bulk copies take uniform registers.
        let (start, sizes) = (broadcast_first_lane(start), broadcast_first_lane(sizes));
        let entry = SlabEntry { start, rows: sizes as u16, exceptions: (sizes >> 16) as u16 };
        Slab { entry, number, panels: self.layer.panels(col) }
    }

    /// Requests the words of a slab, with its exceptions, its raw planes if they come with words, and its scales. The copies for
    /// the slab before have arrived.
    #[inline(always)]
    fn request_words(&mut self, slab: Slab, seen: u32) {
        let mut bytes = slab.entry.copied_units() * UNIT as u32;
        if self.raw_with_words() {
            bytes += slab.coded_panels() * panel_raw_bytes(self.raw_bits) as u32;
        }
        let group_bytes = if self.grouped { self.layer.group_bytes() } else { 0 };
        if bytes + group_bytes == 0 {
            return;
        }
        let half = self.words_requested % 2;
        self.words_requested += 1;
        let (to, barrier) =
            (self.words + half * self.layer.buffer_rows * LINE as u32, self.barriers);
        let words = BulkCopy { to, from: self.layer.unit(slab.entry.start), bytes, barrier, seen };
        // SAFETY: these parts of the slab are in the layer, and the buffer has room for any slab's; no lane reads it, because
        // the slab before last was decoded.
        unsafe {
            if !self.grouped {
                return words.expect_and_start_once();
            }
            expect_once(barrier, bytes + group_bytes);
            if bytes != 0 {
                words.start_once();
            }
            let to = self.groups + half * LeanMemory::GROUP_BYTES;
            let from = slab.number as usize * group_bytes as usize;
            let from = self.layer.groups.wrapping_add(from);
            BulkCopy { to, from, bytes: group_bytes, barrier, seen }.start_once();
        }
    }

    /// Returns the exceptions of a slab whose words are at address `words`, if it has any.
    #[inline(always)]
    pub fn exceptions(&self, slab: Slab, words: u32) -> Option<Exceptions> {
        let entry = slab.entry;
        (entry.exceptions != 0).then(|| {
            if entry.exceptions_are_copied() {
                Exceptions::Shared(words + entry.word_units() * UNIT as u32)
            } else {
                Exceptions::Global(self.layer.unit(entry.start + entry.word_units()))
            }
        })
    }

    /// Waits for the words of the next slab; returns the addresses of its words and scales.
    #[inline(always)]
    pub fn begin(&mut self, slab: Slab) -> (u32, u32) {
        if slab.entry.copied_units() == 0 && !self.grouped {
            return (0, 0);
        }
        let (half, turn) = (self.words_begun % 2, self.words_begun);
        self.words_begun += 1;
        // SAFETY: a barrier.
        unsafe { wait_barrier(self.barriers, turn % 2) };
        let words = self.words + half * self.layer.buffer_rows * LINE as u32;
        (words, self.groups + half * LeanMemory::GROUP_BYTES)
    }

    /// Requests the raw planes of panel `panel` of a slab. For a panel that the slab lacks, it only arrives at the barrier: so
    /// every slab passes through two phases of each stage's barrier, and phases are constants in the mainloop.
    #[inline(always)]
    fn request_raw(&self, slab: Slab, panel: usize, seen: u32) {
        if self.raw_bits == 0 || self.raw_with_words() {
            return;
        }
        let (stage, bytes) = ((panel % RAW_STAGES) as u32, panel_raw_bytes(self.raw_bits));
        let barrier = self.raw_barrier(stage);
        // SAFETY: the slab's panel is in the layer; no lane reads the stage, because the panel before last was decoded.
        unsafe {
            if panel as u32 >= slab.coded_panels() {
                return arrive_once(barrier);
            }
            let front = slab.entry.start + slab.entry.front_units();
            let from = self.layer.unit(front).wrapping_add(panel * bytes);
            let (to, bytes) = (self.raw + stage * bytes as u32, bytes as u32);
            BulkCopy { to, from, bytes, barrier, seen }.expect_and_start_once();
        }
    }

    /// Requests what is due before the first slab.
    #[inline(always)]
    pub fn start(&mut self, first: Slab) {
        warp_barrier();
        self.request_words(first, 0);
        for panel in 0..RAW_STAGES {
            self.request_raw(first, panel, 0);
        }
    }

    /// Requests what is due after panel `panel` of `slab`: the next slab's words after the first, and the raw planes of the
    /// panel that comes two panels later. `seen` depends on all raw planes that were loaded of the slab's last panels. The buffers
    /// that words, exceptions and scales replace were read before this slab began, and since then the warp has waited for a
    /// barrier and for later loads.
    #[inline(always)]
    pub fn after_panel(&mut self, slab: Slab, panel: usize, next: Option<Slab>, seen: u32) {
        if panel > 0 && self.raw_with_words() {
            return;
        }
        warp_barrier();
        if panel == 0 {
            if let Some(next) = next {
                self.request_words(next, seen);
            }
        }
        if panel + RAW_STAGES < PANELS {
            self.request_raw(slab, panel + RAW_STAGES, seen);
        } else if let Some(next) = next {
            self.request_raw(next, panel + RAW_STAGES - PANELS, seen);
        }
    }

    /// Returns the barrier of a stage of raw planes.
    #[inline(always)]
    fn raw_barrier(&self, stage: u32) -> u32 {
        self.barriers + 8 + 8 * stage
    }

    /// Waits for the raw planes of panel `panel` of a slab whose words are at address `words`.
    #[inline(always)]
    pub fn begin_raw(&self, slab: Slab, words: u32, panel: usize) -> Planes {
        let raw_bits = self.raw_bits;
        let mut planes = Planes { at: self.raw, raw_bits, two: [0; 4], one: [0; 2] };
        if raw_bits == 0 {
            return planes;
        }
        let (stage, phase) = (panel % RAW_STAGES, panel / RAW_STAGES);
        if self.raw_with_words() {
            planes.at = words + slab.entry.front_units() * UNIT as u32;
            planes.at += (panel * panel_raw_bytes(raw_bits)) as u32;
        } else {
            planes.at += (stage * panel_raw_bytes(raw_bits)) as u32;
            // SAFETY: a barrier.
            unsafe { wait_barrier(self.raw_barrier(stage as u32), phase as u32 % 2) };
        }
        // SAFETY: the panel's words are there.
        unsafe {
            if raw_bits & 2 != 0 {
                planes.two = load_shared_words(planes.plane(2) + 16 * lane() as u32);
            }
            if raw_bits & 1 != 0 {
                planes.one = load_shared_words(planes.plane(1) + 8 * lane() as u32);
            }
        }
        planes
    }
}

/// A lane's stream.
pub struct LaneStream {
    memory: LaneMemory,
    lane: Lane,
}

impl LaneStream {
    /// Returns the start of the lane's stream of a slab whose words are at address `words`.
    #[inline(always)]
    pub fn new(words: u32) -> Self {
        let memory = LaneMemory { first: words + 4 * lane() as u32, four: opaque_four() };
        let lane = Lane::new(&memory);
        Self { memory, lane }
    }

    /// Decodes a fragment: returns the entries of its symbols.
    #[inline(always)]
    pub fn fragment(&mut self, table: TableKind) -> [u32; 4] {
        self.lane.fragment(&self.memory, table)
    }
}

impl Planes {
    /// Returns the address of the plane of `width` bits.
    #[inline(always)]
    fn plane(&self, width: u32) -> u32 {
        self.at + panel_plane_start(self.raw_bits, width) as u32
    }

    /// Loads the lane's words of the four fragments of half `half`.
    #[inline(always)]
    pub fn half(&self, half: usize) -> RawWords {
        let (mut words, lane) = (RawWords::default(), 16 * lane() as u32);
        let quad = LINE as u32 * 4;
        // SAFETY: the panel's words are there.
        unsafe {
            if self.raw_bits & 8 != 0 {
                let at = self.plane(8) + 2 * half as u32 * quad + lane;
                words.eight = [load_shared_words(at), load_shared_words(at + quad)];
            }
            if self.raw_bits & 4 != 0 {
                words.four = load_shared_words(self.plane(4) + half as u32 * quad + lane);
            }
        }
        words.two = [self.two[2 * half], self.two[2 * half + 1]];
        words.one = self.one[half];
        words
    }

    /// Returns a number that depends on each of the loads that have given `words`.
    #[inline(always)]
    pub fn seen(&self, words: &RawWords) -> u32 {
        words.eight[0][0] | words.eight[1][0] | words.four[0] | words.two[0] | words.one
    }
}

impl SlabMemory for LaneMemory {
    #[inline(always)]
    fn entry(&self, index: u32) -> u32 {
        // SAFETY: an index is below `TABLE` by construction of the entries, and shared memory starts with the table.
        unsafe { load_constant(multiply_add(index, self.four, shared_memory())) }
    }

    #[inline(always)]
    fn first_words(&self) -> Words {
        let second = self.first + LINE as u32;
        // SAFETY: the host gives every slab at least two rows.
        let [[first], [second]] =
            unsafe { [load_shared_words(self.first), load_shared_words(second)] };
        Words { window: [first, second], next: self.first + 2 * LINE as u32 }
    }

    #[inline(always)]
    fn advance(&self, step: u32, words: &mut Words) {
        // SAFETY: whatever its bits are, a stream reads at most `MAX_WORD_ROWS` words and looks ahead at `LOOK_AHEAD`
        // more; behind the buffers of words there is room for so many.
        unsafe { advance(step, LINE as u32, words) };
    }

    #[inline(always)]
    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        // SAFETY: the kernels load raw planes in another way.
        unsafe { load_shared_words(self.first + 4 * at as u32) }
    }
}
