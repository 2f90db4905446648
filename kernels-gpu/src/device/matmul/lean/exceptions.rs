//! Products of a slab's exceptions.

use crate::device::matmul::Kind;
use crate::device::matmul::shared::sums::Sums;
use crate::device::ptx::{add_if, load_shared_u16, reread_lane, to_f32, warp_barrier};
use crate::device::resident::{Exception, Exceptions};
use crate::{MmaType, unrolled};
use fused_rans_layout::{Dtype, ROW_CLASSES, x_row_bytes, x_stage_columns};

/// Adds the products of those exceptions of a slab whose activations are in the stage at address `stage`, which starts with
/// place `first` of the tile. All lanes of the warp must be here.
///
/// A lane has sums of the rows of one class, and takes the exceptions of these.
#[inline(always)]
pub fn add_exceptions<const B: usize>(
    kind: Kind,
    exceptions: Exceptions,
    stage: u32,
    first: u32,
    sums: &mut Sums<B>,
) {
    let (g, t) = (reread_lane() as u32 / 4, reread_lane() as u32 % 4);
    let x = stage + 2 * t * x_row_bytes(B) as u32;
    exceptions.for_each_of_class(
        g,
        #[inline(always)]
        |exception| {
            let place = exception.place.wrapping_sub(first);
            if place < x_stage_columns(B) as u32 {
                add::<B>(kind, exception, x + 2 * place, sums);
            }
        },
    );
    // What follows takes the whole warp.
    warp_barrier();
}

/// Adds the products of an exception and the lane's rows of x. The first of these has its activation at address `x`.
#[inline(always)]
fn add<const B: usize>(kind: Kind, exception: Exception, x: u32, sums: &mut Sums<B>) {
    let mut bits = [[0; 2]; B];
    // All loads first, so that the warp waits once.
    unrolled::<B>(
        #[inline(always)]
        |octet| {
            unrolled::<2>(
                #[inline(always)]
                |low| {
                    let x = x + ((8 * octet + low) * x_row_bytes(B)) as u32;
                    // SAFETY: a place in the stage, which was filled. In a row that x lacks it may hold anything, and so may the
                    // sum, which is not stored.
                    bits[octet][low] = unsafe { load_shared_u16(x) };
                },
            );
        },
    );
    let factors = [f32::from_bits(exception.difference), of_infinities(kind.dtype, exception)];
    unrolled::<B>(
        #[inline(always)]
        |octet| {
            unrolled::<2>(
                #[inline(always)]
                |low| {
                    let product = product(kind.mma_type, factors, bits[octet][low]);
                    unrolled::<4>(
                        #[inline(always)]
                        |i| {
                            let sum = &mut sums[i / 2][octet][2 * (i % 2) + low];
                            add_if(exception.row / ROW_CLASSES as u32 == i as u32, product, sum);
                        },
                    );
                },
            );
        },
    );
}

/// Returns the product of an activation and the factor that counts for it: for finite ones, for others.
#[inline(always)]
fn product(mma_type: MmaType, [finite, infinite]: [f32; 2], x: u32) -> f32 {
    let infinity = match mma_type {
        MmaType::Bf16 => 0x7F80,
        MmaType::F16 => 0x7C00,
    };
    let factor = if x & 0x7FFF < infinity { finite } else { infinite };
    factor * to_f32(mma_type, x as u16)
}

/// Returns the factor of infinite activations. The product of such a one and the decoded weight is infinite, too: what counts
/// is the sign of the exception, and whether it is 0.
#[inline(always)]
fn of_infinities(dtype: Dtype, exception: Exception) -> f32 {
    let Exception { difference, weight, .. } = exception;
    let (sign, is_zero) = match dtype {
        Dtype::Bf16 | Dtype::F16 => (weight >> 15, weight & 0x7FFF == 0),
        Dtype::F8E4M3 => (weight >> 7 & 1, weight & 0x7F == 0),
        // The high byte has the sign of a large integer, and is 0 for others.
        Dtype::I8 if weight >> 8 != 0 => (weight >> 15, false),
        Dtype::I8 => (weight >> 7, weight == 0),
    };
    let difference = f32::from_bits(difference);
    if difference.is_nan() {
        difference
    } else if is_zero {
        0.0
    } else {
        f32::from_bits(1.0f32.to_bits() | sign << 31)
    }
}
