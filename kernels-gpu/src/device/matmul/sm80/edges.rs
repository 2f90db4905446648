//! The way through slabs that the mainloop cannot take by turns: at the layer's edges, stored raw, or with x
//! that is not aligned.

use super::mainloop::{Mainloop, Slab};
use crate::device::matmul::shared::exceptions::{Exceptions, patch};
use crate::device::matmul::shared::sums::{Sums, add, nothing};
use crate::device::payload::DeviceMemory;
use crate::device::ptx::{lane_anew, mma};
use crate::portable::slab::load_raw_of_fragment;
use crate::{IntegerOffset, Lane, unrolled};
use fused_rans_layout::{
    FRAGMENT, GROUP, Place, SLAB_ROWS, TILE, matrix_column, register_position,
};

impl<const B: usize, const S: usize> Mainloop<'_, B, S> {
    /// Any slab, fragment by fragment.
    #[inline(always)]
    pub(super) fn fragments(&self, slab: &Slab, sums: &mut Sums<B>) {
        let memory = slab.payload.memory(slab.rows);
        let mut exceptions = [Exceptions::new(slab.slot)];
        let (mut group, mut offsets) = (0, self.groups.offsets(slab.groups, 0));
        let mut chunk = nothing();
        let mut stream = if slab.payload.is_raw() { None } else { Some(Lane::new(&memory)) };
        for number in 0..slab.shape.fragments() {
            let (step, strip) = (number / slab.shape.strips, number % slab.shape.strips);
            if self.kind.grouped && strip == 0 && step == GROUP / FRAGMENT {
                add(sums, &mut chunk, &self.groups.scales(slab.groups, 0));
                (group, offsets) = (1, self.groups.offsets(slab.groups, 1));
            }
            let offsets = if strip == 0 { offsets[0] } else { offsets[1] };
            let mut operands = match &mut stream {
                Some(stream) => self.coded(slab, &memory, stream, number, offsets),
                None => self.stored(slab, number, offsets),
            };
            if exceptions[0].fragment == number as u32 {
                let (operand, offset) = (self.kind.operand, offsets[0]);
                let convert = |weights| self.format.exception(operand, weights, offset);
                let mut fragments = [[operands]];
                patch(&mut exceptions, [slab.slot], number as u32, &mut fragments, convert);
                [[operands]] = fragments;
            }
            self.mask_padding(slab, step, &mut operands);
            if self.kind.fragments {
                // SAFETY: as the kernels'.
                unsafe { self.write_fragment(slab.number, number as u32, operands) };
                continue;
            }
            let col = TILE * slab.col as usize
                + matrix_column(slab.shape.steps, step, 2 * (lane_anew() % 4));
            unrolled::<B>(
                #[inline(always)]
                |tile| {
                    let x = self.activations.step(self.arguments, tile, col as u32);
                    if strip == 0 {
                        chunk[0][tile] = mma(self.kind.operand, operands, x, chunk[0][tile]);
                    } else {
                        chunk[1][tile] = mma(self.kind.operand, operands, x, chunk[1][tile]);
                    }
                },
            );
        }
        add(sums, &mut chunk, &self.groups.scales(slab.groups, group));
    }

    /// The operands of a fragment of a coded tile.
    #[inline(always)]
    fn coded(
        &self,
        slab: &Slab,
        memory: &DeviceMemory,
        stream: &mut Lane,
        number: usize,
        offsets: [IntegerOffset; 2],
    ) -> [u32; 4] {
        let raw_bits = self.format.raw_bits();
        let raw = load_raw_of_fragment(memory, lane_anew(), slab.shape, raw_bits, number);
        let entries = stream.fragment(memory, self.format.table());
        self.format.operands(self.kind.operand, entries, &raw, 0, offsets)
    }

    /// The operands of a fragment of a tile that is stored as it is.
    #[inline(always)]
    fn stored(&self, slab: &Slab, number: usize, offsets: [IntegerOffset; 2]) -> [u32; 4] {
        let shape = slab.tile;
        let weights = slab.payload.weights();
        let weight = |register: usize, half: usize| {
            let place = Place { fragment: number, lane: lane_anew(), register, half };
            let (row, col) = slab.shape.position(place);
            let row = row + SLAB_ROWS * slab.in_tile as usize;
            if row >= shape.rows || col >= shape.cols {
                return 0;
            }
            let at = row * shape.cols + col;
            // SAFETY: the payload is the tile's weights, row by row.
            unsafe {
                match self.format.dtype().byte_len() {
                    2 => u32::from(*weights.cast::<u16>().add(at)),
                    _ => u32::from(*weights.add(at)),
                }
            }
        };
        let mut operands = [0; 4];
        unrolled::<4>(
            #[inline(always)]
            |register| {
                let weights = weight(register, 0) | weight(register, 1) << 16;
                let (row, operand) = (register % 2, self.kind.operand);
                operands[register] = self.format.operand(operand, weights, row == 1, offsets[row]);
            },
        );
        operands
    }

    /// Makes zeros of the weights beyond the last column: what stands in for them might be infinite.
    #[inline(always)]
    fn mask_padding(&self, slab: &Slab, step: usize, operands: &mut [u32; 4]) {
        let cols = self.arguments.cols as usize - TILE * slab.col as usize;
        for (register, operand) in operands.iter_mut().enumerate() {
            for half in 0..2 {
                let (_, col) = register_position(lane_anew(), register, half);
                if matrix_column(slab.shape.steps, step, col) >= cols {
                    *operand &= !(0xFFFF << (16 * half));
                }
            }
        }
    }
}
