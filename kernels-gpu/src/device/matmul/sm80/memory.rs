//! A warp's parts of shared memory.
//!
//! A block has the decode table, then a ring for each warp, then a record and slots for each warp, then buffers of
//! rows of words. Addresses are computed where they are needed, because registers are short.

use crate::device::matmul::Arguments;
use crate::device::payload::{Rows, SlabPayload};
use crate::device::ptx::{reread_warp, reread_warps, shared_memory};
use fused_rans_layout::{
    LINE, SLAB_BYTES, TABLE, TileEntry, record_bytes, ring_bytes, slabs_bytes,
};

/// Sizes, from which the addresses of a warp's parts follow.
pub struct WarpMemory {
    /// Bytes of a ring.
    ring_bytes: u32,
    /// Bytes of a record and of all slots of a warp.
    slots_bytes: u32,
    /// Bytes of one slot.
    slot_bytes: u32,
    /// Rows of words of a slab's buffer.
    buffer_rows: u32,
}

/// Shared-memory addresses of a segment's slab slots.
#[derive(Clone, Copy)]
pub struct Slots {
    first: u32,
    stride: u32,
}

impl Slots {
    /// Loads the saved descriptor of slab `s`.
    ///
    /// # Safety
    /// The segment has such a slab, it is located, and the warp has passed a barrier since.
    #[inline(always)]
    pub unsafe fn slab(self, s: usize) -> SlabPayload {
        // SAFETY: the caller's promise.
        unsafe { SlabPayload::load(self.at(s)) }
    }

    /// Loads where the rows of words of slab `s` go.
    ///
    /// # Safety
    /// As for [`Slots::slab`].
    #[inline(always)]
    pub unsafe fn rows(self, s: usize) -> Rows {
        // SAFETY: the caller's promise.
        unsafe { SlabPayload::load_rows(self.at(s)) }
    }

    /// Returns the address of the scales and zero points of slab `s`.
    #[inline(always)]
    pub fn groups(self, s: usize) -> u32 {
        self.at(s) + SLAB_BYTES as u32
    }

    /// Returns the address of the slot of slab `s`.
    #[inline(always)]
    pub fn at(self, s: usize) -> u32 {
        self.first + s as u32 * self.stride
    }
}

impl WarpMemory {
    #[inline(always)]
    pub fn new<const B: usize, const S: usize>(
        raw_bits: u32,
        grouped: bool,
        arguments: &Arguments,
    ) -> Self {
        let slots_bytes = slabs_bytes(B, grouped) as u32;
        Self {
            ring_bytes: ring_bytes(B, raw_bits) as u32,
            slots_bytes,
            slot_bytes: (slots_bytes - record_bytes(B) as u32) / (2 * S) as u32,
            buffer_rows: arguments.buffer_rows,
        }
    }

    /// Returns the address of the ring.
    #[inline(always)]
    pub fn ring(&self) -> u32 {
        shared_memory() + 4 * TABLE as u32 + reread_warp() * self.ring_bytes
    }

    /// Returns the address of the record. Tail lengths and slots follow it.
    #[inline(always)]
    pub fn record(&self) -> u32 {
        let rings = shared_memory() + 4 * TABLE as u32 + reread_warps() * self.ring_bytes;
        rings + reread_warp() * self.slots_bytes
    }

    /// Returns the address of the tail lengths of the first slab; those of the others follow.
    #[inline(always)]
    pub fn tail_lengths(&self) -> u32 {
        self.record() + size_of::<TileEntry>() as u32
    }

    /// Returns the slots of a segment's slabs.
    #[inline(always)]
    pub fn slots<const S: usize>(&self, parity: u32) -> Slots {
        let stride = self.slot_bytes;
        let slots = self.record() + self.slots_bytes - 2 * S as u32 * stride;
        Slots { first: slots + parity * S as u32 * stride, stride }
    }

    /// Returns where the rows of words of `slab`, slab `s` of a segment, go. Segments alternate: the rows of
    /// one descend to the start of the buffer, those of the next one ascend to its end. So the rows that are
    /// read last are not in the way of the next segment's first rows.
    #[inline(always)]
    pub fn rows<const S: usize>(&self, s: usize, slab: &SlabPayload, parity: u32) -> Rows {
        let warps = reread_warps();
        let buffers =
            shared_memory() + 4 * TABLE as u32 + warps * (self.ring_bytes + self.slots_bytes);
        let (line, number) = (LINE as u32, reread_warp() * S as u32 + s as u32);
        let start = buffers + number * self.buffer_rows * line;
        if parity == 0 {
            Rows { first: start + (slab.rows() - 1) * line, stride: line.wrapping_neg() }
        } else {
            Rows { first: start + (self.buffer_rows - slab.rows()) * line, stride: line }
        }
    }
}
