//! A warp that decodes: from slabs to pieces of weights in shared memory.

use super::panels::WeightPanel;
use crate::device::matmul::Kind;
use crate::device::matmul::shared::groups::{Groups, Offsets};
use crate::device::ptx::{
    before_products, lane, load_shared_u16, reread_lane, round, store_shared, store_shared_4,
    store_shared_u16, to_f32, warp_barrier,
};
use crate::device::resident::{
    Exception, Exceptions, LaneStream, ResidentLayer, Slab, Slabs, load_raw, load_raw_after,
    plain_fragment,
};
use crate::{RawWords, WeightFormat, unrolled};
use fused_rans_layout::{
    CHUNK_COLUMNS, Dtype, GROUP, LANES, PANEL_COLUMNS, PANELS, PIECE_COLUMNS, SLAB_ROWS,
    SLAB_STRIPS, SlabRun, TILE, WARPGROUP, WEIGHT_PIECE_BYTES, WideMemory, piece_offset,
};

/// Panels of a group of weights that share scales.
const GROUP_PANELS: usize = GROUP / PANEL_COLUMNS;

/// A warp that decodes.
pub struct Decoder<'a> {
    kind: Kind,
    format: WeightFormat,
    layer: &'a ResidentLayer,
    slabs: Slabs<'a>,
    memory: WideMemory,
    /// The unit after the block's last (0 if the warp has nothing to do), and how many warpgroups take turns.
    end: u32,
    groups: u32,
    /// The warp's warpgroup, and the place of its slabs in units.
    group: u32,
    place: u32,
    unit: u32,
    /// The slab of unit `unit`, whose words are requested.
    next: Option<Slab>,
    /// Raw planes of the next half panel, on their way.
    raw: RawWords,
}

/// What a slab's panels need beside words and raw planes.
struct SlabParts {
    exceptions: Option<Exceptions>,
    /// The lane's one of the first exceptions, and whether there are more.
    exception: Option<Exception>,
    has_more: bool,
    /// Address of scales and zero points.
    scales: u32,
    offsets: Offsets,
}

impl<'a> Decoder<'a> {
    /// Returns decoder `number` of the block, whose units are `run`.
    #[inline(always)]
    pub fn new(
        kind: Kind,
        format: WeightFormat,
        layer: &'a ResidentLayer,
        memory: WideMemory,
        run: SlabRun,
        groups: u32,
        number: u32,
    ) -> Self {
        // Raw planes are no matter of its.
        let slabs = Slabs::new(layer, 0, kind.grouped, memory.decoders, number);
        let (group, place) = (number / WARPGROUP, number % WARPGROUP);
        let unit = run.start + group;
        Self {
            kind,
            format,
            layer,
            slabs,
            memory,
            end: if group < groups { run.end } else { 0 },
            groups,
            group,
            place,
            unit,
            next: None,
            raw: RawWords::default(),
        }
    }

    /// Requests what is due before the first slab.
    #[inline(always)]
    pub fn start(&mut self) {
        self.next = self.locate(self.unit);
        if let Some(slab) = self.next {
            self.slabs.make_barriers();
            self.slabs.start(slab);
            self.load_first(slab);
        }
    }

    /// Starts to load the raw planes of a slab's first half panel, if it has some.
    #[inline(always)]
    fn load_first(&mut self, slab: Slab) {
        if !slab.is_plain() {
            // SAFETY: every slab has a panel.
            self.raw = unsafe { load_raw(self.layer, self.format.raw_bits(), slab, 0, 0) };
        }
    }

    /// Returns the warp's slab of a unit; `None` if there is none, as there is none after that either.
    #[inline(always)]
    fn locate(&self, unit: u32) -> Option<Slab> {
        let across = self.layer.cols.div_ceil(TILE as u32);
        let row = unit / across;
        let slab_row = row * WARPGROUP + self.place;
        let exists = unit < self.end && slab_row < self.layer.rows.div_ceil(SLAB_ROWS as u32);
        let col = unit - row * across;
        exists.then(|| self.slabs.locate(slab_row * across + col, col))
    }

    /// Decodes all slabs of the warp.
    #[inline(always)]
    pub fn all(&mut self) {
        while self.unit < self.end {
            let slab = self.next;
            self.unit += self.groups;
            self.next = self.locate(self.unit);
            match slab {
                Some(slab) => self.slab(slab),
                None => self.pass(),
            }
        }
    }

    /// Passes by a unit in which the warp has no slab.
    #[inline(always)]
    fn pass(&self) {
        let place = WeightPanel::new(&self.memory, self.group);
        for panel in 0..PANELS as u32 {
            place.wait_for_room(panel);
            place.written();
        }
    }

    /// Waits for a slab's words; returns their address, and what else its panels need.
    #[inline(always)]
    fn begin(&mut self, slab: Slab) -> (u32, SlabParts) {
        let (words, scales) = self.slabs.begin(slab);
        let exceptions = self.slabs.exceptions(slab, words);
        let offsets = self.of_groups().offsets(scales, 0);
        let exception = exceptions.and_then(Exceptions::first_of_lane);
        let has_more = exceptions.is_some_and(|exceptions| exceptions.count() > LANES as u32);
        (words, SlabParts { exceptions, exception, has_more, scales, offsets })
    }

    /// Takes a slab. A loop, because several warpgroups are at different places of the code, which need not be large.
    #[inline(always)]
    fn slab(&mut self, slab: Slab) {
        let (words, mut parts) = self.begin(slab);
        let mut stream = if slab.is_plain() { None } else { Some(LaneStream::new(words)) };
        let place = WeightPanel::new(&self.memory, self.group);
        let mut panel = 0;
        while panel < PANELS {
            if panel >= slab.panels as usize {
                place.wait_for_room(panel as u32);
            } else if let Some(stream) = &mut stream {
                self.coded_panel(slab, stream, panel, &mut parts);
            } else {
                self.plain_panel(slab, panel, &mut parts);
                if let Some(next) = self.next {
                    self.load_first(next);
                }
            }
            self.store_exceptions(panel, &parts);
            before_products();
            warp_barrier();
            place.written();
            self.slabs.after_panel(slab, panel, self.next, 0);
            panel += 1;
        }
    }

    #[inline(always)]
    fn of_groups(&self) -> Groups<'a, ResidentLayer> {
        Groups { kind: self.kind, arguments: self.layer, format: self.format }
    }

    /// Decodes a panel, and starts to load the raw planes of what comes next.
    #[inline(always)]
    fn coded_panel(
        &mut self,
        slab: Slab,
        stream: &mut LaneStream,
        panel: usize,
        parts: &mut SlabParts,
    ) {
        self.begin_panel(panel, parts);
        unrolled::<2>(
            #[inline(always)]
            |half| {
                let raw = self.raw;
                // SAFETY: the slab has the panel.
                self.raw = unsafe {
                    load_raw_after(self.layer, self.format.raw_bits(), slab, self.next, panel, half)
                };
                let mut operands = [[0; 4]; 4];
                unrolled::<4>(
                    #[inline(always)]
                    |f| {
                        let entries = stream.fragment(self.kind.table);
                        let offsets = parts.offsets[f % SLAB_STRIPS];
                        operands[f] =
                            self.format.operands(self.kind.mma_type, entries, &raw, f, offsets);
                    },
                );
                self.store(panel, half, operands, parts);
            },
        );
    }

    /// Takes a panel of a plain slab.
    #[inline(always)]
    fn plain_panel(&self, slab: Slab, panel: usize, parts: &mut SlabParts) {
        self.begin_panel(panel, parts);
        for half in 0..2 {
            let mut operands = [[0; 4]; 4];
            unrolled::<4>(
                #[inline(always)]
                |f| {
                    let (fragment, len) = (4 * half + f, self.kind.dtype.byte_len());
                    // SAFETY: the slab has the panel.
                    let registers =
                        unsafe { plain_fragment(self.layer, slab, len, panel, fragment) };
                    unrolled::<4>(
                        #[inline(always)]
                        |i| {
                            let offset = parts.offsets[f % SLAB_STRIPS][i % 2];
                            operands[f][i] = self.format.operand(
                                self.kind.mma_type,
                                registers[i],
                                i % 2 == 1,
                                offset,
                            );
                        },
                    );
                },
            );
            self.store(panel, half, operands, parts);
        }
    }

    /// Loads the zero points of a panel's group.
    #[inline(always)]
    fn begin_panel(&self, panel: usize, parts: &mut SlabParts) {
        if self.kind.grouped && panel > 0 && panel.is_multiple_of(GROUP_PANELS) {
            parts.offsets = self.of_groups().offsets(parts.scales, (panel / GROUP_PANELS) as u32);
        }
    }

    /// Stores the warp's part of a piece, half a panel, and the scales of the panel. `operands` are the
    /// fragments of two steps of both strips: of their columns, a lane has eight that follow each other in rows g and g + 8 of
    /// each strip.
    #[inline(always)]
    fn store(&self, panel: usize, half: usize, operands: [[u32; 4]; 4], parts: &SlabParts) {
        let place = WeightPanel::new(&self.memory, self.group);
        let own = place.weights
            + half as u32 * WEIGHT_PIECE_BYTES
            + piece_offset(self.place * SLAB_ROWS as u32, 0);
        let at = own + piece_offset(lane() as u32 / 4, lane() as u32 % 4);
        if half == 0 {
            place.wait_for_room(panel as u32);
        }
        unrolled::<SLAB_STRIPS>(
            #[inline(always)]
            |strip| {
                let [first, second] = [operands[strip], operands[SLAB_STRIPS + strip]];
                unrolled::<2>(
                    #[inline(always)]
                    |lower| {
                        let row = (16 * strip + 8 * lower) as u32;
                        let words =
                            [first[lower], first[2 + lower], second[lower], second[2 + lower]];
                        // SAFETY: the lane's part of the piece, which nobody reads.
                        unsafe { store_shared_4(at + piece_offset(row, 0), words) };
                    },
                );
            },
        );
        if self.kind.grouped && half == 0 {
            self.store_scales(place, panel, parts);
        }
    }

    /// Stores those exceptions of a slab that are in panel `panel`. All lanes of the warp must be here.
    #[inline(always)]
    fn store_exceptions(&self, panel: usize, parts: &SlabParts) {
        let Some(exceptions) = parts.exceptions else { return };
        // What other lanes have stored comes first.
        warp_barrier();
        let store = |exception: Exception| {
            if exception.place as usize / PANEL_COLUMNS == panel {
                self.store_exception(exception);
            }
        };
        if let Some(exception) = parts.exception {
            store(exception);
        }
        if parts.has_more {
            exceptions.for_each_but_first(store);
        }
    }

    /// Replaces a decoded weight in the warp's part of a panel.
    #[inline(always)]
    fn store_exception(&self, exception: Exception) {
        let (columns, half) = (CHUNK_COLUMNS as u32, exception.place / PIECE_COLUMNS as u32 % 2);
        let own = WeightPanel::new(&self.memory, self.group).weights
            + half * WEIGHT_PIECE_BYTES
            + piece_offset(self.place * SLAB_ROWS as u32, 0);
        let (chunk, element) =
            (exception.place % PIECE_COLUMNS as u32 / columns, exception.place % columns);
        let at = own + piece_offset(exception.row, chunk) + 2 * element;
        let mma_type = self.kind.mma_type;
        // SAFETY: a weight of the warp's part, of which no other lane has an exception.
        unsafe {
            let weight = match self.kind.dtype {
                Dtype::Bf16 | Dtype::F16 => exception.weight as u16,
                _ => {
                    let decoded = to_f32(mma_type, load_shared_u16(at) as u16);
                    round(mma_type, decoded + f32::from_bits(exception.difference))
                }
            };
            store_shared_u16(at, weight);
        }
    }

    /// Stores the scales of the warp's rows.
    #[inline(always)]
    fn store_scales(&self, place: WeightPanel, panel: usize, parts: &SlabParts) {
        let scales = self.of_groups().scales(parts.scales, (panel / GROUP_PANELS) as u32);
        let (g, t) = (reread_lane() as u32 / 4, reread_lane() as u32 % 4);
        let own = place.scales + 4 * (self.place * SLAB_ROWS as u32 + g);
        if t == 0 {
            unrolled::<4>(
                #[inline(always)]
                |i| {
                    // SAFETY: the rows' places, which nobody reads.
                    unsafe { store_shared(own + 32 * i as u32, scales[i / 2][i % 2].to_bits()) };
                },
            );
        }
    }
}
