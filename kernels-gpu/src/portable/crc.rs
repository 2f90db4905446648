//! CRC-32C of a region of memory, computed by many threads.
//!
//! A CRC is linear: each thread takes every [`REGION_THREADS`]th word, and the threads' sums are multiplied with powers of x
//! and added up at the end. Polynomials have the power 0 in the highest bit, like the CRC.

use crate::unrolled;
use fused_rans_layout::REGION_THREADS;

/// CRC-32C's polynomial, without its highest power.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// Factor for a thread's sum from one of its words to its next one: x to the power of the bits between them.
const STEP: u32 = power(32 * REGION_THREADS);

/// Returns `a * b` modulo the polynomial.
#[must_use]
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = b >> 1 ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

/// Returns x to the power `exponent`.
const fn power(mut exponent: u32) -> u32 {
    let (mut result, mut square) = (1 << 31, 1 << 30);
    while exponent > 0 {
        if exponent & 1 != 0 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    result
}

/// Returns the table's entry for the value `byte` of byte number `number` of a sum: its contribution to the thread's sum one
/// of its words later.
#[inline(always)]
#[must_use]
pub fn table_entry(byte: u32, number: u32) -> u32 {
    multiply(byte << (8 * number), STEP)
}

/// Returns thread `thread`'s part of the CRC of `words` words. `word` loads one of them; `entry` returns [`table_entry`].
#[inline(always)]
#[must_use]
pub fn sum_of_thread(
    words: u32,
    thread: u32,
    word: impl Fn(u32) -> u32,
    entry: impl Fn(u32, u32) -> u32,
) -> u32 {
    // The last thread ends with the last word; zeros in front of the first word do not change the CRC.
    let rows = words.div_ceil(REGION_THREADS);
    let mut at = thread.wrapping_sub(rows * REGION_THREADS - words);
    let mut sum = 0;
    for _ in 0..rows {
        let byte = |number: u32| entry(sum >> (8 * number) & 0xFF, number);
        sum = byte(0) ^ byte(1) ^ byte(2) ^ byte(3);
        if at < words {
            // The CRC starts with ones.
            sum ^= word(at) ^ if at == 0 { u32::MAX } else { 0 };
        }
        at = at.wrapping_add(REGION_THREADS);
    }
    let after = REGION_THREADS - 1 - thread;
    sum = multiply(sum, const { power(32) });
    unrolled::<8>(
        #[inline(always)]
        |bit| {
            if after >> bit & 1 != 0 {
                sum = multiply(sum, power_of_words(bit));
            }
        },
    );
    sum
}

/// Returns x to the power of the number of bits of `2 ^ exponent` words.
#[inline(always)]
fn power_of_words(exponent: usize) -> u32 {
    match exponent {
        0 => const { power(32) },
        1 => const { power(64) },
        2 => const { power(128) },
        3 => const { power(256) },
        4 => const { power(512) },
        5 => const { power(1024) },
        6 => const { power(2048) },
        _ => const { power(4096) },
    }
}

/// Returns the CRC, from the exclusive or of all threads' parts.
#[inline(always)]
#[must_use]
pub fn crc_of_sums(sums: u32) -> u32 {
    !sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the CRC bit by bit.
    fn crc(bytes: impl Iterator<Item = u8>) -> u32 {
        !bytes.fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 }
            })
        })
    }

    #[test]
    fn threads_add_up_to_the_crc() {
        assert_eq!(crc(b"123456789".iter().copied()), 0xE306_9283);
        for words in [0, 1, 2, 31, 32, 255, 256, 257, 511, 512, 4096, 20_000] {
            let word = |at: u32| at.wrapping_mul(0x9E37_79B9) ^ 0x5A5A_0F0F;
            let sums = (0..REGION_THREADS)
                .fold(0, |sums, t| sums ^ sum_of_thread(words, t, word, table_entry));
            let expected = crc((0..words).flat_map(|at| word(at).to_le_bytes()));
            // An empty region's CRC is 0: no word takes the initial ones.
            let found = if words == 0 { 0 } else { crc_of_sums(sums) };
            assert_eq!(found, expected, "{words} words");
        }
    }
}
