//! Whether a layer's device memory is what was copied there.

use super::error::at;
use super::kernels::parameters;
use super::{Gpu, GpuError, Layer, LayerPart};
use bytemuck::Pod;
use cust::memory::{CopyDestination, DeviceBuffer, DeviceCopy};
use fused_rans_layout::{LINE, REGION_SHARED_MEMORY, REGION_THREADS, Region, TileEntry};

/// Most bytes of a region: a block of threads takes one.
const REGION: usize = 1 << 16;

/// Checksums of what a layer has in device memory, but for the tiles, whose are in the index.
#[derive(Debug)]
pub struct Checksums {
    /// Of all before the first tile.
    pub front: u32,
    /// Tables, scale and bias.
    pub parts: Vec<(LayerPart, Region)>,
}

impl Layer {
    /// Checks that the layer's device memory is what was uploaded, by a checksum for each tile and each other part that the
    /// device computes: about as fast as it reads. Waits until that is done.
    ///
    /// # Errors
    /// [`GpuError::Damaged`] names the first part that is not; [`GpuError::TooManyTiles`]; [`GpuError::OutOfMemory`],
    /// [`GpuError::Cuda`], [`GpuError::Kernels`], [`GpuError::Setup`] and [`GpuError::Launch`] from the driver.
    pub fn verify(&self) -> Result<(), GpuError> {
        self.gpu().enter()?;
        let mut front = vec![0; self.front_bytes()];
        let copied = self.blob().index(..front.len()).copy_to(&mut front);
        copied.map_err(at("copying from the device"))?;
        if crc32c::crc32c(&front) != self.checksums().front {
            return Err(GpuError::Damaged { part: LayerPart::Front });
        }
        let [blob, index, _] = self.addresses();
        let index = &front[(index - blob) as usize..][..self.tiles() * size_of::<TileEntry>()];
        let tile = |record| {
            let TileEntry { offset, lines, crc, .. } = bytemuck::pod_read_unaligned(record);
            let words = (LINE / 4) as u32 * u32::from(lines);
            Region { address: blob + LINE as u64 * u64::from(offset), words, crc }
        };
        let tiles = index.chunks_exact(size_of::<TileEntry>()).map(tile);
        let parts = &self.checksums().parts;
        let regions: Vec<Region> = parts.iter().map(|&(_, region)| region).chain(tiles).collect();
        match first_damaged(self.gpu(), &regions)? {
            None => Ok(()),
            Some(number) => {
                let part = parts.get(number).map(|&(part, _)| part);
                let part = part.unwrap_or_else(|| LayerPart::Tile(number - parts.len()));
                Err(GpuError::Damaged { part })
            }
        }
    }
}

/// The regions that hold `numbers` of four bytes, which have been copied to `buffer`.
pub fn regions<T: Pod + DeviceCopy>(
    buffer: &DeviceBuffer<T>,
    numbers: &[T],
) -> impl Iterator<Item = Region> {
    let starts = (buffer.as_device_ptr().as_raw()..).step_by(REGION);
    let region = |(address, bytes): (u64, &[u8])| {
        let words = (bytes.len() / 4) as u32;
        Region { address, words, crc: crc32c::crc32c(bytes) }
    };
    starts.zip(bytemuck::cast_slice(numbers).chunks(REGION)).map(region)
}

/// Number of the first region whose checksum is another one.
fn first_damaged(gpu: &Gpu, regions: &[Region]) -> Result<Option<usize>, GpuError> {
    let tiles = regions.len();
    let blocks = i32::try_from(tiles).map_err(|_| GpuError::TooManyTiles { tiles })?;
    if blocks == 0 {
        return Ok(None);
    }
    let kernel = gpu.kernels().get("checksum", |_| Ok(()))?;
    let bytes = bytemuck::cast_slice(regions);
    let on_device = DeviceBuffer::<u8>::from_slice(bytes);
    let on_device = on_device.map_err(GpuError::allocating(bytes.len()))?;
    let mut first = [u32::MAX];
    let found = DeviceBuffer::from_slice(&first).map_err(GpuError::allocating(4))?;
    let (at_regions, at_found) =
        (on_device.as_device_ptr().as_raw(), found.as_device_ptr().as_raw());
    let mut parameters = parameters![at_regions, at_found];
    let (blocks, null) = (blocks.unsigned_abs(), std::ptr::null_mut());
    // SAFETY: the parameters are those of the kernel; a region for each block; the regions lie in buffers of the layer,
    // which is borrowed until the result is there.
    unsafe { kernel.launch(blocks, REGION_THREADS, REGION_SHARED_MEMORY, null, &mut parameters)? };
    found.copy_to(&mut first).map_err(at("waiting for checksums"))?;
    let [first] = first;
    Ok((first != u32::MAX).then_some(first as usize))
}
