//! Counting of bytes.

/// Values that [`Counter::add_near`] compares with: weights hardly ever have more exponents.
const NEAR: usize = 16;

/// Values that are compared at once.
const LINE: usize = 64;

/// Values that [`Counter::add_near`] counts with one range of values: so few that a count of one in [`LINE`] fits in a byte.
const BLOCK: usize = LINE * 255;

/// Counts of byte values, for less than 2^32 bytes. Each value has four counters: neighbors are often equal, and with
/// one counter the second increment would wait for the first.
pub struct Counter([[u32; 256]; 4]);

impl Counter {
    /// Creates counters of zero.
    pub fn new() -> Self {
        Self([[0; 256]; 4])
    }

    /// Counts `values`.
    #[inline(always)]
    pub fn add(&mut self, values: &[u8]) {
        let (fours, rest) = values.as_chunks::<4>();
        for four in fours {
            for (counts, &value) in self.0.iter_mut().zip(four) {
                counts[usize::from(value)] += 1;
            }
        }
        for &value in rest {
            self.0[0][usize::from(value)] += 1;
        }
    }

    /// Counts `values` of which nearly all are among the [`NEAR`] values up to the largest one, as exponents of weights are:
    /// compares all values with each of these, which vectorizes and takes a fifth of the time of [`Self::add`].
    #[inline(always)]
    pub fn add_near(&mut self, values: &[u8]) {
        for block in values.chunks(BLOCK) {
            let (lines, rest) = block.as_chunks::<LINE>();
            let largest = block.iter().fold(0, |largest, &value| largest.max(value));
            let least = largest.saturating_sub(NEAR as u8 - 1);
            let mut counts = [[0_u8; LINE]; NEAR];
            for line in lines {
                for (value, counts) in (least..=u8::MAX).zip(&mut counts) {
                    for (count, &found) in counts.iter_mut().zip(line) {
                        *count += u8::from(found == value);
                    }
                }
            }
            let counts = counts.map(|counts| counts.iter().map(|&count| u32::from(count)).sum());
            let sum: u32 = counts.iter().sum();
            if sum as usize != lines.len() * LINE {
                self.add(block);
                continue;
            }
            for (count, total) in counts.into_iter().zip(&mut self.0[0][usize::from(least)..]) {
                *total += count;
            }
            self.add(rest);
        }
    }

    /// Returns the count of each value.
    pub fn sums(&self) -> [u64; 256] {
        core::array::from_fn(|value| self.0.iter().map(|counts| u64::from(counts[value])).sum())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_count_the_same(
            mut values in prop::collection::vec(0..=40_u8, 0..40_000),
            from in 0..=255_u8,
            few in any::<bool>(),
        ) {
            for value in &mut values {
                *value = if few { *value % 16 } else { *value }.saturating_add(from);
            }
            let (mut one, mut other) = (Counter::new(), Counter::new());
            one.add(&values);
            other.add_near(&values);
            prop_assert_eq!(one.sums(), other.sums());
        }
    }
}
