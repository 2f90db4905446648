//! A compressed layer in device memory.

use super::error::at;
use super::kernels::{Kernel, parameters};
use super::verify::{Checksums, regions};
use super::{Gpu, GpuError, LayerPart};
use crate::blob::header::{HEADER_BYTES, TABLE_BYTES, check_size, front_crc};
use crate::codec::parallel_crc;
use crate::launch_plan::{KernelKind, LayerShape, row_capacity};
use crate::matmul::check;
use crate::{Activations, Blob, BlobError, Dtype, Epilogue, Float, MatmulError, Outputs};
use bytemuck::Pod;
use cust::memory::{CopyDestination, DeviceBuffer, DeviceCopy, DeviceSlice};
use cust::stream::Stream;
use fused_rans_layout::{
    GroupPlane, LINE, LOOK_AHEAD, MAX_TAIL_ROWS, MAX_WORD_ROWS, Region, SLABS, Split, TABLE,
    TILE_THREADS, TileGrid, WeightsPerSymbol,
};
use half::bf16;
use std::borrow::Cow;

/// Alignment of the decoded matrix, for stores of several weights at once.
const ALIGNMENT: u64 = 16;

/// Bytes behind a blob: kernels believe the tail lengths of a tile, as far as there may be tails.
const SPARE: usize = MAX_TAIL_ROWS * LINE;

/// What is checked of a blob before it is copied; of its structure that is everything in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Checksums and contents of all tiles.
    Tiles,
    /// Nothing else: the device is to compare the checksums.
    Structure,
}

/// A compressed layer in device memory. Dropping it frees the memory, after what was queued.
#[derive(Debug)]
pub struct Layer {
    /// The blob, and [`SPARE`] bytes.
    blob: DeviceBuffer<u8>,
    /// The expanded decode table.
    table: DeviceBuffer<u32>,
    /// The one of the fused kernels, where the weights have one of their own.
    exponent_table: Option<DeviceBuffer<u32>>,
    scale: Option<DeviceBuffer<f32>>,
    bias: Option<DeviceBuffer<f32>>,
    split: Split,
    groups: Option<GroupPlane>,
    shape: LayerShape,
    tiles: u32,
    /// Bytes of the blob before its first tile.
    front_bytes: usize,
    checksums: Checksums,
    weights_crc: u32,
    gpu: Gpu,
}

impl Layer {
    /// Checks and uploads `blob`; the device's context must be current.
    pub(super) fn new(
        gpu: Gpu,
        blob: &Blob<'_>,
        epilogue: Epilogue<'_>,
        checked: Checked,
    ) -> Result<Self, GpuError> {
        if checked == Checked::Tiles {
            blob.verify()?;
        }
        check_epilogue(blob.grid(), epilogue)?;
        let tiles = blob.index().len();
        let tiles = i32::try_from(tiles).map_err(|_| GpuError::TooManyTiles { tiles })?;
        let payloads = blob.index().first().map(|first| LINE * first.offset as usize);
        let front_bytes = payloads.unwrap_or(blob.bytes().len());
        // What was checked, and not what a file that is mapped may have become since.
        let front = blob.bytes()[..front_bytes].to_vec();
        if front_crc(&front) != blob.crc() {
            return Err(BlobError::HeaderChecksum.into());
        }
        let mut checksums = Checksums { front: crc32c::crc32c(&front), parts: Vec::new() };
        let table = blob.frequencies().kernel_table(blob.split());
        let wide = blob.frequencies().exponent_table(blob.split());
        let scale = scales(blob, epilogue.scale);
        let parts = &mut checksums.parts;
        let layer = Self {
            blob: upload_blob(&front, &blob.bytes()[front_bytes..])?,
            table: upload_part(&table, LayerPart::Table, parts)?,
            exponent_table: upload_numbers(wide.as_deref(), LayerPart::Table, parts)?,
            scale: upload_numbers(scale.as_deref(), LayerPart::Scale, parts)?,
            bias: upload_numbers(epilogue.bias, LayerPart::Bias, parts)?,
            split: blob.split(),
            groups: blob.groups(),
            shape: LayerShape::of(blob),
            tiles: tiles.unsigned_abs(),
            front_bytes,
            checksums,
            weights_crc: blob.weights_crc(),
            gpu,
        };
        // A copy from pageable memory may still be under way, and CUDA streams that do not block
        // would not wait for it.
        layer.gpu.synchronize()?;
        Ok(layer)
    }

    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// What launches depend on.
    pub(super) fn shape(&self) -> LayerShape {
        self.shape
    }

    pub(super) fn split(&self) -> Split {
        self.split
    }

    /// What a multiplication with activations of type `activations` needs kernels of.
    pub(super) fn kernel_kind(&self, activations: Float) -> KernelKind {
        KernelKind {
            dtype: self.dtype(),
            raw_bits: self.split.raw_bits(),
            weights_per_symbol: self.split.weights_per_symbol(),
            wide: self.exponent_table.is_some(),
            grouped: self.groups.is_some(),
            activations,
        }
    }

    pub(super) fn zero_points(&self) -> bool {
        self.groups.is_some_and(|groups| groups.zeros)
    }

    pub(super) fn tiles(&self) -> usize {
        self.tiles as usize
    }

    pub(super) fn front_bytes(&self) -> usize {
        self.front_bytes
    }

    pub(super) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    /// The blob, and some bytes behind it.
    pub(super) fn blob(&self) -> &DeviceBuffer<u8> {
        &self.blob
    }

    /// What the layer has in device memory: address and bytes of each part. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn memory(&self) -> Vec<(LayerPart, u64, usize)> {
        let part = |&(part, region): &(LayerPart, Region)| {
            (part, region.address, 4 * region.words as usize)
        };
        let [blob, ..] = self.addresses();
        let tiles = (blob + self.front_bytes as u64, self.blob.len() - SPARE - self.front_bytes);
        let blob =
            [(LayerPart::Front, blob, self.front_bytes), (LayerPart::Tile(0), tiles.0, tiles.1)];
        blob.into_iter().chain(self.checksums.parts.iter().map(part)).collect()
    }

    /// Device addresses of the blob, its index and the decode table.
    pub(super) fn addresses(&self) -> [u64; 3] {
        let blob = self.blob.as_device_ptr().as_raw();
        let index = blob + (HEADER_BYTES + TABLE_BYTES) as u64;
        [blob, index, self.table.as_device_ptr().as_raw()]
    }

    /// Device address of the table that the fused kernels decode with.
    pub(super) fn fused_table(&self) -> u64 {
        self.exponent_table.as_ref().unwrap_or(&self.table).as_device_ptr().as_raw()
    }

    /// Device addresses of scale and bias; null where there is none.
    pub(super) fn epilogue_addresses(&self) -> [u64; 2] {
        let address = |numbers: &Option<DeviceBuffer<f32>>| {
            numbers.as_ref().map_or(0, |numbers| numbers.as_device_ptr().as_raw())
        };
        [address(&self.scale), address(&self.bias)]
    }

    /// Element type of the decoded matrix.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.split.dtype()
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.grid.rows
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.grid.cols
    }

    /// Bytes of the decoded matrix.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.rows() * self.cols() * self.dtype().bytes()
    }

    /// Device memory that the layer takes: the blob and some bytes behind it, the expanded decode tables, scale and bias.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        let numbers = [&self.scale, &self.bias].into_iter().flatten().map(|n| n.len());
        let wide = self.exponent_table.as_ref().map_or(0, |table| table.len());
        self.blob.len() + 4 * (self.table.len() + wide + numbers.sum::<usize>())
    }

    /// Decodes the layer to row-major weights in `out` and waits until that is done. They are what the layer holds: without
    /// scales, and of [large integers](Blob::large_integers) the low bytes.
    ///
    /// # Errors
    /// [`BlobError::BufferSize`] (as [`GpuError::Blob`]) if `out` is not [`Layer::weight_bytes`] long,
    /// [`GpuError::Misaligned`] if it does not start at a multiple of 16 bytes, [`GpuError::OtherDevice`] if it is not in
    /// this device's memory; [`GpuError::Argument`], [`GpuError::Kernels`], [`GpuError::Setup`], [`GpuError::Launch`] and
    /// [`GpuError::Cuda`] from the driver.
    pub fn decode(&self, out: &mut DeviceSlice<u8>, cuda_stream: &Stream) -> Result<(), GpuError> {
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
        out: &mut DeviceSlice<u8>,
        cuda_stream: &Stream,
    ) -> Result<(), GpuError> {
        self.gpu.enter()?;
        check_size(self.dtype().bytes(), self.rows(), self.cols(), out.len())?;
        let kernel = kernel(&self.gpu, self.dtype(), self.split.weights_per_symbol())?;
        let [blob, index, table] = self.addresses();
        self.gpu.check_operand(out, ALIGNMENT)?;
        let out = out.as_device_ptr().as_raw();
        let (rows, cols) = (self.rows() as u64, self.cols() as u64);
        let (base, zero) = (u32::from(self.split.base()), u32::from(self.split.zero()));
        let (raw_bits, capacity) = (u32::from(self.split.raw_bits()), row_capacity(self.shape));
        let group_bytes = self.groups.map_or(0, |groups| groups.bytes() as u32);
        let mut parameters = parameters![
            blob,
            index,
            table,
            out,
            rows,
            cols,
            base,
            zero,
            raw_bits,
            group_bytes,
            capacity
        ];
        let (threads, cuda_stream) = (TILE_THREADS as u32, cuda_stream.as_inner());
        // SAFETY: the parameters are those of the decode kernels in `kernels-gpu`; the blob's
        // structure was checked when it was uploaded, `out` is as large as the matrix, and the
        // caller sees to their lives.
        unsafe {
            kernel.launch(
                self.tiles,
                threads,
                shared_memory(capacity),
                cuda_stream,
                &mut parameters,
            )
        }
    }
}

impl Drop for Layer {
    /// The buffers free themselves after this, in the device's context.
    fn drop(&mut self) {
        // Without a context nothing can be freed, and nothing needs to be.
        let _ = self.gpu.enter();
    }
}

/// The kernel that decodes layers of `dtype`.
pub(super) fn kernel(
    gpu: &Gpu,
    dtype: Dtype,
    weights_per_symbol: WeightsPerSymbol,
) -> Result<Kernel, GpuError> {
    let name = match (dtype, weights_per_symbol) {
        (Dtype::Bf16, _) => "decode_bf16",
        (Dtype::F16, _) => "decode_f16",
        (Dtype::F8E4M3, _) => "decode_f8_e4m3",
        (Dtype::I8, WeightsPerSymbol::Two) => "decode_i8",
        (Dtype::I8, WeightsPerSymbol::Four) => "decode_i8_quads",
    };
    let most = shared_memory((MAX_WORD_ROWS + LOOK_AHEAD) as u32);
    gpu.kernels().get(name, |kernel| kernel.allow_shared_memory(most, 100))
}

/// Bytes of shared memory that a decode kernel's block takes: the table, rows for every slab, and
/// behind the last one's as many as a stream can take, whatever its bits are.
fn shared_memory(row_capacity: u32) -> u32 {
    let rows = (SLABS - 1) * row_capacity as usize + MAX_WORD_ROWS + LOOK_AHEAD;
    (4 * TABLE + rows * LINE) as u32
}

/// Checks that scale and bias have a number for each row of the matrix.
fn check_epilogue(grid: TileGrid, epilogue: Epilogue<'_>) -> Result<(), MatmulError> {
    let x = Activations { data: 0, dtype: Float::F16, rows: 0, row_stride: grid.cols };
    let y = Outputs { data: 0, dtype: Float::F32, row_stride: grid.rows };
    // Types that go together, and no rows: only the epilogue is left to be checked.
    check(Dtype::I8, grid, x, y, epilogue)
}

/// The factors of the outputs: those of the rows of weights, and `more`.
fn scales<'a>(blob: &Blob<'_>, more: Option<&'a [f32]>) -> Option<Cow<'a, [f32]>> {
    let Some(stored) = blob.row_scales() else { return more.map(Cow::Borrowed) };
    let scales = stored.iter().map(|&bits| bf16::from_bits(bits).to_f32());
    Some(Cow::Owned(match more {
        Some(more) => scales.zip(more).map(|(scale, more)| scale * more).collect(),
        None => scales.collect(),
    }))
}

/// Copies a blob to the device, with [`SPARE`] zeros behind it.
fn upload_blob(front: &[u8], tiles: &[u8]) -> Result<DeviceBuffer<u8>, GpuError> {
    let end = front.len() + tiles.len();
    let size = end + SPARE;
    // SAFETY: all of it is written to before anything reads it.
    let buffer = unsafe { DeviceBuffer::uninitialized(size) };
    let buffer = buffer.map_err(GpuError::allocating(size))?;
    let copied = buffer.index(..front.len()).copy_from(front);
    let copied = copied.and_then(|()| buffer.index(front.len()..end).copy_from(tiles));
    let cleared = copied.and_then(|()| buffer.index(end..).set_8(0));
    cleared.map_err(at("copying to the device"))?;
    Ok(buffer)
}

/// Copies numbers to the device, and notes their checksum.
fn upload_part<T: DeviceCopy + Pod>(
    numbers: &[T],
    part: LayerPart,
    parts: &mut Vec<(LayerPart, Region)>,
) -> Result<DeviceBuffer<T>, GpuError> {
    let buffer = DeviceBuffer::from_slice(numbers);
    let buffer = buffer.map_err(GpuError::allocating(size_of_val(numbers)))?;
    parts.extend(regions(&buffer, numbers).map(|region| (part, region)));
    Ok(buffer)
}

/// Likewise, if there are any.
fn upload_numbers<T: DeviceCopy + Pod>(
    numbers: Option<&[T]>,
    part: LayerPart,
    parts: &mut Vec<(LayerPart, Region)>,
) -> Result<Option<DeviceBuffer<T>>, GpuError> {
    numbers.map(|numbers| upload_part(numbers, part, parts)).transpose()
}
