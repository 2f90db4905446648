//! Sums of the rows that a warp decodes and `B` times 8 rows of x.

use crate::unrolled;
use fused_rans_layout::SLAB_STRIPS;

/// The D fragments of a slab's strips, as a lane has them: of each four numbers, the first two are row g's, the
/// others row g + 8's, at rows 2t and 2t + 1 of x.
pub type Sums<const B: usize> = [[[f32; 4]; B]; SLAB_STRIPS];

/// No sums.
#[inline(always)]
pub fn nothing<const B: usize>() -> Sums<B> {
    [[[0.0; 4]; B]; SLAB_STRIPS]
}

/// Factors of the rows of a slab that a lane has: of rows g and g + 8 of both strips.
pub type RowScales = [[f32; 2]; SLAB_STRIPS];

/// Adds `chunk` times `scales` to `total`, and makes nothing of `chunk`.
#[inline(always)]
pub fn add<const B: usize>(total: &mut Sums<B>, chunk: &mut Sums<B>, scales: &RowScales) {
    for_each_tile::<B>(
        #[inline(always)]
        |strip, tile| {
            let [upper, lower] = scales[strip];
            let [e, f, g, h] = core::mem::replace(&mut chunk[strip][tile], [0.0; 4]);
            let [a, b, c, d] = total[strip][tile];
            total[strip][tile] = [a + upper * e, b + upper * f, c + lower * g, d + lower * h];
        },
    );
}

/// Calls `f` with every strip and every 8 rows of x.
#[inline(always)]
pub fn for_each_tile<const B: usize>(mut f: impl FnMut(usize, usize)) {
    unrolled::<B>(
        #[inline(always)]
        |tile| {
            f(0, tile);
            f(1, tile);
        },
    );
}
