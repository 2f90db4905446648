//! Decode, dequantize, multiply: a warp's way through a slab.

use super::activations::Activations;
use super::ring::{Ring, Source};
use super::sums::{RowScales, SharedSums, Sums, nothing};
use super::warp::{Phase, SlabInput, Tile};
use super::{Arguments, Kind};
use crate::device::instructions::{
    async_copy_wait, async_copy_wait_but, f16_to_f32, lane, load_global, mma, store_global_4,
};
use crate::device::payload::{DeviceMemory, SlabPayload};
use crate::device::unrolled;
use crate::slab::load_raw_of_fragment;
use crate::{Format, IntegerOffset, Lane, RawWords};
use fused_rans_layout::{
    Dtype, FRAGMENT, GROUP, GROUPS, GroupPlane, LANES, Place, RING_STAGES, SLAB_STRIPS, SlabShape,
    TILE, TileEntry, matrix_column, register_position, ring_has_activations,
};

/// Columns that the loop takes in a turn: four steps, so 8 fragments.
const TURN: usize = 4 * FRAGMENT;

/// And those of half a turn, in which both strips of two steps are four fragments.
const HALF: usize = TURN / 2;

/// Turns of a whole slab.
const WHOLE_TURNS: u32 = (TILE / TURN) as u32;

/// Above any fragment's number.
const NONE: u32 = 1 << 31;

/// What stays the same from slab to slab.
pub struct Mainloop<'a, const B: usize, const WIDE: bool> {
    kind: Kind,
    arguments: &'a Arguments,
    format: Format,
    activations: Activations<B>,
    ring: Ring<B>,
    /// Whether the ring holds the start of the next slab.
    primed: bool,
}

/// A group's scales and zero points, as a lane needs them: of rows g and g + 8 of both strips.
#[derive(Clone, Copy)]
struct Group {
    scales: RowScales,
    offsets: [[IntegerOffset; 2]; SLAB_STRIPS],
}

/// The exceptions of a slab, in the order of its fragments.
struct Exceptions {
    /// Where the one after the next is.
    after: *const u32,
    /// How many there are from there on.
    left: u32,
    /// The next one.
    record: u32,
    /// Its fragment.
    fragment: u32,
}

impl Exceptions {
    #[inline(always)]
    fn new(payload: &SlabPayload) -> Self {
        let (after, left) = payload.exceptions();
        let mut exceptions = Self { after, left, record: 0, fragment: NONE };
        exceptions.load();
        exceptions
    }

    #[inline(always)]
    fn load(&mut self) {
        self.fragment = NONE;
        if self.left > 0 {
            // SAFETY: there are as many.
            [self.record] = unsafe { load_global(self.after) };
            self.fragment = self.record >> 27;
            self.after = self.after.wrapping_add(1);
            self.left -= 1;
        }
    }

    /// Puts the exceptions among the operands of `N` fragments from number `first` on.
    #[inline(always)]
    fn patch<const N: usize>(
        &mut self,
        first: u32,
        operands: &mut [[u32; 4]; N],
        convert: impl Fn(u32) -> u32,
    ) {
        while self.fragment < first + N as u32 {
            let (place, weight) = TileEntry::exception_fields(self.record);
            let weights = convert(u32::from(weight) * 0x0001_0001);
            let mask = if place.lane == lane() { 0xFFFF << (16 * place.half) } else { 0 };
            let at = 4 * (self.fragment - first) + place.register as u32;
            unrolled::<N>(
                #[inline(always)]
                |fragment| {
                    unrolled::<4>(
                        #[inline(always)]
                        |register| {
                            let here = at == (4 * fragment + register) as u32;
                            let mask = if here { mask } else { 0 };
                            let operand = &mut operands[fragment][register];
                            *operand = *operand & !mask | weights & mask;
                        },
                    );
                },
            );
            self.load();
        }
    }
}

/// What changes along a slab.
struct State<'a, const B: usize> {
    slab: &'a SlabInput<'a>,
    memory: DeviceMemory,
    stream: Lane,
    /// Turns of the slab.
    turns: u32,
    /// Raw planes of the next slab, if the ring is to be primed with them, else null.
    next_raw: *const u32,
    /// Its first column in the matrix.
    first_col: u32,
    exceptions: Exceptions,
    group: Group,
    /// Sums of the group, or of the slab: chains in the tensor cores, which truncate, stay short.
    chunk: Sums<B>,
}

impl<'a, const B: usize, const WIDE: bool> Mainloop<'a, B, WIDE> {
    #[inline(always)]
    pub fn new(kind: Kind, arguments: &'a Arguments, format: Format, ring: Ring<B>) -> Self {
        let activations = Activations::new(arguments);
        Self { kind, arguments, format, activations, ring, primed: false }
    }

    /// Sends for the first raw words of a slab of a whole tile, whose raw planes are at `raw`.
    #[inline(always)]
    pub fn prime(&mut self, raw: *const u32, tile: Tile) {
        self.primed = self.arguments.aligned_x();
        if self.primed {
            let first = TILE as u32 * tile.col;
            for number in 0..RING_STAGES - 1 {
                let col = first + HALF as u32 * number;
                let source = Source { raw, turns: WHOLE_TURNS, number, col };
                // SAFETY: whole slabs have more half turns; nothing is in the ring.
                unsafe { self.ring.fill(source, &self.activations, self.arguments) };
            }
        }
    }

    /// Waits for the words of the next slab. Where the ring is primed, its last two stages have been sent for
    /// after them, and need not be waited for.
    #[inline(always)]
    pub fn wait_for_words(&self) {
        if self.primed {
            async_copy_wait_but::<2>();
        } else {
            async_copy_wait();
        }
    }

    /// In place of [`Mainloop::slab`] where a tile lacks the warp's slab.
    #[inline(always)]
    pub fn nothing(&mut self) {
        self.primed = false;
    }

    /// Adds the products of a slab to `sums`. The next one is prepared on the way; `prepare` returns its raw planes
    /// as soon as they are known, if it is one of a whole tile.
    #[inline(always)]
    pub fn slab(
        &mut self,
        slab: &SlabInput<'_>,
        mut prepare: impl FnMut(Phase) -> Option<*const u32>,
        sums: SharedSums<B>,
    ) {
        let steps = slab.shape.steps;
        let cols = self.arguments.cols - TILE as u32 * slab.tile.col;
        let even = slab.shape.strips == SLAB_STRIPS && steps % 4 == 0;
        let plain = self.arguments.aligned_x() && !slab.payload.is_raw();
        if plain && even && cols >= (FRAGMENT * steps) as u32 {
            self.turns(slab, &mut prepare, sums);
        } else {
            prepare(Phase::Find);
            prepare(Phase::Learn);
            prepare(Phase::Fetch);
            self.primed = false;
            self.fragments(slab, sums);
        }
    }

    /// A slab of two strips, a multiple of four steps wide, without padding columns.
    #[inline(always)]
    fn turns(
        &mut self,
        slab: &SlabInput<'_>,
        prepare: &mut impl FnMut(Phase) -> Option<*const u32>,
        sums: SharedSums<B>,
    ) {
        let memory = slab.payload.memory(slab.memory_rows);
        let turns = slab.shape.steps as u32 / 4;
        let first_col = TILE as u32 * slab.tile.col;
        let mut state = State {
            slab,
            memory,
            stream: Lane::new(&memory),
            turns,
            next_raw: core::ptr::null(),
            first_col,
            exceptions: Exceptions::new(slab.payload),
            group: self.group(slab, 0),
            chunk: nothing(),
        };
        if !self.primed {
            for number in 0..RING_STAGES - 1 {
                self.fill(&state, number);
            }
        }
        prepare(Phase::Find);
        for turn in 0..turns {
            let col = first_col + TURN as u32 * turn;
            // Few turns have exceptions; the others need not look out for them at every step.
            if state.exceptions.fragment < 8 * (turn + 1) {
                self.half_turn::<true>(&mut state, 2 * turn, col);
                self.half_turn::<true>(&mut state, 2 * turn + 1, col + HALF as u32);
            } else {
                self.half_turn::<false>(&mut state, 2 * turn, col);
                self.half_turn::<false>(&mut state, 2 * turn + 1, col + HALF as u32);
            }
            if turn == 0 {
                prepare(Phase::Learn);
            }
            if turn == 1.min(turns - 1) {
                // The stages of a slab of another size may not be read yet when the next one's are filled.
                let raw = prepare(Phase::Fetch).filter(|_| turns == WHOLE_TURNS);
                self.primed = raw.is_some();
                state.next_raw = raw.unwrap_or(core::ptr::null());
            }
            if self.kind.grouped && turn % (GROUP / TURN) as u32 == 1 {
                sums.add(&mut state.chunk, &state.group.scales);
                state.group = self.group(slab, turn as usize / 2 + 1);
            }
        }
        sums.add(&mut state.chunk, &state.group.scales);
    }

    /// Sends for what half turn `number` of the slab needs, or, beyond its last, one of the next slab.
    #[inline(always)]
    fn fill(&self, state: &State<'_, B>, number: u32) {
        let turns = state.turns;
        let own = number < 2 * turns;
        let next_col = state.first_col + TILE as u32;
        let source = if own {
            let col = state.first_col + HALF as u32 * number;
            Source { raw: state.memory.raw, turns, number, col }
        } else {
            // The next tile is the one beside this, or the first of a row.
            let first = if next_col < self.arguments.cols { next_col } else { 0 };
            let number = number - 2 * turns;
            Source { raw: state.next_raw, turns, number, col: first + HALF as u32 * number }
        };
        // SAFETY: the planes of this slab or of the next one, of as many turns.
        unsafe { self.ring.fill(source, &self.activations, self.arguments) };
    }

    /// Half turn number `number` of the slab, from column `col` of x on: both strips of two steps.
    #[inline(always)]
    fn half_turn<const EXCEPTIONS: bool>(&self, state: &mut State<'_, B>, number: u32, col: u32) {
        let (raw, mut x) = self.ring.read(number);
        self.fill(state, number + RING_STAGES - 1);
        if !ring_has_activations(B, self.format.raw_bits()) {
            x = self.activations.two_steps(self.arguments, col);
        }
        self.step::<0, EXCEPTIONS>(state, number, &x, &raw);
        self.step::<1, EXCEPTIONS>(state, number, &x, &raw);
    }

    /// Step `STEP` of half turn number `number`.
    #[inline(always)]
    fn step<const STEP: usize, const EXCEPTIONS: bool>(
        &self,
        state: &mut State<'_, B>,
        number: u32,
        x: &[[u32; 4]; B],
        raw: &RawWords,
    ) {
        let mut operands =
            [self.fragment(state, raw, 2 * STEP), self.fragment(state, raw, 2 * STEP + 1)];
        let first = 4 * number + 2 * STEP as u32;
        if EXCEPTIONS && state.exceptions.fragment < first + 2 {
            // Where there are groups, there are no exceptions.
            let offset = state.group.offsets[0][0];
            let convert = |weights| self.format.operand(self.kind.operand, weights, offset);
            state.exceptions.patch(first, &mut operands, convert);
        }
        if self.kind.fragments {
            for (i, operands) in operands.into_iter().enumerate() {
                // SAFETY: as the kernels'.
                unsafe { self.write_fragment(state.slab, first + i as u32, operands) };
            }
            return;
        }
        unrolled::<B>(
            #[inline(always)]
            |tile| {
                let x = [x[tile][2 * STEP], x[tile][2 * STEP + 1]];
                let operand = self.kind.operand;
                state.chunk[0][tile] = mma(operand, operands[0], x, state.chunk[0][tile]);
                state.chunk[1][tile] = mma(operand, operands[1], x, state.chunk[1][tile]);
            },
        );
    }

    /// The operands of the next fragment, number `i` of a half turn: strip `i % 2` of step `i / 2`.
    #[inline(always)]
    fn fragment(&self, state: &mut State<'_, B>, raw: &RawWords, i: usize) -> [u32; 4] {
        let [a, b] = state.stream.pair::<WIDE>(&state.memory);
        let [c, d] = state.stream.pair::<WIDE>(&state.memory);
        let offsets = state.group.offsets[i % SLAB_STRIPS];
        self.format.operands::<WIDE>(self.kind.operand, [a, b, c, d], raw, i, offsets)
    }

    /// Any slab, fragment by fragment.
    #[inline(always)]
    fn fragments(&self, slab: &SlabInput<'_>, sums: SharedSums<B>) {
        let memory = slab.payload.memory(slab.memory_rows);
        let mut exceptions = Exceptions::new(slab.payload);
        let mut group = self.group(slab, 0);
        let mut chunk = nothing();
        let mut stream = if slab.payload.is_raw() { None } else { Some(Lane::new(&memory)) };
        for number in 0..slab.shape.fragments() {
            let (step, strip) = (number / slab.shape.strips, number % slab.shape.strips);
            if self.kind.grouped && strip == 0 && step == GROUP / FRAGMENT {
                sums.add(&mut chunk, &group.scales);
                group = self.group(slab, 1);
            }
            let offsets = if strip == 0 { group.offsets[0] } else { group.offsets[1] };
            let mut operands = match &mut stream {
                Some(stream) => self.coded(slab, &memory, stream, number, offsets),
                None => self.stored(slab, number, offsets),
            };
            if exceptions.fragment == number as u32 {
                let convert = |weights| self.format.operand(self.kind.operand, weights, offsets[0]);
                let mut one = [operands];
                exceptions.patch(number as u32, &mut one, convert);
                [operands] = one;
            }
            self.mask_padding(slab, step, &mut operands);
            if self.kind.fragments {
                // SAFETY: as the kernels'.
                unsafe { self.write_fragment(slab, number as u32, operands) };
                continue;
            }
            let col = TILE * slab.tile.col as usize
                + matrix_column(slab.shape.steps, step, 2 * (lane() % 4));
            unrolled::<B>(
                #[inline(always)]
                |tile| {
                    let x = self.activations.step(self.arguments, tile, col as u32);
                    if strip == 0 {
                        chunk[0][tile] = mma(self.kind.operand, operands, x, chunk[0][tile]);
                    } else {
                        chunk[1][tile] = mma(self.kind.operand, operands, x, chunk[1][tile]);
                    }
                },
            );
        }
        sums.add(&mut chunk, &group.scales);
    }

    /// The operands of a fragment of a coded tile.
    #[inline(always)]
    fn coded(
        &self,
        slab: &SlabInput<'_>,
        memory: &DeviceMemory,
        stream: &mut Lane,
        number: usize,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let raw_bits = self.format.raw_bits();
        let raw = load_raw_of_fragment(memory, lane(), slab.shape, raw_bits, number);
        let [a, b] = stream.pair::<WIDE>(memory);
        let [c, d] = stream.pair::<WIDE>(memory);
        self.format.operands::<WIDE>(self.kind.operand, [a, b, c, d], &raw, 0, offsets)
    }

    /// The operands of a fragment of a tile that is stored as it is.
    #[inline(always)]
    fn stored(&self, slab: &SlabInput<'_>, number: usize, offsets: [IntegerOffset; 2]) -> [u32; 4] {
        let shape = slab.tile.shape(self.arguments);
        let weights = slab.payload.weights();
        let weight = |register: usize, half: usize| {
            let place = Place { fragment: number, lane: lane(), register, half };
            let (row, col) = slab.shape.position(place);
            let row = row + slab.first_row as usize;
            if row >= shape.rows || col >= shape.cols {
                return 0;
            }
            let at = row * shape.cols + col;
            // SAFETY: the payload is the tile's weights, row by row.
            unsafe {
                match self.format.dtype().bytes() {
                    2 => u32::from(*weights.cast::<u16>().add(at)),
                    _ => u32::from(*weights.add(at)),
                }
            }
        };
        core::array::from_fn(|register| {
            let weights = weight(register, 0) | weight(register, 1) << 16;
            self.format.operand(self.kind.operand, weights, offsets[register % 2])
        })
    }

    /// Makes zeros of the weights beyond the last column: what stands in for them might be infinite.
    #[inline(always)]
    fn mask_padding(&self, slab: &SlabInput<'_>, step: usize, operands: &mut [u32; 4]) {
        let cols = self.arguments.cols as usize - TILE * slab.tile.col as usize;
        for (register, operand) in operands.iter_mut().enumerate() {
            for half in 0..2 {
                let (_, col) = register_position(lane(), register, half);
                if matrix_column(slab.shape.steps, step, col) >= cols {
                    *operand &= !(0xFFFF << (16 * half));
                }
            }
        }
    }

    /// Scales and zero points of group `number` of the tile; of the last one, if there is no such.
    #[inline(always)]
    fn group(&self, slab: &SlabInput<'_>, number: usize) -> Group {
        let (operand, raw_bits) = (self.kind.operand, self.format.raw_bits());
        let mut group = Group {
            scales: [[1.0; 2]; SLAB_STRIPS],
            offsets: [[IntegerOffset::default(); 2]; SLAB_STRIPS],
        };
        if self.format.dtype() != Dtype::I8 {
            return group;
        }
        group.offsets = [[IntegerOffset::new(operand, raw_bits, 0); 2]; SLAB_STRIPS];
        if !self.kind.grouped {
            return group;
        }
        let (g, number) = (lane() / 4, number.min(GROUPS - 1));
        let at = slab.payload.groups();
        // SAFETY: the scales and zero points of a slab, as `GroupPlane` has them.
        let scales: [u32; 2] = unsafe { load_global(at.add(16 * g + 8 * number).cast()) };
        let zeros = if self.arguments.zero_points() {
            // SAFETY: likewise.
            let [zeros] = unsafe { load_global(at.add(GroupPlane::SCALE_BYTES + 4 * g).cast()) };
            zeros >> (16 * number)
        } else {
            0x8888
        };
        for strip in 0..SLAB_STRIPS {
            for half in 0..2 {
                let bits = (scales[strip] >> (16 * half)) as u16;
                group.scales[strip][half] = f16_to_f32(bits);
                let zero = (zeros >> (8 * strip + 4 * half) & 15) as i32 - 8;
                group.offsets[strip][half] = IntegerOffset::new(operand, raw_bits, zero);
            }
        }
        group
    }

    /// # Safety
    /// y has room for all fragments.
    #[inline(always)]
    unsafe fn write_fragment(&self, slab: &SlabInput<'_>, number: u32, operands: [u32; 4]) {
        let fragments = SlabShape::WHOLE.fragments();
        let at = (slab.number as usize * fragments + number as usize) * LANES + lane();
        // SAFETY: the caller's promise.
        unsafe { store_global_4(self.arguments.y.add(16 * at), operands) };
    }
}
