//! The slow path, for slabs that the mainloop cannot take by panels: at the layer's edges, in tiles that are stored
//! raw, or with an x that is not aligned.

use super::mainloop::{Mainloop, Slab};
use crate::device::matmul::shared::exceptions::{Exceptions, patch};
use crate::device::matmul::shared::sums::{Sums, add, zero};
use crate::device::payload::DeviceMemory;
use crate::device::ptx::{load_global_u8, load_global_u16, mma, reread_lane};
use crate::portable::slab::load_raw_of_fragment;
use crate::{IntegerOffset, Lane, unrolled};
use fused_rans_layout::{
    FRAGMENT, GROUP, Place, SLAB_ROWS, TILE, matrix_column, register_position,
};

impl<const B: usize, const S: usize> Mainloop<'_, B, S> {
    /// Takes any slab, fragment by fragment.
    #[inline(always)]
    pub(super) fn by_fragments(&self, slab: &Slab, sums: &mut Sums<B>) {
        let memory = slab.payload.memory(slab.rows);
        let mut exceptions = [Exceptions::new(slab.slot)];
        let (mut group, mut offsets) = (0, self.groups.offsets(slab.groups, 0));
        let mut partials = zero();
        let mut stream = if slab.payload.is_raw() { None } else { Some(Lane::new(&memory)) };
        for number in 0..slab.shape.fragments() {
            let (step, strip) = (number / slab.shape.strips, number % slab.shape.strips);
            if self.kind.grouped && strip == 0 && step == GROUP / FRAGMENT {
                add(sums, &mut partials, &self.groups.scales(slab.groups, 0));
                (group, offsets) = (1, self.groups.offsets(slab.groups, 1));
            }
            let offsets = if strip == 0 { offsets[0] } else { offsets[1] };
            let mut operands = match &mut stream {
                Some(stream) => self.decode_fragment(slab, &memory, stream, number, offsets),
                None => self.load_fragment(slab, number, offsets),
            };
            if exceptions[0].fragment == number as u32 {
                let (mma_type, offset) = (self.kind.mma_type, offsets[0]);
                let convert = |weights| self.format.exception(mma_type, weights, offset);
                let mut fragments = [[operands]];
                patch(&mut exceptions, [slab.slot], number as u32, &mut fragments, convert);
                [[operands]] = fragments;
            }
            self.mask_padding(slab, step, &mut operands);
            if self.kind.fragments {
                // SAFETY: y has room for all fragments.
                unsafe { self.write_fragment(slab.number, number as u32, operands) };
                continue;
            }
            self.multiply(slab, step, strip, operands, &mut partials);
        }
        add(sums, &mut partials, &self.groups.scales(slab.groups, group));
    }

    /// Adds the products of a fragment to `partials`.
    #[inline(always)]
    fn multiply(
        &self,
        slab: &Slab,
        step: usize,
        strip: usize,
        operands: [u32; 4],
        partials: &mut Sums<B>,
    ) {
        let in_tile = matrix_column(slab.shape.steps, step, 2 * (reread_lane() % 4));
        let col = (TILE * slab.col as usize + in_tile) as u32;
        let mma_type = self.kind.mma_type;
        unrolled::<B>(
            #[inline(always)]
            |octet| {
                let x = self.activations.step(self.arguments, octet, col);
                if strip == 0 {
                    partials[0][octet] = mma(mma_type, operands, x, partials[0][octet]);
                } else {
                    partials[1][octet] = mma(mma_type, operands, x, partials[1][octet]);
                }
            },
        );
    }

    /// Decodes a fragment of a coded tile.
    #[inline(always)]
    fn decode_fragment(
        &self,
        slab: &Slab,
        memory: &DeviceMemory,
        stream: &mut Lane,
        number: usize,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let raw_bits = self.format.raw_bits();
        let raw = load_raw_of_fragment(memory, reread_lane(), slab.shape, raw_bits, number);
        let entries = stream.fragment(memory, self.format.table());
        self.format.operands(self.kind.mma_type, entries, &raw, 0, offsets)
    }

    /// Loads a fragment of a tile that is stored raw.
    #[inline(always)]
    fn load_fragment(&self, slab: &Slab, number: usize, offsets: [IntegerOffset; 2]) -> [u32; 4] {
        let shape = slab.tile;
        let weights = slab.payload.weights();
        let weight = |register: usize, half: usize| {
            let place = Place { fragment: number, lane: reread_lane(), register, half };
            let (row, col) = slab.shape.position(place);
            let row = row + SLAB_ROWS * slab.in_tile as usize;
            if row >= shape.rows || col >= shape.cols {
                return 0;
            }
            let at = row * shape.cols + col;
            // SAFETY: the payload is the tile's weights, row by row.
            unsafe {
                match self.format.dtype().byte_len() {
                    2 => load_global_u16(weights.cast::<u16>().wrapping_add(at)),
                    _ => load_global_u8(weights.wrapping_add(at)),
                }
            }
        };
        let mut operands = [0; 4];
        unrolled::<4>(
            #[inline(always)]
            |register| {
                let weights = weight(register, 0) | weight(register, 1) << 16;
                let (row, mma_type) = (register % 2, self.kind.mma_type);
                operands[register] = self.format.operand(mma_type, weights, row == 1, offsets[row]);
            },
        );
        operands
    }

    /// Zeros the weights beyond the last column: their padding might decode to infinities.
    #[inline(always)]
    fn mask_padding(&self, slab: &Slab, step: usize, operands: &mut [u32; 4]) {
        let cols = self.arguments.cols as usize - TILE * slab.col as usize;
        for (register, operand) in operands.iter_mut().enumerate() {
            for half in 0..2 {
                let (_, col) = register_position(reread_lane(), register, half);
                if matrix_column(slab.shape.steps, step, col) >= cols {
                    *operand &= !(0xFFFF << (16 * half));
                }
            }
        }
    }
}
