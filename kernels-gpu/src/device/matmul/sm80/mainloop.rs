//! Decode, dequantize, multiply: along one segment.

use super::activations::Activations;
use super::memory::Slots;
use super::prefetch::Phase;
use super::ring::{Ring, Source};
use super::segment::SegmentInput;
use crate::device::matmul::shared::exceptions::{Exceptions, NONE, patch};
use crate::device::matmul::shared::groups::{Groups, Offsets};
use crate::device::matmul::shared::sums::{Sums, add, zero};
use crate::device::matmul::{Arguments, Kind};
use crate::device::payload::{DeviceMemory, Rows, SlabPayload};
use crate::device::ptx::{ballot, mma, opaque, reread_lane, store_global_4, warp_barrier};
use crate::{Lane, WeightFormat, unrolled};
use fused_rans_layout::{
    FRAGMENT, GROUP, LANES, RING_STAGES, SLAB_STRIPS, SLABS, SlabShape, TILE, TileShape,
};

/// Columns of a stage: two steps, which with both strips of a slab are four fragments. Two stages are a panel, for
/// which all raw planes have whole words.
const STAGE_COLUMNS: usize = 2 * FRAGMENT;
const PANEL_COLUMNS: usize = 2 * STAGE_COLUMNS;

/// Most octets whose activations of a stage are in registers at once.
const MAX_OCTETS_IN_REGISTERS: usize = 2;

/// Most octets with which the code of a stage is in the kernel twice, once for each stage of a panel.
const MAX_OCTETS_UNROLLED: usize = 2;

/// Panels of a whole slab.
const WHOLE_PANELS: u32 = (TILE / PANEL_COLUMNS) as u32;

/// Panels after which the phases that prepare the next segment are due. What a phase requests is copied with the stage
/// that is filled next, and is there after one panel more. When words are requested, most of this segment's words
/// have been read, so there is room. The second group of weights starts with the first phase.
const LOCATE_AFTER: u32 = 2;
const REQUEST_WORDS_AFTER: u32 = 3;
const _: () =
    assert!(LOCATE_AFTER as usize * PANEL_COLUMNS == GROUP && REQUEST_WORDS_AFTER < WHOLE_PANELS);

/// What stays the same from segment to segment.
pub struct Mainloop<'a, const B: usize, const S: usize> {
    pub(super) kind: Kind,
    pub(super) arguments: &'a Arguments,
    pub(super) format: WeightFormat,
    pub(super) groups: Groups<'a, Arguments>,
    pub(super) activations: Activations<B>,
    ring: Ring<B, S>,
    /// Whether the first stages of the next segment are requested.
    primed: bool,
}

/// The raw planes and columns of x that the ring is filled from along a segment.
#[derive(Clone, Copy)]
struct Planes {
    /// Raw planes of the first slab.
    raw: *const u32,
    /// Words from a slab's raw planes to the next one's.
    stride: u32,
    /// Panels of the segment.
    panels: u32,
    /// Its first column of x.
    col: u32,
}

impl Planes {
    #[inline(always)]
    fn new<const S: usize>(input: &SegmentInput<'_, S>, slots: Slots, panels: u32) -> Self {
        // SAFETY: the segment is located.
        let (raw, last) = unsafe { (slots.slab(0).raw(), slots.slab(S - 1).raw()) };
        let stride = (last.addr() - raw.addr()) as u32 / 4;
        Self { raw, stride, panels, col: TILE as u32 * input.segment.col }
    }

    /// Returns the source of panel `panel` of the segment.
    #[inline(always)]
    fn source(&self, panel: u32) -> Source {
        let Self { raw, stride, panels, col } = *self;
        Source { raw, stride, panels, panel, col: col + PANEL_COLUMNS as u32 * panel }
    }
}

/// What changes along a segment.
struct State<'a, const B: usize, const S: usize> {
    input: &'a SegmentInput<'a, S>,
    memory: [DeviceMemory; S],
    planes: Planes,
    streams: [Lane; S],
    /// Raw planes of the next segment's first slab if the ring is to be primed with them, else null.
    next_raw: *const u32,
    exceptions: [Exceptions; S],
    /// Offsets of the integers, by the zero points of the group.
    offsets: [Offsets; S],
    /// Partial sums of the group, or of the slab: short chains of additions in the tensor cores, which truncate.
    partials: [Sums<B>; S],
}

/// A slab of a segment, for the path that takes any slab.
pub struct Slab {
    pub payload: SlabPayload,
    pub shape: SlabShape,
    pub tile: TileShape,
    /// Column of the tile.
    pub col: u32,
    /// Number of the slab in the tile.
    pub in_tile: u32,
    /// Number of the slab in the layer.
    pub number: u32,
    pub rows: Rows,
    /// Address of its slot.
    pub slot: u32,
    /// Address of its scales.
    pub groups: u32,
}

impl<const S: usize> SegmentInput<'_, S> {
    #[inline(always)]
    fn slab(&self, s: usize) -> Slab {
        let (in_tile, slots) = (self.segment.slab() + s as u32, self.slots());
        // SAFETY: the segment is located.
        let (payload, rows) = unsafe { (slots.slab(s), slots.rows(s)) };
        Slab {
            rows,
            payload,
            shape: self.shape(s),
            tile: self.tile_shape(),
            col: self.segment.col,
            in_tile,
            number: self.segment.tile(self.across()) * SLABS as u32 + in_tile,
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

    /// Returns the number of panels of a segment that can be decoded by panels: its slabs are coded, have two strips, and
    /// are a multiple of four steps wide without padding columns. The segment must be located.
    #[inline(always)]
    fn panels(&self, input: &SegmentInput<'_, S>) -> Option<u32> {
        // SAFETY: it is located.
        if !self.arguments.x_is_aligned() || unsafe { input.slots().slab(0) }.is_raw() {
            return None;
        }
        if input.segment.is_whole(self.arguments) {
            return Some(WHOLE_PANELS);
        }
        if input.slabs() < S {
            return None;
        }
        let SlabShape { strips, steps } = input.shape(S - 1);
        let cols = opaque(self.arguments.cols) - TILE as u32 * input.segment.col;
        let even = strips == SLAB_STRIPS && steps % 4 == 0 && cols >= (FRAGMENT * steps) as u32;
        even.then_some(steps as u32 / 4)
    }

    /// Requests the first panel of a segment, one group of copies for each stage, and returns true. Does nothing if the
    /// segment is not decoded by panels, or if this was done while the last segment was decoded.
    #[inline(always)]
    pub fn prime(&mut self, input: &SegmentInput<'_, S>) -> bool {
        let Some(panels) = self.panels(input).filter(|_| !self.primed) else { return false };
        self.primed = true;
        let planes = Planes::new(input, input.slots(), panels);
        self.fill(&planes.source(0), 0, 0);
        self.fill(&planes.source(0), 1, 1);
        true
    }

    /// Adds the products of a segment to `sums`. On the way, `prepare` does the phases that prepare the next segment: the
    /// last one only if it is told that there is room. It returns whether there is a next segment, of a whole tile.
    #[inline(always)]
    pub fn segment(
        &mut self,
        input: &SegmentInput<'_, S>,
        mut prepare: impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        if let Some(panels) = self.panels(input) {
            self.by_panels(input, panels, &mut prepare, sums);
        } else {
            self.by_slabs(input, sums);
        }
    }

    /// Takes any segment, slab by slab.
    #[inline(always)]
    fn by_slabs(&self, input: &SegmentInput<'_, S>, sums: &mut [Sums<B>; S]) {
        if S == 1 {
            return self.by_fragments(&input.slab(0), &mut sums[0]);
        }
        // A loop, because the slow path need not be in the kernel twice.
        for s in 0..input.slabs() {
            let mut slab_sums = zero();
            self.by_fragments(&input.slab(s), &mut slab_sums);
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

    /// Takes a segment of `panels` panels, for which the ring is primed.
    #[inline(always)]
    fn by_panels(
        &mut self,
        input: &SegmentInput<'_, S>,
        panels: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        prepare(Phase::RequestRecord, false);
        let mut state = self.start(input, panels);
        self.primed = false;
        for panel in 0..panels {
            let source = self.source(&state, panel + 1);
            if B > MAX_OCTETS_UNROLLED {
                let mut half = 0;
                while half < 2 {
                    self.stage(&mut state, &source, 2 * panel, half);
                    half = opaque(half + 1);
                }
            } else {
                self.stage(&mut state, &source, 2 * panel, 0);
                self.stage(&mut state, &source, 2 * panel, 1);
            }
            // Requests go with the stage that is filled next, so there are none after the last panel. A narrow segment
            // leaves no time: the next one is prepared when it is done.
            if panel + 1 >= LOCATE_AFTER && panel + 1 < panels {
                self.between(&mut state, panel + 1, prepare, sums);
            }
        }
        let slots = input.slots();
        unrolled::<S>(
            #[inline(always)]
            |s| {
                let group = u32::from(panels > LOCATE_AFTER);
                let scales = self.groups.scales(slots.groups(s), group);
                add(&mut sums[s], &mut state.partials[s], &scales);
            },
        );
    }

    /// Returns the state in front of a segment's first panel.
    #[inline(always)]
    fn start<'b>(&self, input: &'b SegmentInput<'b, S>, panels: u32) -> State<'b, B, S> {
        let slots = input.slots();
        // SAFETY: the segment is located.
        let memory: [DeviceMemory; S] = unsafe {
            // The stride of all of them.
            let Rows { stride, .. } = slots.rows(0);
            core::array::from_fn(|s| slots.slab(s).memory(Rows { stride, ..slots.rows(s) }))
        };
        State {
            input,
            memory,
            planes: Planes::new(input, slots, panels),
            streams: core::array::from_fn(|s| Lane::new(&memory[s])),
            next_raw: core::ptr::null(),
            exceptions: core::array::from_fn(|s| match self.kind.grouped {
                true => Exceptions::NONE,
                false => Exceptions::new(slots.at(s)),
            }),
            offsets: core::array::from_fn(|s| self.groups.offsets(slots.groups(s), 0)),
            partials: [zero(); S],
        }
    }

    /// Does what is due after `panels` panels: [`LOCATE_AFTER`] or [`REQUEST_WORDS_AFTER`].
    #[inline(always)]
    fn between(
        &mut self,
        state: &mut State<'_, B, S>,
        panels: u32,
        prepare: &mut impl FnMut(Phase, bool) -> bool,
        sums: &mut [Sums<B>; S],
    ) {
        let input = state.input;
        if panels == LOCATE_AFTER {
            if self.kind.grouped {
                let slots = input.slots();
                unrolled::<S>(
                    #[inline(always)]
                    |s| {
                        let at = slots.groups(s);
                        add(&mut sums[s], &mut state.partials[s], &self.groups.scales(at, 0));
                        state.offsets[s] = self.groups.offsets(at, 1);
                    },
                );
            }
            // The stages of a segment of another size may still be read when the next one's would be filled.
            if prepare(Phase::Locate, false) && state.planes.panels == WHOLE_PANELS {
                warp_barrier();
                // SAFETY: it is located.
                let next = unsafe { input.next_slots().slab(0) };
                self.primed = !next.is_raw();
                state.next_raw = if self.primed { next.raw() } else { core::ptr::null() };
            }
            return;
        }
        // Without a next segment this does not matter.
        let mut taken = true;
        // SAFETY: this segment and the next one are located.
        unsafe {
            let (slots, rows) = (input.slots(), input.rows_to_take());
            unrolled::<S>(
                #[inline(always)]
                |s| taken &= slots.rows(s).has_taken(state.streams[s].words(), rows[s]),
            );
        }
        prepare(Phase::RequestWords, ballot(taken) == u32::MAX);
    }

    /// Returns the source of panel `panel` of the segment, or beyond its last, of the next segment's first panel.
    #[inline(always)]
    fn source(&self, state: &State<'_, B, S>, panel: u32) -> Source {
        let source = state.planes.source(panel);
        if panel < state.planes.panels {
            return source;
        }
        // The next tile is the one beside this one, or the first of a row of tiles.
        let next_col = state.planes.col + TILE as u32;
        let col = if next_col < self.arguments.cols { next_col } else { 0 };
        Source { raw: state.next_raw, panel: 0, col, ..source }
    }

    /// Requests half `half` of the panel that `source` says, for the stage `ahead` of the next one.
    #[inline(always)]
    fn fill(&self, source: &Source, half: u32, ahead: u32) {
        // SAFETY: the planes of this segment or of the next one, which has as many panels.
        unsafe { self.ring.fill(ahead, source, half, &self.activations) };
    }

    /// Takes stage number `first + half` of the segment: both strips of two steps. `ahead` is the source of the next
    /// panel.
    #[inline(always)]
    fn stage(&mut self, state: &mut State<'_, B, S>, ahead: &Source, first: u32, half: u32) {
        let number = first + half;
        self.fill(ahead, half, RING_STAGES - 1);
        if B > MAX_OCTETS_IN_REGISTERS {
            self.step::<0>(state, number, |octet| self.ring.activations_of_step::<0>(octet));
            self.step::<1>(state, number, |octet| self.ring.activations_of_step::<1>(octet));
        } else {
            let mut x = [[0; 4]; B];
            unrolled::<B>(
                #[inline(always)]
                |octet| x[octet] = self.ring.activations(octet),
            );
            self.step::<0>(state, number, |octet| [x[octet][0], x[octet][1]]);
            self.step::<1>(state, number, |octet| [x[octet][2], x[octet][3]]);
        }
        self.ring.next();
        self.ring.wait();
        // What has arrived is visible to all lanes: words that the first stage does not read, slots of the next segment.
        warp_barrier();
    }

    /// Takes step `STEP` of stage number `number`. `x` returns b0 and b1 of an octet.
    #[inline(always)]
    fn step<const STEP: usize>(
        &self,
        state: &mut State<'_, B, S>,
        number: u32,
        x: impl Fn(usize) -> [u32; 2],
    ) {
        let first = (4 * number) + (SLAB_STRIPS * STEP) as u32;
        let mut operands = self.decode::<STEP>(state);
        self.patch(state, first, &mut operands);
        if self.kind.fragments {
            for (s, operands) in operands.into_iter().enumerate() {
                for (i, operands) in operands.into_iter().enumerate() {
                    let slab = state.input.slab(s).number;
                    // SAFETY: y has room for all fragments.
                    unsafe { self.write_fragment(slab, first + i as u32, operands) };
                }
            }
            return;
        }
        unrolled::<B>(
            #[inline(always)]
            |octet| {
                let x = x(octet);
                unrolled::<SLAB_STRIPS>(
                    #[inline(always)]
                    |i| {
                        unrolled::<S>(
                            #[inline(always)]
                            |s| {
                                let sums = &mut state.partials[s][i][octet];
                                *sums = mma(self.kind.mma_type, operands[s][i], x, *sums);
                            },
                        );
                    },
                );
            },
        );
    }

    /// Decodes the A fragments of a step: both strips of all slabs.
    #[inline(always)]
    fn decode<const STEP: usize>(
        &self,
        state: &mut State<'_, B, S>,
    ) -> [[[u32; 4]; SLAB_STRIPS]; S] {
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
                        let (mma_type, number) = (self.kind.mma_type, SLAB_STRIPS * STEP + i);
                        let offsets = state.offsets[s][i];
                        operands[s][i] =
                            self.format.operands(mma_type, entries[s], &raw[s], number, offsets);
                    },
                );
            },
        );
        operands
    }

    /// Puts the exceptions of a step, whose first fragment has number `first`, in their places.
    #[inline(always)]
    fn patch(
        &self,
        state: &mut State<'_, B, S>,
        first: u32,
        operands: &mut [[[u32; 4]; SLAB_STRIPS]; S],
    ) {
        // Few steps have exceptions; layers with groups have none.
        let next = state.exceptions.iter().fold(NONE, |next, slab| next.min(slab.fragment));
        if !self.kind.grouped && next < first + SLAB_STRIPS as u32 {
            // Integers with a zero point have no exceptions.
            let (mma_type, offset) = (self.kind.mma_type, state.offsets[0][0][0]);
            let convert = |weights| self.format.exception(mma_type, weights, offset);
            let slots = state.input.slots();
            let at = core::array::from_fn(|s| slots.at(s));
            patch(&mut state.exceptions, at, first, operands, convert);
        }
    }

    /// Writes an A fragment of slab `slab` to y.
    ///
    /// # Safety
    /// y has room for all fragments.
    #[inline(always)]
    pub(super) unsafe fn write_fragment(&self, slab: u32, number: u32, operands: [u32; 4]) {
        let fragments = SlabShape::WHOLE.fragments();
        let at = (slab as usize * fragments + number as usize) * LANES + reread_lane();
        // SAFETY: the caller's promise.
        unsafe { store_global_4(self.arguments.y.add(16 * at), operands) };
    }
}
