//! Products of exceptions. Does the same as `exceptions` in `kernels-gpu/src/device/matmul/lean/finish.rs`.

use super::matmul::{Matmul, Part, Sums};
use crate::lanes::number;
use fused_rans::Dtype;
use fused_rans::layout::{FRAGMENT, LANES, ResidentException, SLAB_ROWS, SPAN, TILE};
use fused_rans_kernels::MmaType;

impl Matmul<'_> {
    /// Returns the products of the exceptions of a part: what the sums start with.
    pub fn exceptions(&self, part: Part) -> Sums {
        let mut sums = self.zero();
        let layer = self.layer.resident;
        if layer.exceptions.starts.is_empty() {
            return sums;
        }
        let (first, last) = (part.from as usize * TILE, part.to as usize * TILE);
        let row = part.slab_row(self.partition) * SLAB_ROWS;
        for (lane, i) in (0..LANES).flat_map(|lane| (0..4).map(move |i| (lane, i))) {
            let (strip, half) = (i / 2, i % 2);
            let row = row + lane / 4 + FRAGMENT * strip + 8 * half;
            if row >= self.layer.blob.rows() {
                continue;
            }
            for span in first / SPAN..last.div_ceil(SPAN) {
                for (col, exception) in self.of_row(row, span) {
                    if (first..last).contains(&col) {
                        self.add_exception(&mut sums[strip], (lane, half), col, exception);
                    }
                }
            }
        }
        sums
    }

    /// Lists the exceptions of a row in a span: (column, exception).
    fn of_row(&self, row: usize, span: usize) -> impl Iterator<Item = (usize, ResidentException)> {
        let table = &self.layer.resident.exceptions;
        let start = span * self.layer.blob.rows() + row;
        let own = table.starts[start] as usize..table.starts[start + 1] as usize;
        let own = table.exceptions[own].iter();
        own.map(move |&exception| (span * SPAN + usize::from(exception.col), exception))
    }

    /// Adds the products of an exception and a lane's rows of x. `sums` are those of the exception's strip.
    fn add_exception(
        &self,
        sums: &mut [[[f32; 4]; LANES]],
        (lane, half): (usize, usize),
        col: usize,
        exception: ResidentException,
    ) {
        for (octet, low) in (0..sums.len()).flat_map(|octet| [(octet, 0), (octet, 1)]) {
            let m = 8 * octet + 2 * (lane % 4) + low;
            if m < self.x.rows {
                let x = self.x.bits[m * self.x.row_stride + col];
                sums[octet][lane][2 * half + low] += self.product(exception, x);
            }
        }
    }

    /// Returns what an exception adds to the product of the weight that was decoded in its place. With an activation that is
    /// infinite, that product is, too: what counts then is the sign of the weight, and whether it is 0.
    fn product(&self, exception: ResidentException, x: u16) -> f32 {
        let (magnitude, mma_type) = (x & 0x7FFF, self.layer.mma_type);
        let infinity = match mma_type {
            MmaType::Bf16 => 0x7F80,
            MmaType::F16 => 0x7C00,
        };
        let x = number(mma_type, x.into()) as f32;
        let (factor, weight) = (f32::from_bits(exception.difference), exception.weight);
        if magnitude < infinity || factor.is_nan() {
            return factor * x;
        }
        let (is_negative, is_zero) = match self.layer.format.dtype() {
            Dtype::Bf16 | Dtype::F16 => (weight >> 15 == 1, weight & 0x7FFF == 0),
            Dtype::F8E4M3 => (weight >> 7 & 1 == 1, weight & 0x7F == 0),
            Dtype::I8 if weight >> 8 != 0 => (weight >> 15 == 1, false),
            Dtype::I8 => (weight >> 7 == 1, weight == 0),
        };
        let sign = if is_negative { -1.0 } else { 1.0 };
        (if is_zero { 0.0 } else { sign }) * x
    }
}
