//! What is done with a panel: decode, dequantize, multiply.

use super::state::SlabState;
use crate::device::matmul::Kind;
use crate::device::ptx::{load_shared_words, mma};
use crate::device::resident::{LaneStream, Planes, ResidentLayer, Slab, plain_fragment};
use crate::{RawWords, WeightFormat, unrolled};
use fused_rans_layout::{PANEL_STEPS, SLAB_STRIPS, x_row_bytes};

/// Most octets whose activations of two steps are in registers while these are decoded.
const MAX_OCTETS_IN_REGISTERS: usize = 2;

/// Decodes a panel and adds its products to the partial sums. Returns a number that depends on all raw planes that were
/// loaded.
#[inline(always)]
pub fn coded_panel<const B: usize>(
    kind: Kind,
    format: &WeightFormat,
    stream: &mut LaneStream,
    planes: &Planes,
    state: &mut SlabState<'_, B>,
) -> u32 {
    let mut seen = 0;
    unrolled::<2>(
        #[inline(always)]
        |half| {
            let raw = planes.half(half);
            half_panel::<B>(kind, format, stream, &raw, half, state);
            seen |= planes.seen(&raw);
        },
    );
    seen
}

/// Decodes four fragments, two steps of two strips, and multiplies them.
#[inline(always)]
fn half_panel<const B: usize>(
    kind: Kind,
    format: &WeightFormat,
    stream: &mut LaneStream,
    raw: &RawWords,
    half: usize,
    state: &mut SlabState<'_, B>,
) {
    let x = state.x + 64 * half as u32;
    let SlabState { offsets, partials: sums, .. } = state;
    // SAFETY: the activations of the panel are there.
    let load = |octet: usize| -> [u32; 4] {
        unsafe { load_shared_words(x + (octet * 8 * x_row_bytes(B)) as u32) }
    };
    let mut decode = |f: usize| {
        let entries = stream.fragment(kind.table);
        format.operands(kind.mma_type, entries, raw, f, offsets[f % SLAB_STRIPS])
    };
    if B <= MAX_OCTETS_IN_REGISTERS {
        let mut activations = [[0; 4]; B];
        unrolled::<B>(
            #[inline(always)]
            |octet| activations[octet] = load(octet),
        );
        unrolled::<4>(
            #[inline(always)]
            |f| {
                let a = decode(f);
                unrolled::<B>(
                    #[inline(always)]
                    |octet| {
                        multiply(kind, a, activations[octet], f, &mut sums[f % SLAB_STRIPS][octet]);
                    },
                );
            },
        );
        return;
    }
    let mut operands = [[0; 4]; 4];
    unrolled::<4>(
        #[inline(always)]
        |f| operands[f] = decode(f),
    );
    unrolled::<B>(
        #[inline(always)]
        |octet| {
            let activations = load(octet);
            unrolled::<4>(
                #[inline(always)]
                |f| {
                    let sums = &mut sums[f % SLAB_STRIPS][octet];
                    multiply(kind, operands[f], activations, f, sums);
                },
            );
        },
    );
}

/// Multiplies fragment `f` of four with the activations of its step.
#[inline(always)]
fn multiply(kind: Kind, a: [u32; 4], x: [u32; 4], f: usize, sums: &mut [f32; 4]) {
    let step = f / SLAB_STRIPS;
    *sums = mma(kind.mma_type, a, [x[2 * step], x[2 * step + 1]], *sums);
}

/// Adds the products of a panel of a plain slab to the partial sums.
#[inline(always)]
pub fn plain_panel<const B: usize>(
    kind: Kind,
    layer: &ResidentLayer,
    format: &WeightFormat,
    slab: Slab,
    panel: usize,
    state: &mut SlabState<'_, B>,
) {
    let SlabState { x, offsets, partials: sums, .. } = state;
    // A loop, because the slow path need not be in the kernel four times.
    for step in 0..PANEL_STEPS {
        let x = *x + (step / 2 * 64 + step % 2 * 8) as u32;
        unrolled::<SLAB_STRIPS>(
            #[inline(always)]
            |strip| {
                let fragment = step * SLAB_STRIPS + strip;
                // SAFETY: the slab has the panel.
                let registers =
                    unsafe { plain_fragment(layer, slab, kind.dtype.byte_len(), panel, fragment) };
                let operand = |i: usize| {
                    let odd = i % 2;
                    format.operand(kind.mma_type, registers[i], odd == 1, offsets[strip][odd])
                };
                let a = [operand(0), operand(1), operand(2), operand(3)];
                unrolled::<B>(
                    #[inline(always)]
                    |octet| {
                        let x = x + (octet * 8 * x_row_bytes(B)) as u32;
                        // SAFETY: the activations of the panel are there.
                        let b = unsafe { load_shared_words(x) };
                        let sums = &mut sums[strip][octet];
                        *sums = mma(kind.mma_type, a, b, *sums);
                    },
                );
            },
        );
    }
}
