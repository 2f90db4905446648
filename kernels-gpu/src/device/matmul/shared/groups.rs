//! Scales and zero points of a lane's groups: rows g and g + 8 of both strips of a slab.

use super::sums::RowScales;
use crate::device::matmul::Kind;
use crate::device::ptx::{f16_to_f32, load_shared_words, reread_lane};
use crate::{IntegerOffset, WeightFormat};
use fused_rans_layout::{Dtype, GroupPlane, SLAB_STRIPS};

/// Offsets of integers, by zero point.
pub type Offsets = [[IntegerOffset; 2]; SLAB_STRIPS];

/// Loads scales and zero points of a slab from shared memory, where [`GroupPlane`] says how they lie. They must have been
/// waited for.
#[derive(Clone, Copy)]
pub struct Groups<'a, A> {
    pub kind: Kind,
    pub arguments: &'a A,
    pub format: WeightFormat,
}

/// Arguments that say whether groups have zero points beside their scales.
pub trait HasZeroPoints {
    fn has_zero_points(&self) -> bool;
}

impl<A: HasZeroPoints> Groups<'_, A> {
    /// Loads the scales of group `number` of the slab whose scales are at address `at`; without groups, 1.
    #[inline(always)]
    pub fn scales(&self, at: u32, number: u32) -> RowScales {
        let mut scales = [[1.0; 2]; SLAB_STRIPS];
        if self.kind.grouped {
            let g = reread_lane() as u32 / 4;
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

    /// Loads the zero points of that group, as offsets.
    #[inline(always)]
    pub fn offsets(&self, at: u32, number: u32) -> Offsets {
        if self.format.dtype() != Dtype::I8 {
            return [[IntegerOffset::default(); 2]; SLAB_STRIPS];
        }
        let offset =
            |half, zero| IntegerOffset::new(self.kind.mma_type, &self.format, half == 1, zero);
        let mut offsets = [[offset(0, 0), offset(1, 0)]; SLAB_STRIPS];
        if self.kind.grouped && self.arguments.has_zero_points() {
            let g = reread_lane() as u32 / 4;
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
