//! A warp's way through its units.

use super::mainloop::Mainloop;
use super::ring::Ring;
use crate::device::matmul::shared::epilogue::{finish, finish_block, partition};
use crate::device::matmul::shared::sums::{Sums, nothing};
use crate::device::matmul::{Arguments, Kind};
use crate::device::payload::{FIRST_ROWS, Record, Rows, SlabPayload, copy_table};
use crate::device::ptx::{
    async_copy_commit, async_copy_wait, async_copy_wait_but, barrier, block_anew, blocks,
    lane_anew, opaque, shared_memory, thread, threads, warp_anew, warp_barrier, warps_anew,
};
use crate::{WeightFormat, unrolled};
use fused_rans_layout::{
    GroupPlane, LANES, LINE, Run, SLAB_BYTES, SLAB_ROWS, SLABS, SlabShape, TABLE,
    TAIL_LENGTH_BYTES, TILE, TileEntry, TileShape, record_bytes, ring_bytes, slabs_bytes,
};

/// What a band has of a tile: `S` slabs, fewer at the layer's lower edge.
#[derive(Clone, Copy)]
pub struct Unit<const S: usize> {
    band: u32,
    /// Column of tiles.
    pub col: u32,
}

impl<const S: usize> Unit<S> {
    fn new(number: u32, across: u32) -> Self {
        Self { band: number / across, col: number % across }
    }

    #[inline(always)]
    fn next(self, across: u32) -> Self {
        let Self { band, col } = self;
        if col + 1 == across {
            Self { band: band + 1, col: 0 }
        } else {
            Self { band, col: col + 1 }
        }
    }

    /// Its number in the layer, as a [`Partition`](fused_rans_layout::Partition) has it.
    #[inline(always)]
    fn number(self, across: u32) -> u32 {
        self.band * across + self.col
    }

    /// Its first slab in the tile.
    #[inline(always)]
    pub fn slab(self) -> u32 {
        self.band * S as u32 % SLABS as u32
    }

    /// Number of the tile in the layer.
    #[inline(always)]
    pub fn tile(self, across: u32) -> u32 {
        self.band * S as u32 / SLABS as u32 * across + self.col
    }

    /// Whether the tile is whole; that of a unit beyond the layer's columns is not.
    #[inline(always)]
    pub fn is_whole(self, arguments: &Arguments) -> bool {
        let row = self.band * S as u32 / SLABS as u32;
        (row + 1) * TILE as u32 <= arguments.rows && (self.col + 1) * TILE as u32 <= arguments.cols
    }

    /// Slabs of the unit.
    #[inline(always)]
    pub fn slabs(self, arguments: &Arguments) -> usize {
        if self.is_whole(arguments) {
            return S;
        }
        // Opaque, as below.
        let rows = opaque(arguments.rows) - self.band * (S * SLAB_ROWS) as u32;
        (rows.div_ceil(SLAB_ROWS as u32) as usize).min(S)
    }

    /// Shape of the tile.
    #[inline(always)]
    pub fn tile_shape(self, arguments: &Arguments) -> TileShape {
        let row = self.band * S as u32 / SLABS as u32;
        // Opaque, so that what follows is worked out where it is needed: hardly ever.
        let side = |all: u32, at: u32| (opaque(all) - TILE as u32 * at).min(TILE as u32) as usize;
        TileShape { rows: side(arguments.rows, row), cols: side(arguments.cols, self.col) }
    }
}

/// Steps of preparing a unit while another one is decoded, of which each needs what the one before has
/// sent for.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Send for the tile's record.
    Find,
    /// Keep what the record says, and send for tail lengths.
    Learn,
    /// Send for words, first exceptions and scales.
    Fetch,
}

/// Full rows of words, from one to another: those that the first half turn takes, the others, all.
const FIRST: [u32; 2] = [0, FIRST_ROWS];
const OTHERS: [u32; 2] = [FIRST_ROWS, u32::MAX];
const ALL: [u32; 2] = [0, u32::MAX];

/// How far a unit is on its way; what is known of its slabs is kept in shared memory.
#[derive(Clone, Copy)]
struct Next {
    /// Whether the record is there.
    found: bool,
    /// Whether the tail lengths have been sent for.
    learned: bool,
    /// Whether the words have been sent for.
    fetched: bool,
}

impl Next {
    const NOTHING: Self = Self { found: false, learned: false, fetched: false };
}

/// Where, in shared memory, it stands what is known of a unit's slabs.
#[derive(Clone, Copy)]
pub struct Slots {
    at: u32,
    stride: u32,
}

impl Slots {
    /// What is known of slab `s`.
    ///
    /// # Safety
    /// The unit has such a slab, which has been learned of, and the warp has come together since.
    #[inline(always)]
    pub unsafe fn slab(self, s: usize) -> SlabPayload {
        // SAFETY: the caller's promise.
        unsafe { SlabPayload::kept(self.at(s)) }
    }

    /// Where the words of slab `s` go.
    ///
    /// # Safety
    /// As [`Slots::slab`].
    #[inline(always)]
    pub unsafe fn rows(self, s: usize) -> Rows {
        // SAFETY: the caller's promise.
        unsafe { SlabPayload::kept_rows(self.at(s)) }
    }

    /// Address of the scales and zero points of slab `s`.
    #[inline(always)]
    pub fn groups(self, s: usize) -> u32 {
        self.at(s) + SLAB_BYTES as u32
    }

    /// Address of what is known of slab `s`.
    #[inline(always)]
    pub fn at(self, s: usize) -> u32 {
        self.at + s as u32 * self.stride
    }
}

/// What a warp works on.
struct Warp<'a> {
    arguments: &'a Arguments,
    format: WeightFormat,
    /// Bytes of a slab's scales and zero points.
    group_bytes: u32,
    run: Run,
    /// Bytes of a ring.
    ring_bytes: u32,
    /// Bytes of a record and of what is known of slabs, and of that of one.
    slots_bytes: u32,
    slot_bytes: u32,
}

/// # Safety
/// As the kernels'.
#[inline(always)]
pub unsafe fn run<const B: usize, const S: usize>(kind: Kind, arguments: &Arguments) {
    let warp = Warp::new::<B, S>(kind, arguments);
    let mut unit = Unit::<S>::new(warp.run.start, warp.across());
    // SAFETY: the first unit's record, if there is one, and the table, which is whole.
    unsafe {
        if !warp.run.is_empty() {
            warp.find(unit);
        }
        copy_table(arguments.table, thread(), threads() as usize);
    }
    let ring = Ring::<B, S>::new(warp.ring(), warp.format.raw_bits());
    let mut mainloop = Mainloop::<B, S>::new(kind, arguments, warp.format, ring);
    let mut input = UnitInput { unit, warp: &warp, parity: 0 };
    // The table and the records are there, for all; all warps come here, also those without work.
    async_copy_wait();
    barrier();
    let mut next = Next { found: true, ..Next::NOTHING };
    let mut sums: [Sums<B>; S] = [nothing(); S];
    while unit.number(warp.across()) < warp.run.end {
        // SAFETY: nobody reads another unit's slots and rows any more; all lanes of the warp are here.
        unsafe { warp.prepare_rest(next, &input, &mut mainloop) };
        let following = unit.next(warp.across());
        let there = following.number(warp.across()) < warp.run.end;
        let parity = input.parity;
        next = Next::NOTHING;
        let prepare = |phase, room: bool| {
            if there {
                // SAFETY: nobody reads the other parity's slots, and if there is room, rows; the phases are
                // far enough apart for what has been sent for to be there.
                unsafe {
                    match phase {
                        Phase::Find => warp.find(following),
                        Phase::Learn => {
                            warp_barrier();
                            warp.learn(following, parity ^ 1);
                            next.learned = true;
                        }
                        Phase::Fetch if room => {
                            warp_barrier();
                            warp.fetch(following, parity ^ 1, ALL);
                            warp.fetch_tails(following, parity ^ 1);
                            next.fetched = true;
                        }
                        Phase::Fetch => {}
                    }
                }
            }
            there && following.is_whole(arguments)
        };
        mainloop.unit(&input, prepare, &mut sums);
        // Nobody reads this unit's words any more.
        warp_barrier();
        if following.band != unit.band || !there {
            if !kind.fragments {
                let (start, end) = (unit.band * warp.across(), unit.number(warp.across()) + 1);
                let part = Run { start: start.max(warp.run.start), end };
                let raw_bits = warp.format.raw_bits();
                // SAFETY: the caller's promise.
                unsafe {
                    finish::<B, S>(kind, arguments, raw_bits, unit.band, part, !there, &sums);
                }
            }
            sums = [nothing(); S];
        }
        unit = following;
        input = UnitInput { unit, warp: &warp, parity: parity ^ 1 };
    }
    if !kind.fragments {
        // SAFETY: the caller's promise.
        unsafe { finish_block::<B, S>(kind, arguments, warp.format.raw_bits()) };
    }
}

/// A unit that is ready to be decoded.
pub struct UnitInput<'a, const S: usize> {
    pub unit: Unit<S>,
    warp: &'a Warp<'a>,
    parity: u32,
}

impl<const S: usize> UnitInput<'_, S> {
    /// Tiles beside each other.
    #[inline(always)]
    pub fn across(&self) -> u32 {
        self.warp.across()
    }

    /// Slabs of the unit.
    #[inline(always)]
    pub fn slabs(&self) -> usize {
        self.unit.slabs(self.warp.arguments)
    }

    /// Shape of its tile.
    #[inline(always)]
    pub fn tile_shape(&self) -> TileShape {
        self.unit.tile_shape(self.warp.arguments)
    }

    /// Shape of its slab `s`.
    #[inline(always)]
    pub fn shape(&self, s: usize) -> SlabShape {
        if self.unit.is_whole(self.warp.arguments) {
            SlabShape::WHOLE
        } else {
            self.tile_shape().slab(self.unit.slab() as usize + s)
        }
    }

    /// What is known of its slabs.
    #[inline(always)]
    pub fn slots(&self) -> Slots {
        self.warp.slots::<S>(self.parity)
    }

    /// What is known of the next unit's.
    #[inline(always)]
    pub fn next_slots(&self) -> Slots {
        self.warp.slots::<S>(self.parity ^ 1)
    }

    /// Whether the first half turn takes no words of tail rows.
    #[inline(always)]
    fn starts_full(&self) -> bool {
        let (slots, mut full) = (self.slots(), true);
        unrolled::<S>(
            #[inline(always)]
            // SAFETY: the unit has been learned of.
            |s| full &= unsafe { slots.slab(s) }.starts_full(),
        );
        full
    }

    /// Rows of words that every lane must have taken of each slab before the next unit's may be sent for: then those
    /// that are left are not in their way.
    ///
    /// # Safety
    /// The next unit is there, and has been learned of.
    #[inline(always)]
    pub unsafe fn rows_to_take(&self) -> [u32; S] {
        let (slots, next_slots) = (self.slots(), self.next_slots());
        let mut rows = [0; S];
        unrolled::<S>(
            #[inline(always)]
            |s| {
                // SAFETY: so have the slabs of this one.
                let (slab, next) = unsafe { (slots.slab(s), next_slots.slab(s)) };
                let all = slab.rows() + next.rows();
                rows[s] = all.saturating_sub(self.warp.arguments.buffer_rows);
            },
        );
        rows
    }
}

impl<'a> Warp<'a> {
    #[inline(always)]
    fn new<const B: usize, const S: usize>(kind: Kind, arguments: &'a Arguments) -> Self {
        let partition = partition::<S>(arguments, blocks());
        let (base, zero) = (arguments.base, arguments.zero());
        let format = WeightFormat::new(kind.dtype, kind.table, kind.raw_bits, base, zero);
        let slots_bytes = slabs_bytes(B, kind.grouped) as u32;
        let plane = GroupPlane { zeros: arguments.zero_points() };
        Self {
            arguments,
            format,
            group_bytes: if kind.grouped { plane.bytes() as u32 } else { 0 },
            run: partition.warp(partition.block(block_anew()), warp_anew()),
            ring_bytes: ring_bytes(B, format.raw_bits()) as u32,
            slots_bytes,
            slot_bytes: (slots_bytes - record_bytes(B) as u32) / (2 * S) as u32,
        }
    }

    /// Tiles beside each other.
    #[inline(always)]
    fn across(&self) -> u32 {
        opaque(self.arguments.cols).div_ceil(TILE as u32)
    }

    /// Address of its ring. Addresses are worked out when they are needed: registers are short.
    #[inline(always)]
    fn ring(&self) -> u32 {
        shared_memory() + 4 * TABLE as u32 + warp_anew() * self.ring_bytes
    }

    /// Address of a record, and of what is known of slabs behind it.
    #[inline(always)]
    fn record(&self) -> u32 {
        let rings = shared_memory() + 4 * TABLE as u32 + warps_anew() * self.ring_bytes;
        rings + warp_anew() * self.slots_bytes
    }

    /// Where the words of slab `s` of a unit, `slab`, go. Units take turns: one's rows go up to the end of the
    /// buffer, the next one's down to its start, so that the last rows of one, which are taken last,
    /// are not in the way of the next one's.
    #[inline(always)]
    fn rows<const S: usize>(&self, s: usize, slab: &SlabPayload, parity: u32) -> Rows {
        let warps = warps_anew();
        let buffers =
            shared_memory() + 4 * TABLE as u32 + warps * (self.ring_bytes + self.slots_bytes);
        let (line, number) = (LINE as u32, warp_anew() * S as u32 + s as u32);
        let (start, all) =
            (buffers + number * self.arguments.buffer_rows * line, self.arguments.buffer_rows);
        if parity == 0 {
            Rows { first: start + (slab.rows() - 1) * line, stride: line.wrapping_neg() }
        } else {
            Rows { first: start + (all - slab.rows()) * line, stride: line }
        }
    }

    /// Where it stands what is known of a unit's slabs.
    #[inline(always)]
    fn slots<const S: usize>(&self, parity: u32) -> Slots {
        let stride = self.slot_bytes;
        let slots = self.record() + self.slots_bytes - 2 * S as u32 * stride;
        Slots { at: slots + parity * S as u32 * stride, stride }
    }

    /// Sends for the record of `unit`'s tile.
    ///
    /// # Safety
    /// The unit is one of the run; nobody reads the last record any more.
    #[inline(always)]
    unsafe fn find<const S: usize>(&self, unit: Unit<S>) {
        let entry = self.arguments.index.wrapping_add(unit.tile(self.across()) as usize);
        // SAFETY: the unit is one of the layer.
        unsafe { Record::fetch(entry, self.record()) };
    }

    /// Keeps what the record says of `unit`, and sends for its tail lengths.
    ///
    /// # Safety
    /// The unit has been found, and its record is there; nobody reads slots of this parity.
    #[inline(always)]
    unsafe fn learn<const S: usize>(&self, unit: Unit<S>, parity: u32) {
        let slots = self.slots::<S>(parity);
        // A lane for each slab.
        let s = lane_anew();
        if s < unit.slabs(self.arguments) {
            // SAFETY: the caller's promise.
            let record = unsafe { Record::load(self.record(), unit.slab() + s as u32) };
            let (whole, shape) =
                (unit.is_whole(self.arguments), || unit.tile_shape(self.arguments));
            let (blob, raw_bits) = (self.arguments.blob, self.format.raw_bits());
            let slab = SlabPayload::new(blob, &record, whole, shape, raw_bits, self.group_bytes);
            // SAFETY: the caller's promise.
            unsafe {
                slab.fetch_tail_lengths(self.tail_lengths() + (s * TAIL_LENGTH_BYTES) as u32);
                slab.keep(slots.at(s), self.rows::<S>(s, &slab, parity));
            }
        }
    }

    /// Does what could not be done while the last unit was decoded: of the first unit, everything. It can be decoded
    /// after that, though not all words may be there yet.
    ///
    /// # Safety
    /// Nobody reads slots and rows of the unit's parity; all lanes of the warp are here.
    #[inline(always)]
    unsafe fn prepare_rest<const B: usize, const S: usize>(
        &self,
        next: Next,
        input: &UnitInput<'_, S>,
        mainloop: &mut Mainloop<'_, B, S>,
    ) {
        let UnitInput { unit, parity, .. } = *input;
        // SAFETY: the caller's promise, and each step waits for what it needs.
        unsafe {
            if !next.learned {
                if !next.found {
                    self.find(unit);
                    async_copy_wait();
                    warp_barrier();
                }
                self.learn(unit, parity);
                // All lanes know what is in the slots.
                warp_barrier();
            }
            if !next.fetched {
                self.fetch(unit, parity, FIRST);
            }
            let primed = mainloop.prime(input);
            let mut early = false;
            if !next.fetched {
                self.fetch(unit, parity, OTHERS);
                if primed {
                    // Tail lengths, first rows and the first stage, but not the second one's.
                    async_copy_wait_but::<1>();
                    early = input.starts_full();
                } else {
                    async_copy_wait();
                }
                warp_barrier();
                self.fetch_tails(unit, parity);
                async_copy_commit();
            }
            // Where nothing was left to do, the mainloop has waited.
            if (primed || !next.fetched) && !early {
                async_copy_wait();
                warp_barrier();
            }
        }
    }

    /// Sends for full rows of words of `unit`, from one to another; with the first ones, for exceptions and scales.
    /// A team of lanes for each slab.
    ///
    /// # Safety
    /// The unit has been learned of; nobody reads slots and rows of this parity.
    #[inline(always)]
    unsafe fn fetch<const S: usize>(&self, unit: Unit<S>, parity: u32, rows: [u32; 2]) {
        let lanes = LANES / S;
        let (s, lane) = (lane_anew() / lanes, (lane_anew() % lanes) as u32);
        if s < unit.slabs(self.arguments) {
            let slots = self.slots::<S>(parity);
            // SAFETY: the slab has been learned of; the rest is the caller's promise.
            unsafe {
                let slab = slots.slab(s);
                slab.fetch_full(slots.rows(s), rows, [lane, lanes as u32]);
                if rows[0] == 0 {
                    slab.fetch_exceptions(slots.at(s), lane);
                    slab.fetch_groups(self.group_bytes, slots.groups(s), lane);
                }
            }
        }
    }

    /// Likewise, for tail rows.
    ///
    /// # Safety
    /// As [`Warp::fetch`]; the tail lengths are there; all lanes of the warp are here.
    #[inline(always)]
    unsafe fn fetch_tails<const S: usize>(&self, unit: Unit<S>, parity: u32) {
        let (slots, lengths) = (self.slots::<S>(parity), self.tail_lengths());
        // SAFETY: the slabs have been learned of; the rest is the caller's promise.
        unsafe {
            let length =
                |s| SlabPayload::fetched_tail_length(lengths + (s * TAIL_LENGTH_BYTES) as u32);
            if unit.slabs(self.arguments) == S {
                let slabs: [SlabPayload; S] = core::array::from_fn(|s| slots.slab(s));
                let rows = core::array::from_fn(|s| slots.rows(s));
                SlabPayload::fetch_tails(slabs, rows, core::array::from_fn(length));
            } else {
                SlabPayload::fetch_tails([slots.slab(0)], [slots.rows(0)], [length(0)]);
            }
        }
    }

    /// Where the tail lengths of a unit's slabs go.
    #[inline(always)]
    fn tail_lengths(&self) -> u32 {
        self.record() + size_of::<TileEntry>() as u32
    }
}
