//! Raw planes, one weight at a time.

use super::places;
use fused_rans_layout::{LANES, Place, Plane, SlabShape, exchange_signs, planes};

/// Packs the raw bits of a slab, which `raw` returns for (row, column), into the words of its planes.
pub(super) fn pack_planes(
    shape: SlabShape,
    raw_bits: u8,
    raw: impl Fn(usize, usize) -> u16,
) -> Vec<u32> {
    let mut all = Vec::new();
    for plane in planes(raw_bits) {
        let count = plane.words(shape);
        let mut words = vec![0u32; count * LANES];
        for (place, row, col) in places(shape) {
            let (word, bit) = plane.position(place.fragment, place.register, place.half);
            let bits = u32::from(raw(row, col)) >> plane.shift & ((1 << plane.width) - 1);
            words[Plane::word_offset(count, place.lane, word)] |= bits << bit;
        }
        if plane.width == 8 {
            words.iter_mut().for_each(|word| *word = exchange_signs(*word));
        }
        all.extend(words);
    }
    all
}

/// Reads the raw bits at `place` from `stored`, the words of the planes of a slab.
pub(super) fn raw_at(shape: SlabShape, raw_bits: u8, stored: &[u32], place: &Place) -> u16 {
    let (mut raw, mut start) = (0, 0);
    for plane in planes(raw_bits) {
        let count = plane.words(shape);
        let (word, bit) = plane.position(place.fragment, place.register, place.half);
        let stored = stored[start + Plane::word_offset(count, place.lane, word)];
        let stored = if plane.width == 8 { exchange_signs(stored) } else { stored };
        raw |= (stored >> bit & ((1 << plane.width) - 1)) << plane.shift;
        start += count * LANES;
    }
    raw as u16
}
