//! A resident layer, as kernels read it.

use crate::WeightFormat;
use core::ptr::with_exposed_provenance;
use fused_rans_layout::{
    Dtype, GroupPlane, LayerFlags, LeanLayer, PANELS, SlabEntry, TILE, TableKind, UNIT, panels,
};

/// [`LeanLayer`], with pointers in place of addresses.
#[derive(Clone, Copy)]
pub struct ResidentLayer {
    slabs: *const u8,
    index: *const SlabEntry,
    pub table: *const u32,
    pub groups: *const u8,
    pub scale: *const f32,
    pub bias: *const f32,
    pub rows: u32,
    pub cols: u32,
    exponent_base: u32,
    /// Lines of a buffer for a slab's words and what comes with them.
    pub buffer_rows: u32,
    flags: LayerFlags,
}

impl ResidentLayer {
    #[inline(always)]
    pub fn new(layer: &LeanLayer) -> Self {
        Self {
            slabs: with_exposed_provenance(layer.slabs as usize),
            index: with_exposed_provenance(layer.index as usize),
            table: with_exposed_provenance(layer.table as usize),
            groups: with_exposed_provenance(layer.groups as usize),
            scale: with_exposed_provenance(layer.scale as usize),
            bias: with_exposed_provenance(layer.bias as usize),
            rows: layer.rows,
            cols: layer.cols,
            exponent_base: layer.exponent_base,
            buffer_rows: layer.buffer_rows,
            flags: layer.flags,
        }
    }

    /// Returns the format of its weights; `raw_bits` is read for I8 only.
    #[inline(always)]
    pub fn format(&self, dtype: Dtype, table: TableKind, raw_bits: u32) -> WeightFormat {
        let zero = self.flags.contains(LayerFlags::ZERO_EXPONENT);
        WeightFormat::new(dtype, table, raw_bits, self.exponent_base, zero)
    }

    #[inline(always)]
    pub fn has_zero_points(&self) -> bool {
        self.flags.contains(LayerFlags::ZERO_POINTS)
    }

    /// Returns the bytes of a slab's scales and zero points, in a layer that has some.
    #[inline(always)]
    pub fn group_bytes(&self) -> u32 {
        GroupPlane { zeros: self.has_zero_points() }.bytes() as u32
    }

    /// Returns the address of unit `unit` of the slabs.
    #[inline(always)]
    pub fn unit(&self, unit: u32) -> *const u8 {
        self.slabs.wrapping_add(unit as usize * UNIT)
    }

    /// Returns the address of the entry of slab `number`.
    #[inline(always)]
    pub fn entry(&self, number: u32) -> *const SlabEntry {
        self.index.wrapping_add(number as usize)
    }

    /// Returns the panels of the slabs in column `col` of tiles.
    #[inline(always)]
    pub fn panels(&self, col: u32) -> u32 {
        let rest = self.cols - col * TILE as u32;
        if rest >= TILE as u32 {
            PANELS as u32
        } else {
            panels(rest.div_ceil(fused_rans_layout::FRAGMENT as u32) as usize) as u32
        }
    }
}
