//! Multiplication with a layer: `y = x W^T`.

use super::GpuError;
use super::kernels::{Kernel, parameters};
use super::layer::Layer;
use super::workspace::{Workspace, WorkspaceSize};
use crate::Float;
use crate::launch_plan::{LaunchPlan, MAX_BATCH, row_capacity};
use crate::matmul::{Activations, Epilogue, Outputs, check};
use cust::memory::DeviceSlice;
use cust::stream::Stream;
use cust::sys;
use fused_rans_layout::{LANES, SLABS, SlabShape, TILE};

/// Most rows of a layer, and elements from a row of y to the next: kernels round rows up to whole tiles, in 32 bits.
const MAX_LAYER_ROWS: u32 = u32::MAX - TILE as u32;
/// Rows of x have to be aligned to this for the fastest loads.
const ALIGNMENT: u64 = 16;

impl Layer {
    /// How a multiplication with `m` rows of x is launched.
    ///
    /// # Errors
    /// [`GpuError::SharedMemory`] if the device has too little for this layer,
    /// [`GpuError::TooManyTiles`] if the layer is too large.
    pub fn plan(&self, m: usize) -> Result<LaunchPlan, GpuError> {
        let (device, shape) = (self.gpu().plan_device(), self.shape());
        LaunchPlan::new(device, shape, m).ok_or_else(|| {
            let blocks = device.multiprocessors;
            let plan = LaunchPlan { octets: 1, blocks, warps: 1, buffer_rows: row_capacity(shape) };
            match (plan.partition(shape), plan.shared_memory(shape)) {
                (Some(_), Some(needed)) => GpuError::SharedMemory { needed },
                _ => GpuError::TooManyTiles { tiles: shape.grid.tiles().unwrap_or(usize::MAX) },
            }
        })
    }

    /// Size of a workspace for multiplications with up to `m` rows of x.
    ///
    /// # Errors
    /// As [`Layer::plan`].
    pub fn workspace_size(&self, m: usize) -> Result<WorkspaceSize, GpuError> {
        // Fewer rows may be launched in another way.
        let mut size = WorkspaceSize::default();
        for m in [8, 16, 32, 64].into_iter().filter(|&batch| batch < m).chain([m]) {
            size = size.max(self.size_of(self.plan(m)?));
        }
        Ok(size)
    }

    fn size_of(&self, plan: LaunchPlan) -> WorkspaceSize {
        WorkspaceSize {
            partials: plan.partial_bytes().unwrap_or(usize::MAX),
            counters: 4 * plan.counters(self.shape()).unwrap_or(usize::MAX / 4),
        }
    }

    /// Queues `y = x W^T`, times the layer's scale, plus its bias, on `cuda_stream`, and returns: nothing is
    /// allocated, nothing waited for. `x` and `y` are elements of device memory; they must not
    /// overlap.
    ///
    /// Sums are F32, of exact products, in an order that depends on shapes and device alone:
    /// the same operands give the same bits. More than [`MAX_BATCH`] rows of x are taken 64 at a
    /// time, each time decoding the layer anew; from some hundred rows on it is better to
    /// [decode](Layer::decode) it once. NaN patterns of FP8 weights are multiplied as +-480; check
    /// inputs beforehand.
    ///
    /// ```no_run
    /// # use fused_rans_host::gpu::{Buffer, GpuError, Layer, Stream, Workspace};
    /// # use fused_rans_host::{Activations, Float, Outputs};
    /// # fn product(
    /// #     layer: &Layer, x: &Buffer, y: &mut Buffer, workspace: &mut Workspace, cuda_stream: &Stream,
    /// # ) -> Result<(), GpuError> {
    /// let x = Activations { data: &***x, dtype: Float::Bf16, rows: 1, row_stride: layer.cols() };
    /// let y = Outputs { data: &mut ***y, dtype: Float::F32, row_stride: layer.rows() };
    /// layer.matmul(x, y, workspace, cuda_stream)
    /// # }
    /// ```
    ///
    /// The same buffer cannot be both:
    ///
    /// ```compile_fail
    /// # use fused_rans_host::gpu::{Buffer, GpuError, Layer, Stream, Workspace};
    /// # use fused_rans_host::{Activations, Float, Outputs};
    /// # fn product(
    /// #     layer: &Layer, x: &mut Buffer, workspace: &mut Workspace, cuda_stream: &Stream,
    /// # ) -> Result<(), GpuError> {
    /// let y = Outputs { data: &mut ***x, dtype: Float::F32, row_stride: layer.rows() };
    /// let x = Activations { data: &***x, dtype: Float::Bf16, rows: 1, row_stride: layer.cols() };
    /// layer.matmul(x, y, workspace, cuda_stream)
    /// # }
    /// ```
    ///
    /// nor a workspace be used by two threads at once:
    ///
    /// ```compile_fail
    /// # use fused_rans_host::gpu::Workspace;
    /// # fn product(_: &mut Workspace) {}
    /// fn two_threads(workspace: &mut Workspace) {
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(|| product(workspace));
    ///         scope.spawn(|| product(workspace));
    ///     });
    /// }
    /// ```
    ///
    /// What is dropped while it is still in use is freed by the driver only after the work on the
    /// device; what other CUDA streams do with `y` and the workspace meanwhile is up to the caller to
    /// order, and gives undefined numbers otherwise.
    ///
    /// # Errors
    /// [`GpuError::Matmul`] for operands that do not fit the layer, [`GpuError::Workspace`] for a workspace that is too
    /// small, [`GpuError::OtherDevice`] for one or for operands of another device, [`GpuError::Misaligned`] for operands that
    /// are not aligned to their elements; as [`Layer::plan`]; [`GpuError::Argument`], [`GpuError::Kernels`], [`GpuError::Setup`],
    /// [`GpuError::Launch`] and [`GpuError::Cuda`] from the driver. What fails while the kernel runs is reported by a later call.
    pub fn matmul(
        &self,
        x: Activations<&DeviceSlice<u8>>,
        y: Outputs<&mut DeviceSlice<u8>>,
        workspace: &mut Workspace,
        cuda_stream: &Stream,
    ) -> Result<(), GpuError> {
        check(
            self.dtype(),
            self.shape().grid,
            x.sized(x.data.len()),
            y.sized(y.data.len()),
            Epilogue::default(),
        )?;
        self.gpu().enter()?;
        self.gpu().check_operand(x.data, x.dtype.bytes() as u64)?;
        self.gpu().check_operand(y.data, y.dtype.bytes() as u64)?;
        let x_at = Activations {
            data: x.data.as_device_ptr().as_raw(),
            dtype: x.dtype,
            rows: x.rows,
            row_stride: x.row_stride,
        };
        let y_at = Outputs {
            data: y.data.as_device_ptr().as_raw(),
            dtype: y.dtype,
            row_stride: y.row_stride,
        };
        // SAFETY: the buffers are as large as the operands; the driver frees none that is in use.
        unsafe {
            self.queue_matmul(self.plan(x.rows)?, x_at, y_at, workspace, cuda_stream.as_inner())
        }
    }

    /// As [`Layer::matmul`], from and to device addresses, as other frameworks have them, on a CUDA stream of
    /// theirs. The device's primary context, which they use too, is made this thread's.
    ///
    /// # Errors
    /// As [`Layer::matmul`]; lengths of buffers are not known and not checked.
    ///
    /// # Safety
    /// `x` and `y` are addresses of this device, aligned to their types' size, of buffers as large as the
    /// operands; `cuda_stream` is a CUDA stream of its primary context (null is the legacy one).
    /// Until the work is done, the layer, the workspace and both buffers live, and nothing that is
    /// not ordered after it on that CUDA stream touches `y` or the workspace.
    pub unsafe fn matmul_raw(
        &self,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: sys::CUstream,
    ) -> Result<(), GpuError> {
        // SAFETY: the caller's promise.
        unsafe { self.matmul_planned(self.plan(x.rows)?, x, y, workspace, cuda_stream) }
    }

    /// As [`Layer::matmul_raw`], launched as `plan` says.
    ///
    /// # Errors
    /// As [`Layer::matmul_raw`]; [`GpuError::SharedMemory`] and [`GpuError::Launch`] for a plan that
    /// the device cannot follow, [`GpuError::TooManyTiles`] for one that no kernel can.
    ///
    /// # Safety
    /// As [`Layer::matmul_raw`].
    pub unsafe fn matmul_planned(
        &self,
        plan: LaunchPlan,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: sys::CUstream,
    ) -> Result<(), GpuError> {
        let unknown = usize::MAX;
        check(
            self.dtype(),
            self.shape().grid,
            x.sized(unknown),
            y.sized(unknown),
            Epilogue::default(),
        )?;
        self.gpu().enter()?;
        // SAFETY: the caller's promise.
        unsafe { self.queue_matmul(plan, x, y, workspace, cuda_stream) }
    }

    /// As [`Layer::matmul_planned`], of operands that have been checked, in the device's context.
    ///
    /// # Safety
    /// As [`Layer::matmul_raw`].
    unsafe fn queue_matmul(
        &self,
        plan: LaunchPlan,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: sys::CUstream,
    ) -> Result<(), GpuError> {
        if workspace.ordinal() != self.gpu().ordinal() {
            return Err(GpuError::OtherDevice { expected: self.gpu().ordinal() });
        }
        let needed = self.size_of(plan);
        if workspace.size.max(needed) != workspace.size {
            return Err(GpuError::Workspace {
                needed: needed.bytes(),
                found: workspace.size.bytes(),
            });
        }
        let launch = Launch::new(self, plan, x, y, workspace)?;
        let kernel = launch.kernel(&self.kernel_kind(x.dtype).matmul(plan.octets))?;
        let batch = 8 * plan.octets as usize;
        for first in (0..x.rows).step_by(batch) {
            // SAFETY: the caller's promise.
            unsafe { launch.queue(kernel, first, batch.min(x.rows - first), cuda_stream)? };
        }
        Ok(())
    }

    /// The A fragments that the kernels for activations of type `activations` multiply with: of every tile,
    /// slab (8 a tile), fragment (32 a slab) and lane four registers. For tests. Waits until they
    /// are there.
    ///
    /// # Errors
    /// As [`Layer::matmul`], and [`GpuError::OutOfMemory`].
    #[doc(hidden)]
    pub fn fragments(&self, activations: Float) -> Result<Vec<u32>, GpuError> {
        use cust::memory::CopyDestination;
        let tiles = self.shape().grid.tiles().unwrap_or(usize::MAX);
        let bytes = tiles.saturating_mul(SLABS * SlabShape::WHOLE.fragments() * LANES * 16);
        let mut out = self.gpu().buffer(bytes)?;
        out.set_8(0).map_err(super::error::at("clearing a buffer"))?;
        let plan = self.plan(1)?;
        let mut workspace = self.gpu().workspace(self.size_of(plan))?;
        // What the fragments would be multiplied with is on its way through shared memory, too.
        let mut zeros = self.gpu().buffer(2 * self.cols())?;
        zeros.set_8(0).map_err(super::error::at("clearing a buffer"))?;
        self.gpu().synchronize()?;
        let data = zeros.as_device_ptr().as_raw();
        let x = Activations { data, dtype: activations, rows: 1, row_stride: self.cols() };
        let y = Outputs {
            data: out.as_device_ptr().as_raw(),
            dtype: Float::F32,
            row_stride: self.rows(),
        };
        let launch = Launch::new(self, plan, x, y, &mut workspace)?;
        let kernel = launch.kernel(&self.kernel_kind(activations).fragments())?;
        // SAFETY: x is a row, y has room for all fragments; both live until the device is done.
        unsafe { launch.queue(kernel, 0, 1, std::ptr::null_mut())? };
        self.gpu().synchronize()?;
        let mut words = vec![0u32; bytes / 4];
        out.copy_to(bytemuck::cast_slice_mut(&mut words))
            .map_err(super::error::at("copying from the device"))?;
        Ok(words)
    }
}

/// What is the same for all launches of a multiplication.
struct Launch<'a> {
    layer: &'a Layer,
    plan: LaunchPlan,
    shared_memory: u32,
    x: Activations<u64>,
    y: Outputs<u64>,
    partials: u64,
    counters: u64,
    flags: u32,
}

impl<'a> Launch<'a> {
    fn new(
        layer: &'a Layer,
        plan: LaunchPlan,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
    ) -> Result<Self, GpuError> {
        let shape = layer.shape();
        let shared_memory = plan.shared_memory(shape).filter(|_| plan.is_possible(shape));
        let tiles = layer.shape().grid.tiles().unwrap_or(usize::MAX);
        // Elements of a launch's rows of x are counted in 32 bits.
        let fits = u32::try_from(x.row_stride.saturating_mul(MAX_BATCH)).is_ok()
            && u32::try_from(y.row_stride).is_ok_and(|rows| rows <= MAX_LAYER_ROWS);
        let shared_memory =
            shared_memory.filter(|_| fits).ok_or(GpuError::TooManyTiles { tiles })?;
        let aligned =
            x.data.is_multiple_of(ALIGNMENT) && (2 * x.row_stride as u64).is_multiple_of(ALIGNMENT);
        let flags = u32::from(y.dtype == Float::F32)
            | u32::from(aligned) << 1
            | u32::from(layer.zero_points()) << 2
            | u32::from(layer.split().zero()) << 3;
        Ok(Self {
            layer,
            plan,
            shared_memory,
            x,
            y,
            partials: workspace.partials.as_device_ptr().as_raw(),
            counters: workspace.counters.as_device_ptr().as_raw(),
            flags,
        })
    }

    /// The kernel `name`, ready for this launch.
    fn kernel(&self, name: &str) -> Result<Kernel, GpuError> {
        let gpu = self.layer.gpu();
        let (needed, most) = (self.shared_memory, gpu.plan_device().shared_memory);
        if needed > most {
            return Err(GpuError::SharedMemory { needed });
        }
        gpu.kernels().get(name, |kernel| {
            // The rest of the memory is the L1 cache.
            let share = (100 * needed).div_ceil(most).cast_signed();
            kernel.allow_shared_memory(most, share)
        })
    }

    /// Queues the multiplication of rows `first` to `first + m` of x.
    ///
    /// # Safety
    /// As [`Layer::matmul_raw`].
    unsafe fn queue(
        &self,
        kernel: Kernel,
        first: usize,
        m: usize,
        cuda_stream: sys::CUstream,
    ) -> Result<(), GpuError> {
        let (layer, Self { x, y, .. }) = (self.layer, self);
        let ([blob, index, _], table) = (layer.addresses(), layer.fused_table());
        let [scale, bias] = layer.epilogue_addresses();
        let (partials, counters) = (self.partials, self.counters);
        let x_at = x.data + (first * x.row_stride * x.dtype.bytes()) as u64;
        let y_at = y.data + (first * y.row_stride * y.dtype.bytes()) as u64;
        let (rows, cols, m) = (layer.rows() as u32, layer.cols() as u32, m as u32);
        let (leading_x, leading_y) = (x.row_stride as u32, y.row_stride as u32);
        let base = u32::from(layer.split().base());
        let threads = self.plan.warps * LANES as u32;
        let (buffer_rows, flags) = (self.plan.buffer_rows, self.flags);
        let mut parameters = parameters![
            blob,
            index,
            table,
            x_at,
            y_at,
            scale,
            bias,
            partials,
            counters,
            rows,
            cols,
            m,
            leading_x,
            leading_y,
            base,
            buffer_rows,
            flags,
        ];
        // SAFETY: the parameters are those of the kernels in `kernels-gpu`, whose sizes have been
        // checked; the caller sees to lives.
        unsafe {
            kernel.launch(
                self.plan.blocks,
                threads,
                self.shared_memory,
                cuda_stream,
                &mut parameters,
            )
        }
    }
}
