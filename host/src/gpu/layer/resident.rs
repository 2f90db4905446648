//! Uploading a layer for the lean kernels.

use super::super::kernels::LaunchSize;
use super::super::matmul::Launches;
use super::super::{CudaStream, DeviceRange, Gpu, GpuError, LayerPart};
use super::chunk::queue_chunks;
use super::numbers::Numbers;
use super::ready::Ready;
use super::region::ResidentLayout;
use super::upload::{Wait, coding, complete, flags, memory_for, ready_after};
use super::verify::{Checksums, regions};
use super::{Form, Layer, UploadOptions};
use crate::blob::header::front_crc;
use crate::launch_plan::LayerShape;
use crate::resident::ResidentPlan;
use crate::{Blob, BlobError, Epilogue};
use fused_rans_layout::{KernelId, LEAN_DECODE_WARPS, LINE, LeanDecodeArgs, LeanLayer, LeanMemory};

/// A resident layer's kernels' arguments, as far as they are the same for every launch.
#[derive(Debug)]
pub struct ResidentForm {
    pub args: LeanLayer,
    raw_bits: u32,
}

impl ResidentForm {
    /// Returns the arguments of the decode kernel.
    pub fn decode_args(&self, out: u64) -> LeanDecodeArgs {
        LeanDecodeArgs { layer: self.args, out, raw_bits: self.raw_bits, reserved: 0 }
    }

    /// Returns the launch of the decode kernel: as many blocks as are on the device at once, or as the slabs need.
    pub fn decode_size(&self, gpu: &Gpu, slabs: u32) -> Result<LaunchSize, GpuError> {
        let (warps, device) = (LEAN_DECODE_WARPS as u32, gpu.plan_device());
        let memory = LeanMemory::new(0, self.raw_bits, false, warps, self.args.buffer_rows);
        if memory.bytes > device.shared_memory {
            return Err(GpuError::SharedMemory { needed: memory.bytes });
        }
        let blocks = slabs.div_ceil(warps).min(2 * device.multiprocessors);
        Ok(LaunchSize { blocks, threads: 32 * warps, shared_memory: memory.bytes })
    }
}

/// Uploads `blob`. Verifies checksum and contents of each tile when it rearranges it.
pub fn upload(
    gpu: &Gpu,
    blob: &Blob<'_>,
    options: UploadOptions<'_>,
    cuda_stream: &CudaStream,
    wait: Wait,
) -> Result<Layer, GpuError> {
    let UploadOptions { epilogue, memory, .. } = options;
    let plan = ResidentPlan::new(blob)?;
    let parts = HostParts::new(&plan, epilogue)?;
    gpu.enter()?;
    let memory = memory_for(gpu, memory, parts.layout.byte_len, cuda_stream)?;
    let queued = parts.queue(memory.address(), cuda_stream);
    // Slabs are copied from memory of our own.
    let wait_now = wait.is_now(|| parts.numbers.is_page_locked(gpu));
    complete(queued, wait_now, cuda_stream, |checksums| {
        let layer = parts.layer(gpu, memory, checksums, ready_after(cuda_stream, wait)?)?;
        layer.resolve()?;
        Ok(layer)
    })
}

/// The parts of a resident layer in host memory, except the slabs.
struct HostParts<'a> {
    plan: &'a ResidentPlan<'a>,
    layout: ResidentLayout,
    numbers: Numbers<'a>,
}

impl<'a> HostParts<'a> {
    fn new(plan: &'a ResidentPlan<'a>, epilogue: Epilogue<'a>) -> Result<Self, GpuError> {
        let blob = plan.blob();
        let bytes = blob.as_bytes();
        let first = blob.index().first().map(|first| LINE * first.offset as usize);
        let front = bytes.get(..first.unwrap_or(bytes.len())).unwrap_or(bytes);
        // A file that is mapped may have changed since it was parsed.
        if front_crc(front) != blob.crc() {
            return Err(BlobError::HeaderChecksum.into());
        }
        Ok(Self {
            plan,
            layout: ResidentLayout::new(plan, epilogue),
            numbers: Numbers::new(blob, epilogue),
        })
    }

    /// Returns part, offset and bytes of everything that is not made chunk by chunk.
    fn parts(&self) -> impl Iterator<Item = (LayerPart, usize, &[u8])> {
        let ResidentLayout { index, table, exponent_table, scale, bias, .. } = self.layout;
        let index = (LayerPart::Index, index, bytemuck::cast_slice(self.plan.index()));
        let numbers = self.numbers.parts([table, exponent_table, scale, bias]);
        [index].into_iter().chain(numbers)
    }

    /// Queues the copies of all parts to the memory at `start`, and returns their checksums; the context must be current.
    fn queue(&self, start: u64, cuda_stream: &CudaStream) -> Result<Checksums, GpuError> {
        let mut checksums = Checksums { front: None, parts: Vec::new() };
        queue_chunks(self.plan, &self.layout, start, cuda_stream, &mut checksums.parts)?;
        let layout = &self.layout;
        for (part, at, bytes) in self.parts() {
            let address = start + at as u64;
            debug_assert!(at + bytes.len() <= layout.byte_len, "{part:?} is outside of the layer");
            // SAFETY: the part lies in the memory, as the layout reserves it. It is read when the call returns, as the driver
            // does with memory that is not page-locked; what may be is the concern of who called `upload`.
            unsafe { cuda_stream.queue_host_copy(address, bytes)? };
            checksums.parts.extend(regions(address, bytes).map(|region| (part, region)));
        }
        Ok(checksums)
    }

    /// Returns the layer whose parts have been queued for `memory`.
    fn layer(
        self,
        gpu: &Gpu,
        memory: DeviceRange,
        checksums: Checksums,
        ready: Ready,
    ) -> Result<Layer, GpuError> {
        let blob = self.plan.blob();
        let (split, shape) = (blob.split(), LayerShape::of_resident(self.plan));
        let coding = coding(blob, self.layout.exponent_table.is_some());
        let form = ResidentForm {
            args: self.args(memory.address(), shape),
            raw_bits: split.raw_bits().into(),
        };
        let decode_kernel = KernelId::decode_resident(coding);
        Ok(Layer {
            memory,
            form: Form::Resident(form),
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

    /// Returns the kernels' arguments for the layer in the memory at `start`.
    fn args(&self, start: u64, shape: LayerShape) -> LeanLayer {
        let (layout, blob) = (&self.layout, self.plan.blob());
        let address = |offset: Option<usize>| offset.map_or(0, |offset| start + offset as u64);
        LeanLayer {
            slabs: start,
            index: address(Some(layout.index)),
            table: address(layout.exponent_table.or(layout.table)),
            groups: address(layout.groups),
            scale: address(layout.scale),
            bias: address(layout.bias),
            // The plan has checked that they fit.
            rows: shape.grid.rows as u32,
            cols: shape.grid.cols as u32,
            exponent_base: blob.split().base().into(),
            buffer_rows: self.plan.buffer_rows(),
            flags: flags(blob),
            reserved: 0,
        }
    }
}
