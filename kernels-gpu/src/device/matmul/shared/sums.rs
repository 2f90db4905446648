//! Sums of the rows that a warp decodes and `B` octets.

use crate::unrolled;
use fused_rans_layout::SLAB_STRIPS;

/// A lane's part of the D fragments of a slab's strips. Of four sums, the first two are those of row g, the others those
/// of row g + 8, for rows 2t and 2t + 1 of x.
pub type Sums<const B: usize> = [[[f32; 4]; B]; SLAB_STRIPS];

/// Returns sums of 0.
#[inline(always)]
pub fn zero<const B: usize>() -> Sums<B> {
    [[[0.0; 4]; B]; SLAB_STRIPS]
}

/// Factors of a lane's rows of a slab: rows g and g + 8 of both strips.
pub type RowScales = [[f32; 2]; SLAB_STRIPS];

/// Adds `partials` times `scales` to `total`, and zeros `partials`.
#[inline(always)]
pub fn add<const B: usize>(total: &mut Sums<B>, partials: &mut Sums<B>, scales: &RowScales) {
    for_each_fragment::<B>(
        #[inline(always)]
        |strip, octet| {
            let [upper, lower] = scales[strip];
            let [e, f, g, h] = core::mem::replace(&mut partials[strip][octet], [0.0; 4]);
            let [a, b, c, d] = total[strip][octet];
            total[strip][octet] = [a + upper * e, b + upper * f, c + lower * g, d + lower * h];
        },
    );
}

/// Calls `f` with every strip and octet.
#[inline(always)]
pub fn for_each_fragment<const B: usize>(mut f: impl FnMut(usize, usize)) {
    unrolled::<B>(
        #[inline(always)]
        |octet| {
            f(0, octet);
            f(1, octet);
        },
    );
}
