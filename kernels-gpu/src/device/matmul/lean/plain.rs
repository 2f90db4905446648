//! Panels of plain slabs, whose weights are as they are.

use super::Arguments;
use super::slab::Slab;
use super::state::SlabState;
use crate::device::matmul::Kind;
use crate::device::ptx::{lane, load_global, load_shared_words, mma};
use crate::portable::twins::byte_permute;
use crate::{WeightFormat, unrolled};
use fused_rans_layout::{
    LANES, LINE, PANEL_STEPS, SLAB_STRIPS, panel_plain_bytes, x_row_bytes,
};

/// Adds the products of a panel to the partial sums. Straight from device memory, since few layers have plain slabs.
#[inline(always)]
pub fn plain_panel<const B: usize>(
    kind: Kind,
    arguments: &Arguments,
    format: &WeightFormat,
    slab: Slab,
    panel: usize,
    state: &mut SlabState<'_, B>,
) {
    let SlabState { x, offsets, partials: sums, .. } = state;
    let byte_len = kind.dtype.byte_len();
    let start = slab.entry.line as usize * LINE + panel * panel_plain_bytes(byte_len);
    let slab = arguments.slabs.wrapping_add(start + lane() * 8 * byte_len);
    for step in 0..PANEL_STEPS {
        unrolled::<SLAB_STRIPS>(
            #[inline(always)]
            |strip| {
                let at = (step * SLAB_STRIPS + strip) * LANES * 8 * byte_len;
                // SAFETY: the slab has the panel.
                let registers = unsafe { load_registers(byte_len, slab.wrapping_add(at)) };
                let operand = |i: usize| {
                    let odd = i % 2;
                    format.operand(kind.mma_type, registers[i], odd == 1, offsets[strip][odd])
                };
                let a = [operand(0), operand(1), operand(2), operand(3)];
                let x = *x + (step / 2 * 64 + step % 2 * 8) as u32;
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

/// Loads a lane's eight weights of a fragment, each to the low bits of a half.
///
/// # Safety
/// They exist, and are aligned to their size.
#[inline(always)]
pub unsafe fn load_registers(byte_len: usize, from: *const u8) -> [u32; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        if byte_len == 2 {
            return load_global(from.cast());
        }
        let [a, b] = load_global(from.cast());
        let half = |word, selector| byte_permute(word, 0, selector);
        [half(a, 0x4140), half(a, 0x4342), half(b, 0x4140), half(b, 0x4342)]
    }
}
