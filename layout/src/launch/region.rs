//! Regions of memory whose checksums kernels compute.

use bytemuck::{Pod, Zeroable};

/// A region of device memory and what its checksum should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Region {
    /// Where it starts, a multiple of 4.
    pub address: u64,
    /// Its words of 4 bytes.
    pub words: u32,
    /// Its CRC-32C.
    pub crc: u32,
}

/// Threads that go through a region together.
pub const REGION_THREADS: u32 = 256;
/// Bytes of shared memory that they share: a table for each byte of a word, and a word for each warp.
pub const REGION_SHARED_MEMORY: u32 = 4 * (4 * 256 + REGION_THREADS / 32);
