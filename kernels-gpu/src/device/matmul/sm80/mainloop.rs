//! Decode, dequantize, multiply: a warp's way through a unit.

use super::activations::Activations;
use super::ring::{Ring, Source};
use super::run::{Phase, Slots, UnitInput};
use crate::device::matmul::shared::exceptions::{Exceptions, NONE, patch};
use crate::device::matmul::shared::groups::{Groups, Offsets};
use crate::device::matmul::shared::sums::{Sums, add, nothing};
use crate::device::matmul::{Arguments, Kind};
use crate::device::payload::{DeviceMemory, Rows, SlabPayload};
use crate::device::ptx::{ballot, lane_anew, mma, opaque, store_global_4, warp_barrier};
use crate::{Lane, WeightFormat, unrolled};
use fused_rans_layout::{
    FRAGMENT, GROUP, LANES, RING_STAGES, SLAB_STRIPS, SLABS, SlabShape, TILE, TileShape,
};

/// Columns of a half turn, in which both strips of two steps are four fragments. Two are a turn, for which all
/// planes have whole words.
const HALF: usize = 2 * FRAGMENT;

/// Rows of x, in eights, whose activations of a half turn are in registers at once.
const MOST_AT_ONCE: usize = 2;

/// Rows of x, in eights, with which both halves of a turn stand in the kernel.
const MOST_UNROLLED: usize = 2;

/// Turns of a whole slab.
const WHOLE: u32 = (TILE / (2 * HALF)) as u32;

/// Turns after which the next unit is prepared. What a phase sends for is copied with the stage that is filled
/// next, and there after the turn; by the last one most of the words have been taken, whose room the next
/// ones take. The first of them is also where the second group starts.
const LEARN: u32 = 2;
const FETCH: u32 = 3;
const _: () = assert!(LEARN as usize * 2 * HALF == GROUP && FETCH < WHOLE);

/// What stays the same from unit to unit.
pub struct Mainloop<'a, const B: usize, const S: usize> {
    pub(super) kind: Kind,
    pub(super) arguments: &'a Arguments,
    pub(super) format: WeightFormat,
    pub(super) groups: Groups<'a>,
    pub(super) activations: Activations<B>,
    ring: Ring<B, S>,
    /// Whether the ring holds the start of the next unit.
    primed: bool,
}

/// What the ring is filled from along a unit.
#[derive(Clone, Copy)]
struct Planes {
    /// Raw planes of the first slab, and words from there to the next one's.
    raw: *const u32,
    stride: u32,
    /// Turns of the unit.
    turns: u32,
    /// Its first column of x.
    col: u32,
}

impl Planes {
    /// What turn `turn` of the unit needs.
    #[inline(always)]
    fn source(&self, turn: u32) -> Source {
        let Self { raw, stride, turns, col } = *self;
        Source { raw, stride, turns, turn, col: col + 2 * HALF as u32 * turn }
    }

    #[inline(always)]
    fn of<const S: usize>(input: &UnitInput<'_, S>, slots: Slots, turns: u32) -> Self {
        // SAFETY: the unit has been learned of.
        let (raw, last) = unsafe { (slots.slab(0).raw(), slots.slab(S - 1).raw()) };
        let stride = (last.addr() - raw.addr()) as u32 / 4;
        Self { raw, stride, turns, col: TILE as u32 * input.unit.col }
    }
}

/// What changes along a unit.
struct State<'a, const B: usize, const S: usize> {
    input: &'a UnitInput<'a, S>,
    memory: [DeviceMemory; S],
    planes: Planes,
    streams: [Lane; S],
    /// Raw planes of the next unit's first slab, if the ring is to be primed with them, else null.
    next_raw: *const u32,
    exceptions: [Exceptions; S],
    /// Zero points of the group.
    offsets: [Offsets; S],
    /// Sums of the group, or of the slab: chains in the tensor cores, which truncate, stay short.
    chunks: [Sums<B>; S],
}

/// A slab of a unit.
pub struct Slab {
    pub payload: SlabPayload,
    pub shape: SlabShape,
    pub tile: TileShape,
    /// Column of the tile.
    pub col: u32,
    /// Number of the slab in the tile, and in the layer.
    pub in_tile: u32,
    pub number: u32,
    pub rows: Rows,
    /// Addresses of what is known of it, and of its scales.
    pub slot: u32,
    pub groups: u32,
}

impl<const S: usize> UnitInput<'_, S> {
    #[inline(always)]
    fn slab(&self, s: usize) -> Slab {
        let (in_tile, slots) = (self.unit.slab() + s as u32, self.slots());
        // SAFETY: the unit has been learned of.
        let (payload, rows) = unsafe { (slots.slab(s), slots.rows(s)) };
        Slab {
            rows,
            payload,
            shape: self.shape(s),
            tile: self.tile_shape(),
            col: self.unit.col,
            in_tile,
            number: self.unit.tile(self.across()) * SLABS as u32 + in_tile,
            slot: slots.at(s),
            groups: slots.groups(s),
        }
    }
}

impl<'a, const B: usize, const S: usize> Mainloop<'a, B, S> {
    #[inline(always)]
    pub fn new(
        kind: Kind,
        arguments: &'a Arguments,
        format: WeightFormat,
        ring: Ring<B, S>,
    ) -> Self {
        let activations = Activations::new(arguments);
        let groups = Groups { kind, arguments, format };
        Self { kind, arguments, format, groups, activations, ring, primed: false }
    }

    /// Turns of a unit that can be taken by them: whose slabs are coded, have two strips and are a multiple of four
    /// steps wide, without padding columns. It must have been learned of.
    #[inline(always)]
    fn turns(&self, input: &UnitInput<'_, S>) -> Option<u32> {
        // SAFETY: it has been learned of.
        if !self.arguments.aligned_x() || unsafe { input.slots().slab(0) }.is_raw() {
            return None;
        }
        if input.unit.is_whole(self.arguments) {
            return Some(WHOLE);
        }
        if input.slabs() < S {
            return None;
        }
        let SlabShape { strips, steps } = input.shape(S - 1);
        let cols = opaque(self.arguments.cols) - TILE as u32 * input.unit.col;
        let even = strips == SLAB_STRIPS && steps % 4 == 0 && cols >= (FRAGMENT * steps) as u32;
        even.then_some(steps as u32 / 4)
    }

    /// Sends for what the first turn of a unit needs, a group of copies for each half, and says so, unless it takes
    /// none or that has been done while the last one was decoded.
    #[inline(always)]
    pub fn prime(&mut self, input: &UnitInput<'_, S>) -> bool {
        let Some(turns) = self.turns(input).filter(|_| !self.primed) else { return false };
        self.primed = true;
        let planes = Planes::of(input, input.slots(), turns);
        self.fill(&planes.source(0), 0, 0);
        self.fill(&planes.source(0), 1, 1);
        true
    }

    /// Adds the products of a unit to `sums`. The next one is prepared on the way: `prepare` does a phase, the last
    /// one only if told that there is room, and says whether there is a next one, of a whole tile.
    #[inline(always)]
    pub fn unit(
        &mut self,
        input: &UnitInput<'_, S>,
        mut prepare: impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        if let Some(turns) = self.turns(input) {
            self.take_turns(input, turns, &mut prepare, sums);
        } else {
            self.slabs(input, sums);
        }
    }

    /// Any unit, slab by slab.
    #[inline(always)]
    fn slabs(&self, input: &UnitInput<'_, S>, sums: &mut [Sums<B>; S]) {
        if S == 1 {
            return self.fragments(&input.slab(0), &mut sums[0]);
        }
        // The slow way need not stand in the kernel twice.
        for s in 0..input.slabs() {
            let mut slab_sums = nothing();
            self.fragments(&input.slab(s), &mut slab_sums);
            unrolled::<S>(
                #[inline(always)]
                |i| {
                    if i == s {
                        add(&mut sums[i], &mut slab_sums, &[[1.0; 2]; SLAB_STRIPS]);
                    }
                },
            );
        }
    }

    /// A unit of `turns` turns, for which the ring is primed.
    #[inline(always)]
    fn take_turns(
        &mut self,
        input: &UnitInput<'_, S>,
        turns: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        prepare(Phase::Find, false);
        let slots = input.slots();
        // SAFETY: the unit has been learned of.
        let memory: [DeviceMemory; S] = unsafe {
            // That of all of them.
            let Rows { stride, .. } = slots.rows(0);
            core::array::from_fn(|s| slots.slab(s).memory(Rows { stride, ..slots.rows(s) }))
        };
        let mut state = State {
            input,
            memory,
            planes: Planes::of(input, slots, turns),
            streams: core::array::from_fn(|s| Lane::new(&memory[s])),
            next_raw: core::ptr::null(),
            exceptions: core::array::from_fn(|s| match self.kind.grouped {
                true => Exceptions::NONE,
                false => Exceptions::new(slots.at(s)),
            }),
            offsets: core::array::from_fn(|s| self.groups.offsets(slots.groups(s), 0)),
            chunks: [nothing(); S],
        };
        self.primed = false;
        for turn in 0..turns {
            let source = self.source(&state, turn + 1);
            if B > MOST_UNROLLED {
                let mut half = 0;
                while half < 2 {
                    self.half_turn(&mut state, &source, 2 * turn, half);
                    half = opaque(half + 1);
                }
            } else {
                self.half_turn(&mut state, &source, 2 * turn, 0);
                self.half_turn(&mut state, &source, 2 * turn, 1);
            }
            // What is sent for goes with the stage that is filled next: not after the last turn. A narrow unit leaves
            // no time; the next one is prepared when it is done.
            if turn + 1 >= LEARN && turn + 1 < turns {
                self.between(&mut state, turn + 1, prepare, sums);
            }
        }
        let slots = input.slots();
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let scales = self.groups.scales(slots.groups(s), u32::from(turns > LEARN));
                add(&mut sums[s], &mut state.chunks[s], &scales);
            },
        );
    }

    /// What is to be done after `turns` turns: [`LEARN`] or [`FETCH`].
    #[inline(always)]
    fn between(
        &mut self,
        state: &mut State<'_, B, S>,
        turns: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        let input = state.input;
        if turns == LEARN {
            if self.kind.grouped {
                let slots = input.slots();
                unrolled::<S>(
                    #[inline(always)]
                    |s| {
                        let at = slots.groups(s);
                        add(&mut sums[s], &mut state.chunks[s], &self.groups.scales(at, 0));
                        state.offsets[s] = self.groups.offsets(at, 1);
                    },
                );
            }
            // The stages of a unit of another size may not be read yet when the next one's are filled.
            if prepare(Phase::Learn, false) && state.planes.turns == WHOLE {
                warp_barrier();
                // SAFETY: it has been learned of.
                let next = unsafe { input.next_slots().slab(0) };
                self.primed = !next.is_raw();
                state.next_raw = if self.primed { next.raw() } else { core::ptr::null() };
            }
            return;
        }
        // If there is no next unit, it does not matter.
        let mut taken = true;
        // SAFETY: this unit and the next one have been learned of.
        unsafe {
            let (slots, rows) = (input.slots(), input.rows_to_take());
            unrolled::<S>(
                #[inline(always)]
                |s| taken &= slots.rows(s).has_taken(state.streams[s].words(), rows[s]),
            );
        }
        prepare(Phase::Fetch, ballot(taken) == u32::MAX);
    }

    /// What turn `turn` of the unit needs, or, beyond its last, the first one of the next unit.
    #[inline(always)]
    fn source(&self, state: &State<'_, B, S>, turn: u32) -> Source {
        let source = state.planes.source(turn);
        if turn < state.planes.turns {
            return source;
        }
        // The next tile is the one beside this, or the first of a row.
        let next_col = state.planes.col + TILE as u32;
        let col = if next_col < self.arguments.cols { next_col } else { 0 };
        Source { raw: state.next_raw, turn: 0, col, ..source }
    }

    /// Sends for half `half` of what `source` says, to the stage `ahead` of the next one.
    #[inline(always)]
    fn fill(&self, source: &Source, half: u32, ahead: u32) {
        // SAFETY: the planes of this unit or of the next one, of as many turns.
        unsafe { self.ring.fill(ahead, source, half, &self.activations) };
    }

    /// Half turn number `first + half` of the unit: both strips of two steps. `ahead` is the source of the next turn.
    #[inline(always)]
    fn half_turn(&mut self, state: &mut State<'_, B, S>, ahead: &Source, first: u32, half: u32) {
        let number = first + half;
        self.fill(ahead, half, RING_STAGES - 1);
        if B > MOST_AT_ONCE {
            self.step::<0>(state, number, |tile| self.ring.activations_of_step::<0>(tile));
            self.step::<1>(state, number, |tile| self.ring.activations_of_step::<1>(tile));
        } else {
            let mut x = [[0; 4]; B];
            unrolled::<B>(
                #[inline(always)]
                |tile| x[tile] = self.ring.activations(tile),
            );
            self.step::<0>(state, number, |tile| [x[tile][0], x[tile][1]]);
            self.step::<1>(state, number, |tile| [x[tile][2], x[tile][3]]);
        }
        self.ring.next();
        self.ring.wait();
        // What has come is there for all lanes: words that the first half turn does not take, what is known of the
        // next unit.
        warp_barrier();
    }

    /// Step `STEP` of half turn number `number`. `x` gives b0 and b1 of 8 rows of x.
    #[inline(always)]
    fn step<const STEP: usize>(
        &self,
        state: &mut State<'_, B, S>,
        number: u32,
        x: impl Fn(usize) -> [u32; 2],
    ) {
        let raw = self.ring.raw::<STEP>();
        let mut operands = [[[0; 4]; SLAB_STRIPS]; S];
        unrolled::<SLAB_STRIPS>(
            #[inline(always)]
            |i| {
                let table = self.format.table();
                let entries = Lane::fragments(&mut state.streams, &state.memory, table);
                unrolled::<S>(
                    #[inline(always)]
                    |s| {
                        let (operand, number) = (self.kind.operand, SLAB_STRIPS * STEP + i);
                        let offsets = state.offsets[s][i];
                        operands[s][i] =
                            self.format.operands(operand, entries[s], &raw[s], number, offsets);
                    },
                );
            },
        );
        let first = (4 * number) + (SLAB_STRIPS * STEP) as u32;
        // Few have exceptions; and where there are groups, there are none.
        let next = state.exceptions.iter().fold(NONE, |next, slab| next.min(slab.fragment));
        if !self.kind.grouped && next < first + SLAB_STRIPS as u32 {
            // Integers with a zero point have no exceptions.
            let (operand, offset) = (self.kind.operand, state.offsets[0][0][0]);
            let convert = |weights| self.format.exception(operand, weights, offset);
            let slots = state.input.slots();
            let at = core::array::from_fn(|s| slots.at(s));
            patch(&mut state.exceptions, at, first, &mut operands, convert);
        }
        if self.kind.fragments {
            for (s, operands) in operands.into_iter().enumerate() {
                for (i, operands) in operands.into_iter().enumerate() {
                    let slab = state.input.slab(s).number;
                    // SAFETY: as the kernels'.
                    unsafe { self.write_fragment(slab, first + i as u32, operands) };
                }
            }
            return;
        }
        unrolled::<B>(
            #[inline(always)]
            |tile| {
                let x = x(tile);
                unrolled::<SLAB_STRIPS>(
                    #[inline(always)]
                    |i| {
                        unrolled::<S>(
                            #[inline(always)]
                            |s| {
                                let sums = &mut state.chunks[s][i][tile];
                                *sums = mma(self.kind.operand, operands[s][i], x, *sums);
                            },
                        );
                    },
                );
            },
        );
    }

    /// # Safety
    /// y has room for all fragments.
    #[inline(always)]
    pub(super) unsafe fn write_fragment(&self, slab: u32, number: u32, operands: [u32; 4]) {
        let fragments = SlabShape::WHOLE.fragments();
        let at = (slab as usize * fragments + number as usize) * LANES + lane_anew();
        // SAFETY: the caller's promise.
        unsafe { store_global_4(self.arguments.y.add(16 * at), operands) };
    }
}
