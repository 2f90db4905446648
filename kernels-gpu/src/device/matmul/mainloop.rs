//! Decode, dequantize, multiply: a warp's way through a unit.

use super::activations::Activations;
use super::exceptions::{Exceptions, NONE};
use super::groups::{Groups, Offsets};
use super::ring::{Ring, Source};
use super::sums::{Sums, add, nothing};
use super::warp::{Phase, UnitInput};
use super::{Arguments, Kind};
use crate::device::instructions::{ballot, lane_anew, mma, store_global_4, warp_barrier};
use crate::device::payload::{DeviceMemory, Rows, SlabPayload};
use crate::{Format, Lane, unrolled};
use fused_rans_layout::{
    FRAGMENT, GROUP, LANES, RING_STAGES, SLAB_STRIPS, SLABS, SlabShape, TILE, TileShape,
};

/// Columns of a half turn, in which both strips of two steps are four fragments; slabs are a multiple of two
/// half turns wide.
const HALF: usize = 2 * FRAGMENT;

/// Rows of x, in eights, whose activations of a half turn are in registers at once.
const MOST_AT_ONCE: usize = 2;

/// Half turns of a group.
const GROUP_HALVES: u32 = (GROUP / HALF) as u32;

/// Half turns of a whole slab.
const WHOLE: u32 = (TILE / HALF) as u32;

/// Half turns after which the words that the first one does not take are there, for all lanes.
const SETTLE: u32 = 1;

/// Half turns after which the next unit is prepared. What a phase sends for is copied with the stage that is
/// filled next, and there when two more have been filled; by the last one most of the words have been
/// taken, whose room the next ones take.
const LEARN: u32 = 3;
const FETCH: u32 = WHOLE - 2;

/// What stays the same from unit to unit.
pub struct Mainloop<'a, const B: usize, const S: usize> {
    pub(super) kind: Kind,
    pub(super) arguments: &'a Arguments,
    pub(super) format: Format,
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
    /// Half turns of the unit.
    halves: u32,
    /// Its first column of x.
    col: u32,
}

impl Planes {
    #[inline(always)]
    fn of<const S: usize>(input: &UnitInput<'_, S>, halves: u32) -> Self {
        let raw = input.slab(0).payload.raw();
        let stride = (input.slab(S - 1).payload.raw().addr() - raw.addr()) as u32 / 4;
        Self { raw, stride, halves, col: TILE as u32 * input.unit.col }
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
        let in_tile = self.unit.slab() + s as u32;
        // SAFETY: the unit has been learned of.
        let payload = unsafe { self.slots().slab(s) };
        Slab {
            rows: self.rows(s, &payload),
            payload,
            shape: self.shape(s),
            tile: self.tile_shape(),
            col: self.unit.col,
            in_tile,
            number: self.unit.tile(self.across()) * SLABS as u32 + in_tile,
            slot: self.slots().at(s),
            groups: self.slots().groups(s),
        }
    }
}

impl<'a, const B: usize, const S: usize> Mainloop<'a, B, S> {
    #[inline(always)]
    pub fn new(kind: Kind, arguments: &'a Arguments, format: Format, ring: Ring<B, S>) -> Self {
        let activations = Activations::new(arguments);
        let groups = Groups { kind, arguments, format };
        Self { kind, arguments, format, groups, activations, ring, primed: false }
    }

    /// Half turns of a unit that can be taken by them: whose slabs are coded, have two strips and are a multiple of
    /// four steps wide, without padding columns. It must have been learned of.
    #[inline(always)]
    fn halves(&self, input: &UnitInput<'_, S>) -> Option<u32> {
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
        let cols = self.arguments.cols - TILE as u32 * input.unit.col;
        let even = strips == SLAB_STRIPS && steps % 4 == 0 && cols >= (FRAGMENT * steps) as u32;
        even.then_some(steps as u32 / 2)
    }

    /// Sends for what the first half turns of a unit need, a group of copies for each, and says so, unless it takes
    /// none or that has been done while the last one was decoded.
    #[inline(always)]
    pub fn prime(&mut self, input: &UnitInput<'_, S>) -> bool {
        let Some(halves) = self.halves(input).filter(|_| !self.primed) else { return false };
        self.primed = true;
        let planes = Planes::of(input, halves);
        for number in 0..RING_STAGES - 1 {
            self.fill(&planes, core::ptr::null(), number, number);
        }
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
        if let Some(halves) = self.halves(input) {
            self.half_turns(input, halves, &mut prepare, sums);
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

    /// A unit of `halves` half turns, for which the ring is primed.
    #[inline(always)]
    fn half_turns(
        &mut self,
        input: &UnitInput<'_, S>,
        halves: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        prepare(Phase::Find, false);
        let slabs: [Slab; S] = core::array::from_fn(|s| input.slab(s));
        let memory: [DeviceMemory; S] =
            core::array::from_fn(|s| slabs[s].payload.memory(slabs[s].rows));
        let mut state = State {
            input,
            memory,
            planes: Planes::of(input, halves),
            streams: core::array::from_fn(|s| Lane::new(&memory[s])),
            next_raw: core::ptr::null(),
            exceptions: core::array::from_fn(|s| Exceptions::new(slabs[s].slot)),
            offsets: core::array::from_fn(|s| self.groups.offsets(slabs[s].groups, 0)),
            chunks: [nothing(); S],
        };
        self.primed = false;
        // A narrow unit leaves no time; the next one is prepared when it is done.
        let mut event = SETTLE;
        for number in 0..halves {
            self.half_turn(&mut state, number);
            // What is sent for goes with the stage that is filled next: not after the last half turn.
            if number + 1 == event && event < halves {
                event = self.between(&mut state, event, prepare);
            }
            self.ring.wait();
            if self.kind.grouped && (number + 1) % GROUP_HALVES == 0 && number + 1 < halves {
                unrolled::<S>(
                    #[inline(always)]
                    |s| {
                        let at = input.slots().groups(s);
                        add(&mut sums[s], &mut state.chunks[s], &self.groups.scales(at, 0));
                        state.offsets[s] = self.groups.offsets(at, 1);
                    },
                );
            }
        }
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let number = u32::from(halves > GROUP_HALVES);
                let scales = self.groups.scales(input.slots().groups(s), number);
                add(&mut sums[s], &mut state.chunks[s], &scales);
            },
        );
    }

    /// What is to be done after half turn number `event`; returns the next such number.
    #[inline(always)]
    fn between(
        &mut self,
        state: &mut State<'_, B, S>,
        event: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
    ) -> u32 {
        let input = state.input;
        if event == SETTLE {
            self.ring.wait();
            warp_barrier();
            return LEARN;
        }
        if event == LEARN {
            // The stages of a unit of another size may not be read yet when the next one's are filled.
            if prepare(Phase::Learn, false) && state.planes.halves == WHOLE {
                warp_barrier();
                // SAFETY: it has been learned of.
                let next = unsafe { input.next_slots().slab(0) };
                self.primed = !next.is_raw();
                state.next_raw = if self.primed { next.raw() } else { core::ptr::null() };
            }
            return FETCH;
        }
        // If there is no next unit, it does not matter.
        let mut taken = true;
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let words = state.streams[s].words();
                // SAFETY: the next unit has been learned of.
                let rows = unsafe { input.rows_to_take(s) };
                taken &= state.memory[s].has_taken(words, rows);
            },
        );
        prepare(Phase::Fetch, ballot(taken) == u32::MAX);
        NONE
    }

    /// Sends for what half turn `number` of the unit needs, or, beyond its last, one of the next unit, whose first
    /// raw planes are `next_raw`, to the stage `ahead` of the next one.
    #[inline(always)]
    fn fill(&self, planes: &Planes, next_raw: *const u32, ahead: u32, number: u32) {
        let Planes { raw, stride, halves, col } = *planes;
        // The next tile is the one beside this, or the first of a row.
        let next_col = col + TILE as u32;
        let next_col = if next_col < self.arguments.cols { next_col } else { 0 };
        let (raw, first, number) = if number < halves {
            (raw, col, number)
        } else {
            (next_raw, next_col, number - halves)
        };
        let (turns, col) = (halves / 2, first + HALF as u32 * number);
        let source = Source { raw, stride, turns, number, col };
        // SAFETY: the planes of this unit or of the next one, of as many turns.
        unsafe { self.ring.fill(ahead, source, &self.activations) };
    }

    /// Half turn number `number` of the unit: both strips of two steps.
    #[inline(always)]
    fn half_turn(&mut self, state: &mut State<'_, B, S>, number: u32) {
        let (ahead, number_ahead) = (RING_STAGES - 1, number + RING_STAGES - 1);
        self.fill(&state.planes, state.next_raw, ahead, number_ahead);
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
        if next < first + SLAB_STRIPS as u32 {
            unrolled::<S>(
                #[inline(always)]
                |s| {
                    let offset = state.offsets[s][0][0];
                    let convert =
                        |weights| self.format.operand(self.kind.operand, weights, false, offset);
                    let slot = state.input.slots().at(s);
                    state.exceptions[s].patch(slot, first, &mut operands[s], convert);
                },
            );
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
