//! Multiplication with a layer: `y = x W^T`.

mod fragments;
mod group;
mod launch;
mod launches;
mod workspace;

pub use group::LayerGroup;
pub use launches::Launches;
pub use workspace::{Workspace, WorkspaceSize};

use super::{CudaStream, DeviceSlice, DeviceSliceMut, GpuError, Layer};
use crate::launch_plan::LaunchPlan;
use crate::matmul::{Activations, Epilogue, Outputs, check};
use launches::{Launch, ROW_CLASSES};

impl Layer {
    /// Queues `y = x W^T`, times the layer's scale, plus its bias, on a CUDA stream, and returns. Use it for up to 128
    /// rows of x. It neither allocates memory nor waits for the device. The first call with another number of rows or
    /// another type of activations may load a kernel (see [`Layer::prepare`]).
    ///
    /// Products are exact, sums are F32, in an order that depends on shapes and device alone: the same operands give
    /// the same bits. More rows of x than a kernel takes, 64 or 128, are processed that many at a time, each time decoding
    /// the layer again: for many more, [`Layer::decode`] and a dense multiplication are faster. NaN patterns of FP8 weights are multiplied as
    /// +-480; check inputs beforehand where that matters.
    ///
    /// ```no_run
    /// # use fused_rans_host::gpu::{CudaStream, DeviceBuffer, GpuError, Layer, Workspace};
    /// # use fused_rans_host::{Activations, Float, Outputs};
    /// # fn product(
    /// #     layer: &Layer, x: &DeviceBuffer, y: &mut DeviceBuffer, workspace: &mut Workspace, cuda_stream: &CudaStream,
    /// # ) -> Result<(), GpuError> {
    /// let x = Activations { data: x.as_slice(), dtype: Float::Bf16, rows: 1, row_stride: layer.cols() };
    /// let y = Outputs { data: y.as_mut_slice(), dtype: Float::F32, row_stride: layer.rows() };
    /// layer.matmul(x, y, workspace, cuda_stream)
    /// # }
    /// ```
    ///
    /// The same buffer cannot be both:
    ///
    /// ```compile_fail
    /// # use fused_rans_host::gpu::{CudaStream, DeviceBuffer, GpuError, Layer, Workspace};
    /// # use fused_rans_host::{Activations, Float, Outputs};
    /// # fn product(
    /// #     layer: &Layer, x: &mut DeviceBuffer, workspace: &mut Workspace, cuda_stream: &CudaStream,
    /// # ) -> Result<(), GpuError> {
    /// let y = Outputs { data: x.as_mut_slice(), dtype: Float::F32, row_stride: layer.rows() };
    /// let x = Activations { data: x.as_slice(), dtype: Float::Bf16, rows: 1, row_stride: layer.cols() };
    /// layer.matmul(x, y, workspace, cuda_stream)
    /// # }
    /// ```
    ///
    /// A workspace cannot be used by two threads at once:
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
    /// Operands, workspace and layer may be dropped while they are in use: the driver frees memory after the work. The
    /// caller orders what other CUDA streams do with `y` and the workspace; without order, the outputs are undefined
    /// numbers, and those of later products with the same workspace, too, until [`Workspace::reset`].
    ///
    /// # Errors
    /// [`GpuError::Matmul`] for operands that do not fit the layer, [`GpuError::Workspace`] for a workspace that is too
    /// small, [`GpuError::OtherDevice`] for an operand, a workspace or a CUDA stream of another device,
    /// [`GpuError::Misaligned`] for operands that are not aligned to their elements, [`GpuError::SharedMemory`] and
    /// [`GpuError::TooManyTiles`] for a layer that the device cannot multiply with, [`GpuError::Kernels`],
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`]. What fails on the device is reported by a later call.
    pub fn matmul(
        &self,
        x: Activations<DeviceSlice<'_>>,
        y: Outputs<DeviceSliceMut<'_>>,
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.check_operands(&x, &y, cuda_stream)?;
        let x = Activations {
            data: x.data.address(),
            dtype: x.dtype,
            rows: x.rows,
            row_stride: x.row_stride,
        };
        let y = Outputs { data: y.data.address(), dtype: y.dtype, row_stride: y.row_stride };
        let launch = self.launch_for(x.rows, x.dtype)?;
        // SAFETY: the buffers are the device's and as large as the operands; the driver frees none that is in use.
        unsafe { self.queue(launch, x, y, workspace, cuda_stream) }
    }

    /// Queues the multiplication of [`Layer::matmul`] with operands at device addresses. Use it for memory of other
    /// libraries, in loops where it takes too long to ask the driver which device an address belongs to.
    ///
    /// # Errors
    /// See [`Layer::matmul`]; lengths of buffers are not known and not checked.
    ///
    /// # Safety
    /// `x` and `y` do not overlap. They are addresses in this device's memory, aligned to their elements, of buffers as
    /// large as the operands. Until the work is done, layer, workspace and buffers are not freed in another way than by
    /// `cuMemFree` (as dropping does), and nothing that is not ordered after it uses `y` or the workspace.
    pub unsafe fn matmul_raw(
        &self,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.enter_unsized(&x, &y, cuda_stream)?;
        let launch = self.launch_for(x.rows, x.dtype)?;
        // SAFETY: the caller's promise.
        unsafe { self.queue(launch, x, y, workspace, cuda_stream) }
    }

    /// Queues the multiplication of [`Layer::matmul_raw`], launched according to `plan`. For tests.
    ///
    /// # Errors
    /// See [`Layer::matmul_raw`]; [`GpuError::SharedMemory`] and [`GpuError::TooManyTiles`] for a plan that the device
    /// or the kernels cannot follow.
    ///
    /// # Safety
    /// See [`Layer::matmul_raw`].
    #[doc(hidden)]
    pub unsafe fn matmul_planned(
        &self,
        plan: LaunchPlan,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.enter_unsized(&x, &y, cuda_stream)?;
        let launch = Launch::new(plan, self.shape(), self.coding());
        let launch = launch.ok_or_else(|| self.too_large())?;
        // SAFETY: the caller's promise.
        unsafe { self.queue(&launch, x, y, workspace, cuda_stream) }
    }

    /// Returns the plan of a launch with `rows` rows of x. For tests and benchmarks.
    ///
    /// # Errors
    /// [`GpuError::SharedMemory`] if the device has too little for this layer, [`GpuError::TooManyTiles`] if the layer
    /// is too large.
    #[doc(hidden)]
    pub fn plan(&self, rows: usize) -> Result<LaunchPlan, GpuError> {
        self.launches().get(rows).map(|launch| launch.plan).ok_or_else(|| self.no_plan())
    }

    /// Returns the size of a workspace for multiplications with up to `rows` rows of x. Pass it to
    /// [`Gpu::alloc_workspace`](super::Gpu::alloc_workspace).
    ///
    /// # Errors
    /// [`GpuError::SharedMemory`] and [`GpuError::TooManyTiles`], as for [`Layer::matmul`].
    pub fn workspace_size(&self, rows: usize) -> Result<WorkspaceSize, GpuError> {
        // Fewer rows may be launched in another way.
        let smaller = ROW_CLASSES.into_iter().filter(|&fewer| fewer < rows);
        smaller.chain([rows]).try_fold(WorkspaceSize::default(), |size, rows| {
            let launch = self.launches().get(rows).ok_or_else(|| self.no_plan())?;
            Ok(size.union(launch.workspace))
        })
    }

    /// Loads the kernels for multiplications with up to `rows` rows of x of type `activations`, and waits for the
    /// layer's upload. Call it before measuring, before recording a [`Graph`](super::Graph), and wherever a first call
    /// of [`Layer::matmul`] must not take the time of loading a kernel.
    ///
    /// # Errors
    /// [`GpuError::Matmul`] for a type that the weights are not multiplied with, [`GpuError::SharedMemory`],
    /// [`GpuError::TooManyTiles`], [`GpuError::Kernels`], [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn prepare(&self, rows: usize, activations: crate::Float) -> Result<(), GpuError> {
        let x = Activations { data: 0, dtype: activations, rows: 0, row_stride: self.cols() };
        let y = Outputs { data: 0, dtype: crate::Float::F32, row_stride: self.rows() };
        self.check_shapes(x, y)?;
        self.gpu().enter()?;
        let smaller = ROW_CLASSES.into_iter().filter(|&fewer| fewer < rows);
        for rows in smaller.chain([rows]) {
            let launch = self.launch_for(rows, activations)?;
            self.matmul_kernel(launch, activations)?;
            if launch.packed > 0 {
                self.pack_kernel()?;
            }
        }
        self.ready().synchronize()
    }

    /// Checks operands and the CUDA stream; makes the device's context current.
    fn check_operands(
        &self,
        x: &Activations<DeviceSlice<'_>>,
        y: &Outputs<DeviceSliceMut<'_>>,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        let [x_bytes, y_bytes] = [x.data.len(), y.data.len()];
        self.check_shapes(x.sized(x_bytes), y.sized(y_bytes))?;
        self.check_stream(cuda_stream)?;
        self.gpu().enter()?;
        x.data.check(self.gpu(), "the activations", x.dtype.byte_len() as u64)?;
        y.data.check(self.gpu(), "the outputs", y.dtype.byte_len() as u64)
    }

    /// Checks operands whose buffers' lengths are not known, and the CUDA stream; makes the device's context current.
    fn enter_unsized(
        &self,
        x: &Activations<u64>,
        y: &Outputs<u64>,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.check_shapes(x.sized(usize::MAX), y.sized(usize::MAX))?;
        self.check_stream(cuda_stream)?;
        self.gpu().enter()
    }

    fn check_shapes(&self, x: Activations<usize>, y: Outputs<usize>) -> Result<(), GpuError> {
        Ok(check(self.dtype(), self.shape().grid, x, y, Epilogue::default())?)
    }
}
