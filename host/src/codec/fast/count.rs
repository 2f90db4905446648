//! Counting of bytes.

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

    /// Returns the count of each value.
    pub fn sums(&self) -> [u64; 256] {
        core::array::from_fn(|value| self.0.iter().map(|counts| u64::from(counts[value])).sum())
    }
}
