//! Sums of a slab's 32 rows and `B` times 8 rows of x.

use crate::device::instructions::{load_shared_4, shared_memory, store_shared_4, thread};
use crate::device::unrolled;
use fused_rans_layout::{LANES, SLAB_STRIPS, TABLE, sum_bytes};

/// The D fragments of both strips, as a lane has them: of each four numbers, the first two are row g's, the
/// others row g + 8's, at rows 2t and 2t + 1 of x.
pub type Sums<const B: usize> = [[[f32; 4]; B]; SLAB_STRIPS];

const NOTHING: [f32; 4] = [0.0; 4];

/// No sums.
#[inline(always)]
pub fn nothing<const B: usize>() -> Sums<B> {
    [[NOTHING; B]; SLAB_STRIPS]
}

/// Factors of the rows of a slab that a lane has: of rows g and g + 8 of both strips.
pub type RowScales = [[f32; 2]; SLAB_STRIPS];

/// A lane's sums over slabs, in shared memory, since registers are short in the mainloop.
#[derive(Clone, Copy)]
pub struct SharedSums<const B: usize> {
    own: u32,
}

impl<const B: usize> SharedSums<B> {
    /// Bytes of a warp's sums.
    pub const WARP_BYTES: u32 = sum_bytes(B) as u32;

    /// This lane's.
    #[inline(always)]
    pub fn new() -> Self {
        let (warp, lane) = ((thread() / LANES) as u32, (thread() % LANES) as u32);
        Self { own: shared_memory() + 4 * TABLE as u32 + warp * Self::WARP_BYTES + 16 * lane }
    }

    #[inline(always)]
    fn at(self, strip: usize, tile: usize) -> u32 {
        self.own + (16 * LANES * (B * strip + tile)) as u32
    }

    #[inline(always)]
    pub fn clear(self) {
        for_each_tile::<B>(
            #[inline(always)]
            |strip, tile| {
                // SAFETY: the host gives every warp room for its sums, behind the table.
                unsafe { store_shared_4(self.at(strip, tile), NOTHING) };
            },
        );
    }

    /// Adds `sums` times `scales`, and makes nothing of `sums`.
    #[inline(always)]
    pub fn add(self, sums: &mut Sums<B>, scales: &RowScales) {
        for_each_tile::<B>(
            #[inline(always)]
            |strip, tile| {
                // SAFETY: as above.
                let [a, b, c, d] = unsafe { load_shared_4(self.at(strip, tile)) };
                let [upper, lower] = scales[strip];
                let [e, f, g, h] = core::mem::replace(&mut sums[strip][tile], NOTHING);
                let total = [a + upper * e, b + upper * f, c + lower * g, d + lower * h];
                // SAFETY: as above.
                unsafe { store_shared_4(self.at(strip, tile), total) };
            },
        );
    }

    #[inline(always)]
    pub fn load(self) -> Sums<B> {
        let mut sums = nothing();
        for_each_tile::<B>(
            #[inline(always)]
            |strip, tile| {
                // SAFETY: as above.
                sums[strip][tile] = unsafe { load_shared_4(self.at(strip, tile)) };
            },
        );
        sums
    }
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
