//! Scales and zero points of groups, where they are: of a slab's rows g and g + 8 of both strips.

use super::sums::RowScales;
use crate::device::matmul::{Arguments, Kind};
use crate::device::ptx::{f16_to_f32, lane_anew, load_shared_words};
use crate::{IntegerOffset, WeightFormat};
use fused_rans_layout::{Dtype, GroupPlane, SLAB_STRIPS};

/// What integers are taken from, by zero point.
pub type Offsets = [[IntegerOffset; 2]; SLAB_STRIPS];

/// Finds scales and zero points of a slab, which are in shared memory as [`GroupPlane`] has them, and have been
/// waited for.
pub struct Groups<'a> {
    pub kind: Kind,
    pub arguments: &'a Arguments,
    pub format: WeightFormat,
}

impl Groups<'_> {
    /// The scales of group `number` of the slab whose are at `at`.
    #[inline(always)]
    pub fn scales(&self, at: u32, number: u32) -> RowScales {
        let mut scales = [[1.0; 2]; SLAB_STRIPS];
        if self.kind.grouped {
            let g = lane_anew() as u32 / 4;
            // SAFETY: the scales are there.
            let words: [u32; 2] = unsafe { load_shared_words(at + 16 * g + 8 * number) };
            for strip in 0..SLAB_STRIPS {
                for half in 0..2 {
                    scales[strip][half] = f16_to_f32((words[strip] >> (16 * half)) as u16);
                }
            }
        }
        scales
    }

    /// Likewise, the zero points.
    #[inline(always)]
    pub fn offsets(&self, at: u32, number: u32) -> Offsets {
        if self.format.dtype() != Dtype::I8 {
            return [[IntegerOffset::default(); 2]; SLAB_STRIPS];
        }
        let offset =
            |half, zero| IntegerOffset::new(self.kind.operand, &self.format, half == 1, zero);
        let mut offsets = [[offset(0, 0), offset(1, 0)]; SLAB_STRIPS];
        if self.kind.grouped && self.arguments.zero_points() {
            let g = lane_anew() as u32 / 4;
            // SAFETY: the zero points are there.
            let [zeros] = unsafe { load_shared_words(at + GroupPlane::SCALE_BYTES as u32 + 4 * g) };
            let zeros = zeros >> (16 * number);
            for strip in 0..SLAB_STRIPS {
                for half in 0..2 {
                    let zero = (zeros >> (8 * strip + 4 * half) & 15) as i32 - 8;
                    offsets[strip][half] = offset(half, zero);
                }
            }
        }
        offsets
    }
}
