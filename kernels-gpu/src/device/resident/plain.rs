//! Fragments of plain slabs, whose weights are as they are.

use super::{ResidentLayer, Slab};
use crate::device::ptx::{lane, load_global};
use crate::portable::twins::byte_permute;
use fused_rans_layout::{LANES, panel_plain_bytes};

/// Loads this lane's eight weights of a fragment, each to the low bits of a half. Straight from device memory, since few
/// layers have plain slabs.
///
/// # Safety
/// The slab is plain, and has so many panels; a panel has eight fragments.
#[inline(always)]
pub unsafe fn plain_fragment(
    layer: &ResidentLayer,
    slab: Slab,
    byte_len: usize,
    panel: usize,
    fragment: usize,
) -> [u32; 4] {
    let lane = (fragment * LANES + lane()) * 8 * byte_len;
    let front = layer.unit(slab.entry.start + slab.entry.front_units());
    let from = front.wrapping_add(panel * panel_plain_bytes(byte_len) + lane);
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
