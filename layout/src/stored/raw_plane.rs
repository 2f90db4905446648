//! Raw planes: the raw bits of the weights, in the order of the fragments.
//!
//! The r raw bits of a weight are divided among planes of 8, 4, 2 and 1 bits, according to the binary digits of r; the
//! widest plane has the lowest bits. Planes do not depend on the streams, so they can be loaded any distance ahead.

use crate::{LANES, SlabShape};

/// Raw bits `[shift, shift + width)` of every weight of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Bits of each weight: 8, 4, 2 or 1.
    pub width: u32,
    /// The lowest raw bit that the plane holds.
    pub shift: u32,
}

/// Returns the planes of `raw_bits` raw bits, in stored order.
pub fn planes(raw_bits: u8) -> impl Iterator<Item = Plane> + Clone {
    let bits = u32::from(raw_bits);
    [8, 4, 2, 1].into_iter().filter(move |width| bits & width != 0).map(move |width| {
        // The wider planes hold the bits of `raw_bits` above this one.
        Plane { width, shift: bits & !(2 * width - 1) }
    })
}

impl Plane {
    /// Returns the number of A registers whose bits share a word. The word's low half has the bits of the registers' low
    /// halves, its high half those of their high halves, `width` bits each, the first register lowest.
    #[inline(always)]
    #[must_use]
    pub const fn registers_per_word(self) -> usize {
        16 / self.width as usize
    }

    /// Returns the number of words that a lane has in a slab. A lane's registers are numbered fragment by fragment.
    #[must_use]
    pub const fn words(self, slab: SlabShape) -> usize {
        (4 * slab.fragments()).div_ceil(self.registers_per_word())
    }

    /// Returns the offset of word `word` of `lane`, in words from the plane's start. A lane's words are stored in quads, so
    /// that one load takes 16 bytes; the quads of the lanes follow each other.
    #[inline(always)]
    #[must_use]
    pub const fn word_offset(words: usize, lane: usize, word: usize) -> usize {
        let quad = word / 4;
        let rest = words - 4 * quad;
        let quad_words = if rest < 4 { rest } else { 4 };
        4 * quad * LANES + lane * quad_words + word % 4
    }

    /// Returns the (word, bit) where the plane has the bits of half `half` of register `register` (0 to 3) of the slab's
    /// fragment number `fragment`.
    #[inline(always)]
    #[must_use]
    pub const fn position(self, fragment: usize, register: usize, half: usize) -> (usize, u32) {
        let register = 4 * fragment + register;
        let field = (register % self.registers_per_word()) as u32;
        (register / self.registers_per_word(), 16 * half as u32 + self.width * field)
    }
}

/// Exchanges bits 7 and 15 of both halves of a word: the last step of building a word of an 8-bit plane, and its own
/// inverse.
///
/// An 8-bit plane holds `sign | 7 mantissa bits`. After the exchange, `word & 0x807F_807F` has the signs and mantissas of the
/// first register in place; the same mask on the word with swapped bytes in each half has those of the second.
#[inline(always)]
#[must_use]
pub const fn exchange_signs(word: u32) -> u32 {
    let differ = (word ^ word >> 8) & 0x0080_0080;
    word ^ differ ^ differ << 8
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::{vec, vec::Vec};

    #[test]
    fn planes_partition_the_raw_bits() {
        for raw_bits in 0..=15 {
            let mut covered = 0u32;
            for plane in planes(raw_bits) {
                let mask = ((1 << plane.width) - 1) << plane.shift;
                assert_eq!(covered & mask, 0);
                covered |= mask;
            }
            assert_eq!(covered, (1 << raw_bits) - 1);
        }
        let f16: Vec<_> = planes(11).map(|p| (p.width, p.shift)).collect();
        assert_eq!(f16, [(8, 0), (2, 8), (1, 10)]);
    }

    #[test]
    fn every_bit_of_a_slab_has_a_place_of_its_own() {
        for (strips, steps) in [(1, 1), (2, 1), (1, 3), (2, 5), (2, 16)] {
            let slab = SlabShape { strips, steps };
            for plane in planes(15) {
                let words = plane.words(slab);
                let mut seen = vec![0u32; words * LANES];
                for fragment in 0..slab.fragments() {
                    for lane in 0..LANES {
                        for (register, half) in (0..4).flat_map(|r| [(r, 0), (r, 1)]) {
                            let (word, bit) = plane.position(fragment, register, half);
                            let at = Plane::word_offset(words, lane, word);
                            let mask = ((1u32 << plane.width) - 1) << bit;
                            assert_eq!(seen[at] & mask, 0);
                            seen[at] |= mask;
                        }
                    }
                }
                let bits: u32 = seen.iter().map(|w| w.count_ones()).sum();
                assert_eq!(bits as usize, slab.fragments() * 256 * plane.width as usize);
            }
        }
    }

    #[test]
    fn exchanged_signs_are_in_place_for_both_registers() {
        // Register 0: sign 1, mantissa 0x12, then sign 0, 0x34; register 1: sign 0, 0x56; 1, 0x78.
        let word = exchange_signs(0x92 | 0x56 << 8 | 0x34 << 16 | 0xF8 << 24);
        let swapped = (word & 0x00FF_00FF) << 8 | (word >> 8 & 0x00FF_00FF);
        assert_eq!(word & 0x807F_807F, 0x0034_8012);
        assert_eq!(swapped & 0x807F_807F, 0x8078_0056);
        assert_eq!(exchange_signs(exchange_signs(0xDEAD_BEEF)), 0xDEAD_BEEF);
    }
}
