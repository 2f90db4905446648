//! Raw planes straight from device memory to registers.

use super::{ResidentLayer, Slab};
use crate::RawWords;
use crate::device::ptx::{load_ahead, reread_lane};
use fused_rans_layout::{LINE, panel_plane_start, panel_raw_bytes};

/// Loads the lane's words of the raw planes of half `half` of panel `panel` of a slab.
///
/// # Safety
/// The slab is coded and has the panel.
#[inline(always)]
pub unsafe fn load_raw(
    layer: &ResidentLayer,
    raw_bits: u32,
    slab: Slab,
    panel: usize,
    half: usize,
) -> RawWords {
    let front = layer.unit(slab.entry.start + slab.entry.front_units());
    let panel = front.wrapping_add(panel * panel_raw_bytes(raw_bits));
    let plane = |width: u32| panel.wrapping_add(panel_plane_start(raw_bits, width));
    let (lane, quad) = (reread_lane(), 4 * LINE);
    let mut words = RawWords::default();
    // SAFETY: the caller's promise; a plane has its words in the order of lanes.
    unsafe {
        if raw_bits & 8 != 0 {
            let at = plane(8).wrapping_add(2 * half * quad + 16 * lane);
            words.eight = [load_ahead(at.cast()), load_ahead(at.wrapping_add(quad).cast())];
        }
        if raw_bits & 4 != 0 {
            words.four = load_ahead(plane(4).wrapping_add(half * quad + 16 * lane).cast());
        }
        if raw_bits & 2 != 0 {
            words.two = load_ahead(plane(2).wrapping_add(16 * lane + 8 * half).cast());
        }
        if raw_bits & 1 != 0 {
            [words.one] = load_ahead(plane(1).wrapping_add(8 * lane + 4 * half).cast());
        }
    }
    words
}

/// Loads what [`load_raw`] does for the half panel after half `half` of panel `panel` of `slab`, which may be the first of
/// `next`. If there is none, loads something else: without a branch around the load, which would have to wait for it.
///
/// # Safety
/// The slab is coded and has the panel.
#[inline(always)]
pub unsafe fn load_raw_after(
    layer: &ResidentLayer,
    raw_bits: u32,
    slab: Slab,
    next: Option<Slab>,
    panel: usize,
    half: usize,
) -> RawWords {
    let (slab, panel) = match (half, next) {
        (0, _) => (slab, panel),
        (_, Some(next)) if panel + 1 >= slab.panels as usize && !next.is_plain() => (next, 0),
        _ => (slab, (panel + 1).min(slab.panels as usize - 1)),
    };
    // SAFETY: the slab has the panel; every slab has a first one.
    unsafe { load_raw(layer, raw_bits, slab, panel, 1 - half) }
}
