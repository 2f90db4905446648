//! Queueing launches.

use super::super::kernels::{Kernel, LaunchSize, SharedMemory};
use super::super::layer::{BlobForm, Form, ResidentForm};
use super::super::{CudaStream, GpuError, Layer};
use super::launches::Launch;
use super::{Activations, Outputs, Workspace};
use crate::launch_plan::{LaunchPlan, MAX_BATCH};
use crate::{Float, MatmulError};
use fused_rans_layout::{
    KernelId, LeanMatmulArgs, MatmulArgs, MatmulFlags, PACK_THREADS, PackArgs, TILE,
};

/// Most rows of a layer, and elements from a row of y to the next: kernels round rows up to whole tiles, in 32 bits.
const MAX_LAYER_ROWS: u32 = u32::MAX - TILE as u32;
/// Alignment of rows of x that lets kernels load 16 bytes at once.
const ALIGNMENT: u64 = 16;
/// Most blocks that pack, for each multiprocessor.
const PACK_BLOCKS: usize = 4;

impl Layer {
    /// Returns the launch for `rows` rows of x of type `activations`, if the device has enough shared memory.
    pub(in super::super) fn launch_for(
        &self,
        rows: usize,
        activations: Float,
    ) -> Result<&Launch, GpuError> {
        let launch = self.launches().get(rows).ok_or_else(|| self.no_plan())?;
        match launch.kernel(activations) {
            Some(_) => Ok(launch),
            None => Err(self.no_kernel(activations)),
        }
    }

    /// Returns the kernel of a launch, which is loaded the first time; the device's context must be current.
    pub(in super::super) fn matmul_kernel(
        &self,
        launch: &Launch,
        activations: Float,
    ) -> Result<Kernel, GpuError> {
        let id = launch.kernel(activations).ok_or_else(|| self.no_kernel(activations))?;
        self.kernel(id, launch.size)
    }

    /// Returns the kernel that packs activations. It wants shared memory as the kernels do that follow it: a multiprocessor
    /// that had to change between both would wait.
    pub(super) fn pack_kernel(&self) -> Result<Kernel, GpuError> {
        self.gpu().kernels().get(KernelId::pack(), SharedMemory { limit: Some(0), carveout: 100 })
    }

    /// Returns a kernel that multiplies, ready for launches of this size.
    pub(super) fn kernel(&self, id: KernelId, size: LaunchSize) -> Result<Kernel, GpuError> {
        let (needed, most) = (size.shared_memory, self.gpu().plan_device().shared_memory);
        if needed > most {
            return Err(GpuError::SharedMemory { needed });
        }
        let carveout = (100 * needed).div_ceil(most.max(1)).cast_signed();
        self.gpu().kernels().get(id, SharedMemory { limit: Some(most), carveout })
    }

    /// Returns why there is no launch plan.
    #[cold]
    pub(super) fn no_plan(&self) -> GpuError {
        let device = self.gpu().plan_device();
        match LaunchPlan::least_shared_memory(device, self.shape()) {
            Some(needed) if needed > device.shared_memory => GpuError::SharedMemory { needed },
            _ => self.too_large(),
        }
    }

    #[cold]
    pub(super) fn too_large(&self) -> GpuError {
        GpuError::TooManyTiles { tiles: self.shape().grid.tiles().unwrap_or(usize::MAX) }
    }

    #[cold]
    fn no_kernel(&self, found: Float) -> GpuError {
        MatmulError::ActivationType { weights: self.dtype(), found }.into()
    }

    /// Queues a multiplication whose operands fit the layer; the device's context must be current.
    ///
    /// # Safety
    /// See [`Layer::matmul_raw`].
    pub(super) unsafe fn queue(
        &self,
        launch: &Launch,
        x: Activations<u64>,
        y: Outputs<u64>,
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        workspace.check(self.gpu(), launch.workspace)?;
        self.check_strides(&x, &y)?;
        let kernels = Kernels {
            multiply: self.matmul_kernel(launch, x.dtype)?,
            pack: (launch.packed > 0).then(|| self.pack_kernel()).transpose()?,
            overlap: self.ready().order(cuda_stream)?,
        };
        let batch = 8 * launch.plan.octets as usize;
        for first in (0..x.rows).step_by(batch) {
            let rows =
                |data: u64, stride: usize, bytes: usize| data + (first * stride * bytes) as u64;
            let x = Activations {
                data: rows(x.data, x.row_stride, x.dtype.byte_len()),
                rows: batch.min(x.rows - first),
                ..x
            };
            let y = Outputs { data: rows(y.data, y.row_stride, y.dtype.byte_len()), ..y };
            // SAFETY: the caller's promise.
            unsafe { self.launch(launch, &kernels, (x, y), workspace, cuda_stream)? };
        }
        Ok(())
    }

    /// Queues a launch, for at most as many rows of x as it takes.
    ///
    /// # Safety
    /// See [`Layer::matmul_raw`].
    unsafe fn launch(
        &self,
        launch: &Launch,
        kernels: &Kernels,
        (x, y): (Activations<u64>, Outputs<u64>),
        workspace: &Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        let (size, kernel) = (launch.size, kernels.multiply);
        // SAFETY: the fused kernels of a layer's form take these arguments, whose sizes have been checked; the rest is
        // the caller's promise. The kernels of resident layers read only the layer before the launches before them are done.
        unsafe {
            match self.form() {
                Form::Blob(blob) => {
                    let args = matmul_args(blob, launch, x, y, workspace);
                    kernel.launch(size, &args, cuda_stream)
                }
                Form::Resident(resident) => {
                    if let Some(pack) = kernels.pack {
                        let (size, args) = pack_launch(self, launch, &x, workspace);
                        pack.launch_overlapping(size, &args, cuda_stream, kernels.overlap)?;
                    }
                    let place =
                        Place { partials: workspace.partials(), counters: workspace.counters() };
                    let args =
                        self.lean_args(resident, launch, (x, y), place, MatmulFlags::empty())?;
                    kernel.launch_overlapping(size, &args, cuda_stream, kernels.overlap)
                }
            }
        }
    }

    /// Checks that elements of a launch's rows of x can be counted in 32 bits, and rows of y, too.
    pub(super) fn check_strides(
        &self,
        x: &Activations<u64>,
        y: &Outputs<u64>,
    ) -> Result<(), GpuError> {
        let fits = u32::try_from(x.row_stride.saturating_mul(MAX_BATCH)).is_ok()
            && u32::try_from(y.row_stride).is_ok_and(|stride| stride <= MAX_LAYER_ROWS);
        if fits { Ok(()) } else { Err(self.too_large()) }
    }

    /// Returns the arguments of a kernel for resident layers. `more` are flags beside those that the operands have.
    pub(super) fn lean_args(
        &self,
        resident: &ResidentForm,
        launch: &Launch,
        (x, y): (Activations<u64>, Outputs<u64>),
        place: Place,
        more: MatmulFlags,
    ) -> Result<LeanMatmulArgs, GpuError> {
        let partition = launch.plan.lean_partition(self.shape());
        let partition = partition.ok_or_else(|| self.too_large())?;
        let is_packed = launch.packed > 0;
        Ok(LeanMatmulArgs {
            layer: resident.args,
            x: if is_packed { place.partials } else { x.data },
            y: y.data,
            partials: place.partials + launch.packed as u64,
            counters: place.counters,
            x_rows: x.rows as u32,
            x_row_stride: x.row_stride as u32,
            y_row_stride: y.row_stride as u32,
            flags: flags(&x, &y).with(more, true),
            each: partition.each,
            longer: partition.longer,
            groups: launch.plan.groups(),
            reserved: 0,
        })
    }
}

/// The kernels of a multiplication, and whether they may overlap with what is queued before.
struct Kernels {
    multiply: Kernel,
    pack: Option<Kernel>,
    overlap: bool,
}

/// Addresses of a launch's part of a workspace.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub partials: u64,
    pub counters: u64,
}

/// Returns the launch that packs activations at the start of a workspace.
fn pack_launch(
    layer: &Layer,
    launch: &Launch,
    x: &Activations<u64>,
    workspace: &Workspace,
) -> (LaunchSize, PackArgs) {
    let chunks = launch.packed / size_of::<[u32; 4]>();
    let most = layer.gpu().plan_device().multiprocessors as usize * PACK_BLOCKS;
    let blocks = chunks.div_ceil(PACK_THREADS).min(most) as u32;
    let size = LaunchSize { blocks, threads: PACK_THREADS as u32, shared_memory: 0 };
    let args = PackArgs {
        x: x.data,
        packed: workspace.partials(),
        cols: layer.cols() as u32,
        x_rows: x.rows as u32,
        x_row_stride: x.row_stride as u32,
        octets: launch.plan.octets,
        flags: MatmulFlags::empty().with(MatmulFlags::ALIGNED_X, is_aligned(x)),
        reserved: 0,
    };
    (size, args)
}

/// Returns whether rows of x start at multiples of what kernels load at once.
fn is_aligned(x: &Activations<u64>) -> bool {
    x.data.is_multiple_of(ALIGNMENT) && (2 * x.row_stride as u64).is_multiple_of(ALIGNMENT)
}

/// Returns the properties of a launch.
fn flags(x: &Activations<u64>, y: &Outputs<u64>) -> MatmulFlags {
    MatmulFlags::empty()
        .with(MatmulFlags::OUTPUT_F32, y.dtype == Float::F32)
        .with(MatmulFlags::ALIGNED_X, is_aligned(x))
}

/// Returns the arguments of a kernel that reads a blob, for at most [`MAX_BATCH`] rows of x.
pub(super) fn matmul_args(
    blob: &BlobForm,
    launch: &Launch,
    x: Activations<u64>,
    y: Outputs<u64>,
    workspace: &Workspace,
) -> MatmulArgs {
    MatmulArgs {
        layer: blob.args,
        x: x.data,
        y: y.data,
        partials: workspace.partials(),
        counters: workspace.counters(),
        x_rows: x.rows as u32,
        x_row_stride: x.row_stride as u32,
        y_row_stride: y.row_stride as u32,
        buffer_rows: launch.plan.buffer_rows,
        flags: flags(&x, &y),
        reserved: 0,
    }
}
