//! Copying a layer to device memory.

use super::super::driver::codes::{INVALID_VALUE, NOT_FOUND};
use super::super::driver::types::POINTER_MEMORY_TYPE;
use super::super::matmul::Launches;
use super::super::{
    CudaStream, DeviceBuffer, DeviceRange, DeviceSliceMut, Gpu, GpuError, KernelSet, LayerPart,
};
use super::numbers::Numbers;
use super::ready::Ready;
use super::region::{ALIGNMENT, RegionLayout, ResidentLayout, SPARE};
use super::verify::{Checksums, regions};
use super::{BlobForm, Form, Layer, resident};
use crate::blob::header::{HEADER_BYTES, TABLE_BYTES, front_crc};
use crate::launch_plan::{LayerShape, row_capacity};
use crate::resident::ResidentPlan;
use crate::{Blob, BlobError, Epilogue, Float, TileFault};
use fused_rans_layout::{DecodeArgs, KernelId, LINE, LayerArgs, LayerFlags, WeightCoding};

/// The checks of a blob's tiles during its upload. The structure of the blob is always checked.
///
/// With the kernels of [`KernelSet::Sm90`] both checks are the same: the CPU rearranges every tile for them, and verifies
/// its checksum and contents when it reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// The CPU verifies checksums and contents of all tiles. Use it for blobs from any source.
    #[default]
    Full,
    /// The device verifies the tiles' checksums, which is faster on hosts with few cores. The CPU does not look at the
    /// contents. Use it for blobs from a trusted source.
    ///
    /// This finds all damage. A forgery, with right checksums and invalid tiles, decodes to some weights; kernels
    /// access nothing but the layer and their operands (`docs/safety.md` in the repository).
    OnDevice,
}

/// Options of an upload: scale and bias, checks, and destination.
///
/// ```
/// use fused_rans_host::gpu::{Check, UploadOptions};
///
/// let options = UploadOptions::new().check(Check::OnDevice);
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct UploadOptions<'a> {
    /// A scale and a bias that [`Layer::matmul`] applies.
    pub epilogue: Epilogue<'a>,
    /// The checks of the tiles.
    pub check: Check,
    /// Destination of the layer; `None` to allocate memory for it.
    pub memory: Option<DeviceRange>,
}

impl<'a> UploadOptions<'a> {
    /// Returns the default options: no scale or bias except the blob's row scales, all checks, and newly allocated
    /// memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a scale and a bias, one number per row, that [`Layer::matmul`] applies to the outputs.
    #[must_use]
    pub fn epilogue(self, epilogue: Epilogue<'a>) -> Self {
        Self { epilogue, ..self }
    }

    /// Sets the checks of the tiles.
    #[must_use]
    pub fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// Sets the destination of the layer, at least [`UploadOptions::device_byte_len`] bytes. Use it to allocate once
    /// for many layers. If the upload fails, the range is dropped; it does not return to its arena.
    #[must_use]
    pub fn memory(self, memory: DeviceRange) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Returns the number of bytes of `gpu`'s memory that `blob` takes with these options. Use it to size an
    /// [`Arena`](super::super::Arena).
    ///
    /// # Errors
    /// [`GpuError::Blob`] for a blob that is too large for the device's kernels.
    pub fn device_byte_len(&self, gpu: &Gpu, blob: &Blob<'_>) -> Result<usize, GpuError> {
        Ok(match gpu.kernel_set() {
            KernelSet::Sm80 => RegionLayout::new(blob, self.epilogue).byte_len,
            KernelSet::Sm90 => {
                ResidentLayout::new(&ResidentPlan::new(blob)?, self.epilogue).byte_len
            }
        })
    }
}

impl Gpu {
    /// Uploads `blob` to newly allocated device memory, after checking all of it. Loads the kernels that decode the
    /// layer and multiply it with up to 8 rows of activations, of type F16 for F16 weights and BF16 for others. Other
    /// kernels are loaded when they are first used, or by [`Layer::prepare`]. Waits until the upload is done.
    ///
    /// # Errors
    /// [`GpuError::Blob`] if the blob is damaged, [`GpuError::TooManyTiles`], [`GpuError::Kernels`],
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn upload(&self, blob: &Blob<'_>) -> Result<Layer, GpuError> {
        self.upload_with(blob, UploadOptions::new())
    }

    /// Uploads `blob` with `options`. Use it for a scale and a bias, for faster checks, or to upload to memory of an
    /// arena. Loads the kernels that [`Gpu::upload`] loads, and waits until the upload is done.
    ///
    /// # Errors
    /// See [`Gpu::upload`]; [`GpuError::Matmul`] if scale or bias do not have a number for each row;
    /// [`GpuError::TooShort`], [`GpuError::Misaligned`] and [`GpuError::OtherDevice`] for memory that does not fit.
    pub fn upload_with(
        &self,
        blob: &Blob<'_>,
        options: UploadOptions<'_>,
    ) -> Result<Layer, GpuError> {
        upload(self, blob, options, &self.internal_stream(), Wait::Upload)
    }

    /// Uploads `blob` in the order of a CUDA stream, without waiting for the device. Use it to overlap uploads with
    /// other work. Kernels that use the layer, on any CUDA stream, start after the upload.
    ///
    /// Blob, scale and bias may be dropped when this returns: it waits for copies from page-locked memory (see
    /// [`Gpu::queue_upload`]). [`Check::OnDevice`] waits for the CUDA stream, too, except with the kernels of
    /// [`KernelSet::Sm90`]. With them, this returns when the CPU has rearranged the blob, and waits only for a scale or a
    /// bias in page-locked memory.
    ///
    /// # Errors
    /// See [`Gpu::upload_with`]. What fails on the device is reported by a later call.
    pub fn upload_async(
        &self,
        blob: &Blob<'_>,
        options: UploadOptions<'_>,
        cuda_stream: &CudaStream,
    ) -> Result<Layer, GpuError> {
        upload(self, blob, options, cuda_stream, Wait::HostRead)
    }

    /// Queues an upload like [`Gpu::upload_async`], but does not wait for the copy of a blob in page-locked memory. Use
    /// it to overlap the copy with other work of this thread.
    ///
    /// # Errors
    /// See [`Gpu::upload_async`].
    ///
    /// # Safety
    /// If the blob, the scale or the bias lies in page-locked memory, this memory lives and does not change until the
    /// upload is done, for example until the CUDA stream was synchronized.
    pub unsafe fn queue_upload(
        &self,
        blob: &Blob<'_>,
        options: UploadOptions<'_>,
        cuda_stream: &CudaStream,
    ) -> Result<Layer, GpuError> {
        upload(self, blob, options, cuda_stream, Wait::Nothing)
    }
}

/// What an upload waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until the layer is in device memory.
    Upload,
    /// Until the blob is no longer read.
    HostRead,
    Nothing,
}

impl Wait {
    /// Returns whether an upload waits for its copies, of which some may be `from_page_locked` memory.
    pub(super) fn is_now(self, from_page_locked: impl FnOnce() -> bool) -> bool {
        self == Self::Upload || self == Self::HostRead && from_page_locked()
    }
}

fn upload(
    gpu: &Gpu,
    blob: &Blob<'_>,
    options: UploadOptions<'_>,
    cuda_stream: &CudaStream,
    wait: Wait,
) -> Result<Layer, GpuError> {
    if gpu.kernel_set() == KernelSet::Sm90 {
        options.epilogue.check(blob.rows())?;
        return resident::upload(gpu, blob, options, cuda_stream, wait);
    }
    if options.check == Check::Full {
        blob.verify()?;
    }
    options.epilogue.check(blob.rows())?;
    let UploadOptions { epilogue, check, memory } = options;
    let parts = HostParts::new(blob, epilogue)?;
    gpu.enter()?;
    let mut memory = memory_for(gpu, memory, parts.layout.byte_len, cuda_stream)?;
    let queued = parts.queue(memory.as_mut_slice(), cuda_stream);
    let wait_now = wait.is_now(|| parts.is_page_locked(gpu));
    complete(queued, wait_now, cuda_stream, |()| {
        let layer = parts.layer(gpu, blob, memory, ready_after(cuda_stream, wait)?)?;
        layer.resolve()?;
        if check == Check::Full { Ok(layer) } else { verified(layer, cuda_stream) }
    })
}

/// Ends an upload whose parts were queued, or failed to be: waits for the copies if `wait_now`, and makes the layer.
pub(super) fn complete<T>(
    queued: Result<T, GpuError>,
    wait_now: bool,
    cuda_stream: &CudaStream,
    make: impl FnOnce(T) -> Result<Layer, GpuError>,
) -> Result<Layer, GpuError> {
    if wait_now {
        // Whatever happened: the blob may be gone when this returns.
        cuda_stream.synchronize()?;
    }
    let layer = queued.and_then(make);
    if layer.is_err() {
        // The caller may reuse the memory at once, on either side.
        let _ = cuda_stream.synchronize();
    }
    layer
}

/// Verifies a layer's tiles on the device.
fn verified(layer: Layer, cuda_stream: &CudaStream) -> Result<Layer, GpuError> {
    match layer.verify_on(cuda_stream) {
        Ok(()) => Ok(layer),
        Err(GpuError::Damaged { part: LayerPart::Tile(tile) }) => {
            Err(BlobError::Tile { tile, fault: TileFault::Checksum }.into())
        }
        Err(other) => Err(other),
    }
}

/// Returns when an upload that was queued on `cuda_stream` is done.
pub(super) fn ready_after(cuda_stream: &CudaStream, wait: Wait) -> Result<Ready, GpuError> {
    match wait {
        Wait::Upload => Ok(Ready::now()),
        Wait::HostRead | Wait::Nothing => Ready::after(cuda_stream),
    }
}

/// Returns the destination of a layer of `needed` bytes. The device's context must be current.
pub(super) fn memory_for(
    gpu: &Gpu,
    given: Option<DeviceRange>,
    needed: usize,
    cuda_stream: &CudaStream,
) -> Result<DeviceRange, GpuError> {
    let expected = gpu.ordinal();
    if cuda_stream.gpu().ordinal() != expected {
        return Err(GpuError::OtherDevice { what: "the CUDA stream", expected });
    }
    let Some(range) = given else {
        return DeviceBuffer::new(gpu, needed, "allocating a layer").map(DeviceRange::whole);
    };
    let what = "a layer's memory";
    if range.gpu().ordinal() != expected {
        return Err(GpuError::OtherDevice { what, expected });
    }
    let found = range.len();
    if found < needed {
        return Err(GpuError::TooShort { needed, found });
    }
    let alignment = ALIGNMENT as u64;
    if !range.address().is_multiple_of(alignment) {
        return Err(GpuError::Misaligned { what, alignment });
    }
    gpu.check_address(what, range.address())?;
    Ok(range)
}

/// Returns whether `bytes` may be page-locked memory, which the device reads after a copy was queued. Of other memory
/// the driver makes a copy first.
pub(super) fn is_page_locked(gpu: &Gpu, bytes: &[u8]) -> bool {
    let (mut kind, address) = (0u32, bytes.as_ptr().addr() as u64);
    let to = (&raw mut kind).cast();
    // SAFETY: the result goes to a variable that lives; the driver knows all addresses that are its own.
    let code = unsafe { (gpu.driver().pointer_attribute)(to, POINTER_MEMORY_TYPE, address) };
    !bytes.is_empty() && code != INVALID_VALUE
}

/// The parts of a layer in host memory.
struct HostParts<'a> {
    layout: RegionLayout,
    /// A copy of the blob up to its first tile, which was checked: a file that is mapped may change at any time.
    front: Vec<u8>,
    tiles: &'a [u8],
    tile_count: u32,
    numbers: Numbers<'a>,
}

impl<'a> HostParts<'a> {
    /// Returns whether a part that is not a copy may be page-locked memory of the caller's.
    fn is_page_locked(&self, gpu: &Gpu) -> bool {
        is_page_locked(gpu, self.tiles) || self.numbers.is_page_locked(gpu)
    }

    fn new(blob: &'a Blob<'_>, epilogue: Epilogue<'a>) -> Result<Self, GpuError> {
        let tiles = blob.index().len();
        let tile_count =
            i32::try_from(tiles).map_err(|_| GpuError::TooManyTiles { tiles })?.unsigned_abs();
        let bytes = blob.as_bytes();
        let first = blob.index().first().map(|first| LINE * first.offset as usize);
        let (front, tiles) = bytes.split_at(first.unwrap_or(bytes.len()));
        let front = front.to_vec();
        if front_crc(&front) != blob.crc() {
            return Err(BlobError::HeaderChecksum.into());
        }
        Ok(Self {
            layout: RegionLayout::new(blob, epilogue),
            front,
            tiles,
            tile_count,
            numbers: Numbers::new(blob, epilogue),
        })
    }

    /// Returns part, offset and bytes of everything behind the blob.
    fn numbers(&self) -> impl Iterator<Item = (LayerPart, usize, &[u8])> {
        let RegionLayout { table, exponent_table, scale, bias, .. } = self.layout;
        self.numbers.parts([Some(table), exponent_table, scale, bias])
    }

    /// Queues the copies to `memory`, which is as long as the layout says; the context must be current.
    fn queue(&self, memory: DeviceSliceMut<'_>, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        let (start, end) = (memory.address(), self.layout.blob_bytes);
        cuda_stream.fill(memory.slice(end..end + SPARE), 0)?;
        let tiles = (self.front.len(), self.tiles);
        let numbers = self.numbers().map(|(_, at, bytes)| (at, bytes));
        for (at, bytes) in [(0, &self.front[..]), tiles].into_iter().chain(numbers) {
            // SAFETY: the part lies in the memory. It is read when the call returns, as the driver does with memory that
            // is not page-locked; the tiles, which may be, are the concern of who called `upload`.
            unsafe { cuda_stream.queue_host_copy(start + at as u64, bytes)? };
        }
        Ok(())
    }

    /// Returns the layer whose parts have been queued for `memory`.
    fn layer(
        self,
        gpu: &Gpu,
        blob: &Blob<'_>,
        memory: DeviceRange,
        ready: Ready,
    ) -> Result<Layer, GpuError> {
        let (split, shape, start) = (blob.split(), LayerShape::new(blob), memory.address());
        let decode_kernel = KernelId::decode(split.dtype(), split.weights_per_symbol());
        let coding = coding(blob, self.layout.exponent_table.is_some());
        let parts = self.numbers().flat_map(|(part, at, bytes)| {
            regions(start + at as u64, bytes).map(move |region| (part, region))
        });
        let front = Some(crc32c::crc32c(&self.front));
        let checksums = Checksums { front, parts: parts.collect() };
        Ok(Layer {
            memory,
            form: Form::Blob(BlobForm {
                args: self.layer_args(blob, start),
                decode_args: self.decode_args(blob, start),
                tiles: self.tile_count,
                front_bytes: self.front.len(),
                blob_bytes: self.layout.blob_bytes,
            }),
            decode_kernel: decode_kernel.ok_or_else(Layer::no_decode_kernel)?,
            launches: Launches::new(gpu.plan_device(), shape, coding),
            coding,
            split,
            shape,
            checksums,
            weights_crc: blob.weights_crc(),
            ready,
            gpu: gpu.clone(),
        })
    }

    /// Returns the arguments of kernels that multiply with the layer at address `start`.
    fn layer_args(&self, blob: &Blob<'_>, start: u64) -> LayerArgs {
        let (layout, shape) = (&self.layout, LayerShape::new(blob));
        let address = |offset: Option<usize>| offset.map_or(0, |offset| start + offset as u64);
        LayerArgs {
            blob: start,
            index: index_address(start),
            table: address(layout.exponent_table.or(Some(layout.table))),
            scale: address(layout.scale),
            bias: address(layout.bias),
            // Layers whose sides do not fit have no launch plan.
            rows: shape.grid.rows as u32,
            cols: shape.grid.cols as u32,
            exponent_base: blob.split().base().into(),
            flags: flags(blob),
        }
    }

    /// Returns the arguments of kernels that decode the layer at address `start`, without the address of the output.
    fn decode_args(&self, blob: &Blob<'_>, start: u64) -> DecodeArgs {
        let (split, shape) = (blob.split(), LayerShape::new(blob));
        DecodeArgs {
            blob: start,
            index: index_address(start),
            table: start + self.layout.table as u64,
            out: 0,
            rows: shape.grid.rows as u64,
            cols: shape.grid.cols as u64,
            exponent_base: split.base().into(),
            raw_bits: split.raw_bits().into(),
            group_bytes: blob.groups().map_or(0, |groups| groups.bytes() as u32),
            buffer_rows: row_capacity(shape),
            flags: flags(blob),
            reserved: 0,
        }
    }
}

/// Returns the address of the index of a blob at address `start`.
fn index_address(start: u64) -> u64 {
    start + (HEADER_BYTES + TABLE_BYTES) as u64
}

/// Returns the coding of a blob's weights, for fused kernels with a table of exponents or without.
pub(super) fn coding(blob: &Blob<'_>, exponents: bool) -> WeightCoding {
    let split = blob.split();
    let (dtype, raw_bits) = (split.dtype(), split.raw_bits());
    let is_grouped = blob.groups().is_some();
    WeightCoding::new(dtype, raw_bits, split.weights_per_symbol(), exponents, is_grouped)
}

/// Returns the flags of a blob that kernels need.
pub(super) fn flags(blob: &Blob<'_>) -> LayerFlags {
    LayerFlags::empty()
        .with(LayerFlags::ZERO_EXPONENT, blob.split().zero())
        .with(LayerFlags::ZERO_POINTS, blob.groups().is_some_and(|groups| groups.zeros))
}

impl Layer {
    /// Returns the error for weights that no kernel decodes.
    pub(super) fn no_decode_kernel() -> GpuError {
        GpuError::loading(NOT_FOUND)
    }

    /// Loads the kernels that most programs need of a layer: the one that decodes, and the one that multiplies with up
    /// to 8 rows. Others are loaded when they are first used, since the driver compiles each for some time.
    pub(super) fn resolve(&self) -> Result<(), GpuError> {
        self.gpu.decode_kernel(self.decode_kernel)?;
        let activations = if self.dtype() == crate::Dtype::F16 { Float::F16 } else { Float::Bf16 };
        // A layer that this device cannot multiply with can still be decoded.
        match self.launch_for(1, activations) {
            Ok(launch) => self.matmul_kernel(launch, activations).map(drop),
            Err(_) => Ok(()),
        }
    }
}
