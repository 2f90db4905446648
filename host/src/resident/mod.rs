//! Resident layers: a blob, rearranged for the kernels that read it from device memory.
//!
//! A blob is laid out to be small and to be checked tile by tile; a kernel wants each slab in one piece, located by a
//! single record. [`ResidentPlan`] computes sizes and records from the blob's index alone, so that a caller can
//! allocate device memory before it reads any payload. It then fills one row of tiles at a time, each of which is one
//! range of bytes: the chunk of an upload. [`ResidentPlan::build`] makes the whole layer at once.
//!
//! Slabs lie in the order of their entries: row of slabs by row of slabs, each from left to right.
//!
//! Most slabs are *coded*: rows of words and raw planes are those of the blob, and only move. A slab is *plain*, with
//! its weights uncoded in fragment order, where the kernels could not decode it: see [`ResidentPlan::new`].

mod exceptions;
mod plain;
mod plan;
mod reader;
#[cfg(test)]
mod tests;
mod write;

pub use plan::ResidentPlan;
pub use reader::read_exceptions;

use crate::BlobError;
use fused_rans_layout::SlabEntry;

/// A layer in the resident layout, in host memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResidentLayer {
    /// The slabs, in the order of `index`.
    pub slabs: Vec<u8>,
    /// An entry per slab: the slab in row `r` of slabs and column `c` of tiles has number `r * across + c`.
    pub index: Vec<SlabEntry>,
    /// Scales and zero points, a [`GroupPlane`](fused_rans_layout::GroupPlane) per slab; empty without groups.
    pub groups: Vec<u8>,
    /// Lines of a buffer that has room for any slab's words, and exceptions or raw planes that are copied with them.
    pub buffer_rows: u32,
}

/// Allocates room for `len` elements. Fails instead of aborting.
fn reserve<T>(len: usize) -> Result<Vec<T>, BlobError> {
    let mut all = Vec::new();
    let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
    all.try_reserve_exact(len).map_err(|_| BlobError::Memory { bytes })?;
    Ok(all)
}

/// Reads word number `index` of `bytes`.
fn word_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}
