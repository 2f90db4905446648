//! Regions of device memory whose checksums a kernel verifies.

use crate::LANES;
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

/// A region of device memory and its expected checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// Address, a multiple of 4.
    pub address: u64,
    /// Length in words of 4 bytes.
    pub words: u32,
    /// CRC-32C.
    pub crc: u32,
}

const _: () = assert!(
    size_of::<Region>() == 16 && offset_of!(Region, words) == 8 && offset_of!(Region, crc) == 12
);

// SAFETY: all fields are integers, for which zeros are a value.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Zeroable for Region {}
// SAFETY: `repr(C)`, all fields are integers, and the assertion above shows that there is no padding.
#[allow(unsafe_code, reason = "bytemuck's derive macro would be a dependency of every user")]
unsafe impl Pod for Region {}

/// Threads of a block that verifies a region.
pub const REGION_THREADS: u32 = 256;
/// Bytes of shared memory of such a block: a table for each byte of a word, and a word for each warp.
pub const REGION_SHARED_MEMORY: u32 = 4 * (4 * 256 + REGION_THREADS / LANES as u32);
