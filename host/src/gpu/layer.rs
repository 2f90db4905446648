//! A compressed layer in device memory.

use super::error::at;
use super::{Gpu, GpuError};
use crate::codec::parallel_crc;
use crate::header::{HEADER_BYTES, TABLE_BYTES, check_size};
use crate::{Blob, BlobError, Dtype};
use cust::function::Function;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::stream::Stream;
use cust::sys;
use fused_rans_layout::{LINE, LOOK_AHEAD, MAX_ROWS, SLABS, Split, TABLE, TILE_THREADS, TileGrid};

/// Alignment of the decoded matrix, for stores of several weights at once.
const ALIGNMENT: u64 = 8;

/// A compressed layer in device memory. Dropping it frees the memory, after what was queued.
#[derive(Debug)]
pub struct Layer {
    blob: DeviceBuffer<u8>,
    /// The expanded decode table.
    table: DeviceBuffer<u32>,
    split: Split,
    grid: TileGrid,
    tiles: u32,
    row_capacity: u32,
    weights_crc: u32,
    gpu: Gpu,
}

impl Layer {
    /// Checks and uploads `blob`; the device's context must be current.
    pub(super) fn new(gpu: Gpu, blob: &Blob<'_>) -> Result<Self, GpuError> {
        blob.verify()?;
        let tiles = blob.index().len();
        let tiles = i32::try_from(tiles).map_err(|_| GpuError::TooManyTiles { tiles })?;
        let table: Vec<u32> =
            blob.frequencies().decode_table().iter().map(|entry| entry.0).collect();
        let rows = blob.index().iter().flat_map(|tile| tile.full_rows.iter().zip(&tile.tail_rows));
        let rows = rows.map(|(&full, &tail)| u32::from(full) + u32::from(tail)).max();
        let layer = Self {
            blob: DeviceBuffer::from_slice(blob.bytes())
                .map_err(GpuError::allocating(blob.bytes().len()))?,
            table: DeviceBuffer::from_slice(&table).map_err(GpuError::allocating(4 * TABLE))?,
            split: blob.split(),
            grid: blob.grid(),
            tiles: tiles.unsigned_abs(),
            row_capacity: rows.unwrap_or(0) + LOOK_AHEAD as u32,
            weights_crc: blob.weights_crc(),
            gpu,
        };
        // A copy from pageable memory may still be under way, and CUDA streams that do not block
        // would not wait for it.
        layer.gpu.synchronize()?;
        Ok(layer)
    }

    /// Element type of the decoded matrix.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.split.dtype()
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.grid.rows
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.grid.cols
    }

    /// Bytes of the decoded matrix.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.rows() * self.cols() * self.dtype().bytes()
    }

    /// Device memory that the layer takes: the blob and the expanded decode table.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.blob.len() + 4 * self.table.len()
    }

    /// Decodes the layer to row-major weights in `out` and waits until that is done.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] (as [`GpuError::Blob`]) if `out` is not [`Layer::weight_bytes`]
    /// long; [`GpuError::Cuda`] from the driver.
    pub fn decode(&self, out: &mut DeviceBuffer<u8>, cuda_stream: &Stream) -> Result<(), GpuError> {
        // SAFETY: the layer and `out` are borrowed until the work has been waited for.
        unsafe { self.queue_decode(out, cuda_stream)? };
        cuda_stream.synchronize().map_err(at("decoding"))
    }

    /// Decodes the layer into host memory, and verifies the checksum of the weights.
    ///
    /// # Errors
    /// As [`Layer::decode`], [`BlobError::WeightsChecksum`] and [`GpuError::OutOfMemory`].
    pub fn decode_to_host(&self) -> Result<Vec<u8>, GpuError> {
        let mut buffer = self.gpu.buffer(self.weight_bytes())?;
        let cuda_stream = self.gpu.cuda_stream()?;
        self.decode(&mut buffer, &cuda_stream)?;
        let mut weights = vec![0; self.weight_bytes()];
        buffer.copy_to(&mut weights).map_err(at("copying from the device"))?;
        if parallel_crc(&weights) != self.weights_crc {
            return Err(BlobError::WeightsChecksum.into());
        }
        Ok(weights)
    }

    /// Queues the decoding on `cuda_stream` and returns at once.
    ///
    /// # Errors
    /// As [`Layer::decode`]; what fails while the kernel runs is reported by a later call.
    ///
    /// # Safety
    /// Until the work is done, the layer must live and `out` must neither be dropped nor be used by
    /// anything that is not ordered after it on `cuda_stream`, which must be this device's.
    pub unsafe fn queue_decode(
        &self,
        out: &mut DeviceBuffer<u8>,
        cuda_stream: &Stream,
    ) -> Result<(), GpuError> {
        self.gpu.enter()?;
        let (rows, cols) = (self.rows(), self.cols());
        check_size(self.dtype(), rows, cols, out.len())?;
        let kernel = self.gpu.0.module.get_function(decode_kernel(self.dtype()));
        let kernel = kernel.map_err(GpuError::Kernels)?;
        let shared = shared_memory(self.row_capacity);
        let blob = self.blob.as_device_ptr().as_raw();
        let index = blob + (HEADER_BYTES + TABLE_BYTES) as u64;
        let table = self.table.as_device_ptr().as_raw();
        let out = out.as_device_ptr().as_raw();
        assert!(out.is_multiple_of(ALIGNMENT), "the driver aligns allocations to 256 bytes");
        let (rows, cols) = (rows as u64, cols as u64);
        let (base, zero) = (u32::from(self.split.base()), u32::from(self.split.zero()));
        let (raw_bits, row_capacity) = (u32::from(self.split.raw_bits()), self.row_capacity);
        // SAFETY: the parameters are those of the decode kernels in `kernels-gpu`; the blob's
        // structure was checked when it was uploaded, `out` is as large as the matrix, and the
        // caller sees to their lives.
        unsafe {
            cust::launch!(kernel<<<self.tiles, TILE_THREADS as u32, shared, cuda_stream>>>(
                blob, index, table, out, rows, cols, base, zero, raw_bits, row_capacity
            ))
        }
        .map_err(at("launching a decode kernel"))
    }
}

impl Drop for Layer {
    /// The buffers free themselves after this, in the device's context.
    fn drop(&mut self) {
        // Without a context nothing can be freed, and nothing needs to be.
        let _ = self.gpu.enter();
    }
}

/// Name of the kernel that decodes layers of `dtype`.
pub(super) fn decode_kernel(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bf16 => "decode_bf16",
        Dtype::F16 => "decode_f16",
        Dtype::F8E4M3 => "decode_f8_e4m3",
        Dtype::I8 => "decode_i8",
    }
}

/// Bytes of shared memory that a decode kernel's block takes: the table, and rows for every slab.
fn shared_memory(row_capacity: u32) -> u32 {
    (4 * TABLE + SLABS * row_capacity as usize * LINE) as u32
}

/// Lets blocks of a decode kernel have the shared memory that the longest streams need, and as
/// many of them as fit on a multiprocessor. Once, when it is loaded: what is set holds for the kernel,
/// whoever launches it.
pub(super) fn prepare(kernel: &Function<'_>) -> Result<(), GpuError> {
    use sys::CUfunction_attribute_enum as Attribute;
    let set = |attribute, value| {
        // SAFETY: a call with a valid function handle; the driver checks the value.
        unsafe { sys::cuFuncSetAttribute(kernel.to_raw(), attribute, value) }
    };
    // A hint: where the driver does not take it, the kernel runs all the same.
    let _ = set(Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100);
    let needed = shared_memory((MAX_ROWS + LOOK_AHEAD) as u32);
    let size = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    match set(size, needed.cast_signed()) {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        sys::CUresult::CUDA_ERROR_INVALID_VALUE => Err(GpuError::SharedMemory { needed }),
        code => Err(GpuError::Setup { code: code as u32 }),
    }
}
