//! The warpgroup that multiplies.

use super::panels::WeightPanel;
use crate::device::matmul::Kind;
use crate::device::matmul::lean::{Arguments, OwnRows, Part, finish};
use crate::device::matmul::shared::sums::{RowScales, Sums, for_each_fragment, zero};
use crate::device::ptx::{
    BulkCopy, arrive_once, lane, load_shared_words, start_products, wait_barrier, wait_products,
};
use crate::unrolled;
use fused_rans_layout::{
    FRAGMENT, LeanPartition, PANEL_COLUMNS, PANELS, PanelOrder, PanelStep, SlabRun, TILE,
    WARPGROUP, WIDE_ROWS, WideMemory, activation_piece_bytes, activation_stages,
};

/// Most octets for which there are registers for two sets of sums.
const MAX_OCTETS_WITH_PARTIALS: usize = 8;

/// Rows of a half of a piece, which `wgmma` takes at once.
const HALF: u32 = WIDE_ROWS as u32 / 2;

/// Panels of activations on their way to shared memory.
pub struct XPanels<'a, const B: usize> {
    arguments: &'a Arguments,
    memory: WideMemory,
    /// Address of the barriers: for each stage, of the copy, and of the warps that multiply.
    barriers: u32,
    /// The next panel that is requested.
    next: PanelOrder,
    /// Panels that were taken.
    taken: u32,
}

impl<'a, const B: usize> XPanels<'a, B> {
    #[inline(always)]
    pub fn new(
        arguments: &'a Arguments,
        memory: WideMemory,
        partition: LeanPartition,
        run: SlabRun,
        groups: u32,
    ) -> Self {
        let barriers = memory.barriers + 16 * groups;
        let next = PanelOrder::new(partition, run, groups);
        Self { arguments, memory, barriers, next, taken: 0 }
    }

    /// Requests the next panel, into stage `stage`; the first warp calls this.
    #[inline(always)]
    fn request(&mut self, stage: u32) {
        if self.next.is_over() {
            return;
        }
        let bytes = 2 * activation_piece_bytes(B);
        let number = self.next.col() * PANELS as u32 + self.next.panel();
        let from = self.arguments.x.cast::<u8>().wrapping_add(number as usize * bytes as usize);
        let copy = BulkCopy {
            to: self.memory.x + stage * bytes,
            from,
            bytes,
            barrier: self.barriers + 16 * stage,
            seen: 0,
        };
        // SAFETY: the packed activations have panels for each column of tiles; the stage is empty.
        unsafe { copy.expect_and_start_once() };
        self.next.advance();
    }

    /// Requests the first panels.
    #[inline(always)]
    fn start(&mut self) {
        let mut stage = 0;
        while stage < activation_stages(B) {
            self.request(stage);
            stage += 1;
        }
    }

    /// Waits for the current panel; returns its address.
    #[inline(always)]
    fn wait(&self) -> u32 {
        let (stage, turn) = (self.taken % activation_stages(B), self.taken / activation_stages(B));
        // SAFETY: a barrier.
        unsafe { wait_barrier(self.barriers + 16 * stage, turn % 2) };
        self.memory.x + stage * 2 * activation_piece_bytes(B)
    }

    /// Gives the current panel back; the first warp requests another one in its place.
    #[inline(always)]
    fn multiplied(&mut self, warp: u32) {
        let (stage, turn) = (self.taken % activation_stages(B), self.taken / activation_stages(B));
        let empty = self.barriers + 16 * stage + 8;
        self.taken += 1;
        // SAFETY: a barrier.
        unsafe { arrive_once(empty) };
        if warp == 0 {
            // SAFETY: a barrier.
            unsafe { wait_barrier(empty, turn % 2) };
            self.request(stage);
        }
    }
}

/// Multiplies all panels of the block's run, with the warps of a warpgroup.
///
/// Chains of additions in the tensor cores, which truncate, are short where there are registers for two sets of sums.
///
/// # Safety
/// As for [`run`](super::run).
#[inline(always)]
pub unsafe fn multiply<const B: usize>(
    kind: Kind,
    arguments: &Arguments,
    memory: &WideMemory,
    partition: LeanPartition,
    (run, groups): (SlabRun, u32),
    warp: u32,
    mut x: XPanels<'_, B>,
) {
    if warp == 0 {
        x.start();
    }
    let with_partials = B <= MAX_OCTETS_WITH_PARTIALS;
    let mut order = PanelOrder::new(partition, run, groups);
    let cols = arguments.layer.cols.next_multiple_of(PANEL_COLUMNS as u32);
    let (mut sums, mut partials): (Sums<B>, Sums<B>) = (zero(), zero());
    while !order.is_over() {
        let (row_block, from) = (order.row(), order.col());
        let (mut step, mut to, mut accumulate) = (PanelStep::Panel, from, false);
        while step != PanelStep::Row {
            let (panel, place) = (order.panel(), WeightPanel::new(memory, order.group()));
            to = order.col() + 1;
            // The decoders write nothing beyond the last panel.
            let is_there = order.col() * TILE as u32 + panel * (PANEL_COLUMNS as u32) < cols;
            let activations = x.wait();
            place.wait(panel);
            if is_there {
                let sums = if with_partials { &mut partials } else { &mut sums };
                // SAFETY: both panels are there.
                unsafe {
                    start_products::<B>(
                        kind.mma_type,
                        place.weights,
                        activations,
                        accumulate,
                        sums,
                    );
                }
                step = order.advance();
                wait_products::<B>(sums);
                accumulate = true;
            } else {
                step = order.advance();
            }
            if kind.grouped && is_there {
                add_products(&mut sums, &partials, &row_scales(place, warp));
                accumulate = false;
            }
            place.multiplied();
            x.multiplied(warp);
            if with_partials && accumulate && step != PanelStep::Panel {
                add_products(&mut sums, &partials, &[[1.0; 2]; 2]);
                accumulate = false;
            }
        }
        let part = Part { row_block, row: 0, from, to };
        let own = OwnRows {
            number: row_block * WARPGROUP + warp,
            place: (warp, WARPGROUP),
            first: row_block * WIDE_ROWS as u32 + FRAGMENT as u32 * warp,
            to_next_strip: HALF,
        };
        // SAFETY: the caller's promise.
        unsafe { finish::<B>(kind, arguments, partition, part, own, sums) };
        sums = zero();
    }
}

/// Adds products times scales to `sums`.
#[inline(always)]
fn add_products<const B: usize>(sums: &mut Sums<B>, products: &Sums<B>, scales: &RowScales) {
    for_each_fragment::<B>(
        #[inline(always)]
        |half, octet| {
            unrolled::<4>(
                #[inline(always)]
                |i| sums[half][octet][i] += scales[half][i / 2] * products[half][octet][i],
            );
        },
    );
}

/// Returns the scales of the lane's rows of a panel.
#[inline(always)]
fn row_scales(place: WeightPanel, warp: u32) -> RowScales {
    let first = FRAGMENT as u32 * warp + lane() as u32 / 4;
    let mut scales = [[0.0; 2]; 2];
    unrolled::<4>(
        #[inline(always)]
        |i| {
            let row = first + HALF * (i / 2) as u32 + 8 * (i % 2) as u32;
            // SAFETY: the scales of the panel are there.
            let [scale] = unsafe { load_shared_words(place.scales + 4 * row) };
            scales[i / 2][i % 2] = f32::from_bits(scale);
        },
    );
    scales
}
