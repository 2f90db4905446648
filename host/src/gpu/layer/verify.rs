//! Checking that a layer's device memory holds what was copied there.

use super::super::kernels::{LaunchSize, SharedMemory};
use super::super::{CudaStream, DeviceSlice, GpuError, LayerPart};
use super::{BlobForm, Form, Layer};
use crate::blob::header::{HEADER_BYTES, TABLE_BYTES};
use fused_rans_layout::{
    ChecksumArgs, KernelId, LINE, REGION_SHARED_MEMORY, REGION_THREADS, Region, TileEntry,
};

/// Most bytes of a region, which one block of threads checks.
const REGION: usize = 1 << 16;

/// Checksums of the parts of a layer in device memory. The index has those of the tiles.
#[derive(Debug)]
pub struct Checksums {
    /// Checksum of everything before the first tile of a blob.
    pub front: Option<u32>,
    /// Regions of tables, scale and bias, and of all parts of a resident layer, with their checksums.
    pub parts: Vec<(LayerPart, Region)>,
}

impl Layer {
    /// Checks that the layer's device memory has not changed since the upload. Use it to find out whether memory or
    /// another kernel is faulty when outputs are wrong. The device computes a checksum of each tile and each other
    /// part, about as fast as it reads memory. Waits for the result.
    ///
    /// # Errors
    /// [`GpuError::Damaged`] names the first part that differs; [`GpuError::TooManyTiles`], [`GpuError::OutOfMemory`]
    /// and [`GpuError::Driver`].
    pub fn verify(&self) -> Result<(), GpuError> {
        self.verify_on(&self.gpu.internal_stream())
    }

    /// Checks the layer's device memory in the order of a CUDA stream, and waits for that.
    pub(super) fn verify_on(&self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        self.gpu.enter()?;
        self.ready.order(cuda_stream)?;
        let tiles = match &self.form {
            Form::Blob(blob) => self.tile_regions(blob, cuda_stream)?,
            Form::Resident(_) => Vec::new(),
        };
        let parts = &self.checksums.parts;
        let regions: Vec<Region> = parts.iter().map(|&(_, region)| region).chain(tiles).collect();
        match self.first_damaged(&regions, cuda_stream)? {
            None => Ok(()),
            Some(number) => {
                let part = parts.get(number).map(|&(part, _)| part);
                let part = part.unwrap_or_else(|| LayerPart::Tile(number - parts.len()));
                Err(GpuError::Damaged { part })
            }
        }
    }

    /// Verifies the front of a blob, and returns the regions of its tiles, whose checksums are there.
    fn tile_regions(
        &self,
        blob: &BlobForm,
        cuda_stream: &CudaStream,
    ) -> Result<Vec<Region>, GpuError> {
        let mut front = vec![0; blob.front_bytes];
        read(self.memory.as_slice().slice(0..front.len()), &mut front, cuda_stream)?;
        if Some(crc32c::crc32c(&front)) != self.checksums.front {
            return Err(GpuError::Damaged { part: LayerPart::Front });
        }
        let start = self.memory.address();
        let index = &front[HEADER_BYTES + TABLE_BYTES..];
        let index = &index[..blob.tiles as usize * size_of::<TileEntry>()];
        let tile = |record| {
            let TileEntry { offset, lines, crc, .. } = bytemuck::pod_read_unaligned(record);
            let words = (LINE / 4) as u32 * u32::from(lines);
            Region { address: start + LINE as u64 * u64::from(offset), words, crc }
        };
        Ok(index.chunks_exact(size_of::<TileEntry>()).map(tile).collect())
    }

    /// Returns the number of the first region with another checksum. The regions must lie in the layer's memory.
    fn first_damaged(
        &self,
        regions: &[Region],
        cuda_stream: &CudaStream,
    ) -> Result<Option<usize>, GpuError> {
        let tiles = regions.len();
        let blocks = i32::try_from(tiles).map_err(|_| GpuError::TooManyTiles { tiles })?;
        if blocks == 0 {
            return Ok(None);
        }
        let no_setup = SharedMemory { limit: None, carveout: 0 };
        let kernel = self.gpu.kernels().get(KernelId::checksum(), no_setup)?;
        let none = u32::MAX.to_ne_bytes();
        let (regions, end) = (bytemuck::cast_slice(regions), size_of_val(regions));
        let mut buffer = self.gpu.alloc(end + none.len())?;
        for (at, bytes) in [(0, regions), (end, &none[..])] {
            // SAFETY: a part of the buffer; the bytes live until the result has been waited for.
            unsafe { cuda_stream.queue_host_copy(buffer.address() + at as u64, bytes)? };
        }
        let args = ChecksumArgs {
            regions: buffer.address(),
            first_damaged: buffer.address() + end as u64,
        };
        let size = LaunchSize {
            blocks: blocks.unsigned_abs(),
            threads: REGION_THREADS,
            shared_memory: REGION_SHARED_MEMORY,
        };
        // SAFETY: the arguments are the kernel's; there is a region for each block, in the layer's memory, which is borrowed
        // until the result is there.
        unsafe { kernel.launch(size, &args, cuda_stream)? };
        let mut first = none;
        read(buffer.slice_mut(end..end + none.len()).into(), &mut first, cuda_stream)?;
        let first = u32::from_ne_bytes(first);
        Ok((first != u32::MAX).then_some(first as usize))
    }
}

/// Copies device memory to `to` in the order of a CUDA stream, and waits for that.
fn read(from: DeviceSlice<'_>, to: &mut [u8], cuda_stream: &CudaStream) -> Result<(), GpuError> {
    // SAFETY: `to` is borrowed until the copy has been waited for.
    let copied = unsafe { cuda_stream.copy_to_host(from, to) };
    copied.and(cuda_stream.synchronize())
}

/// Returns the regions of `bytes`, a multiple of four, which are being copied to `address`.
pub fn regions(address: u64, bytes: &[u8]) -> impl Iterator<Item = Region> {
    let starts = (address..).step_by(REGION);
    let region = |(address, bytes): (u64, &[u8])| {
        let words = (bytes.len() / 4) as u32;
        Region { address, words, crc: crc32c::crc32c(bytes) }
    };
    starts.zip(bytes.chunks(REGION)).map(region)
}
