//! Multiplication with weights that are not compressed, for benchmarks to compare with.

use super::kernels::{LaunchSize, SharedMemory};
use super::{CudaStream, DeviceSlice, DeviceSliceMut, Gpu, GpuError};
use crate::blob::header::check_size;
use crate::matmul::{Activations, Epilogue, MatmulError, Outputs, check};
use crate::{BlobError, Dtype, Float};
use fused_rans_layout::{ActivationType, DENSE_THREADS, DenseArgs, KernelId, TileGrid};

/// Rows of W that a block multiplies.
const BLOCK_ROWS: usize = 8;

/// y = x W^T for W of N x K elements, x of M x K and y of M x N, row-major without gaps.
#[derive(Debug)]
pub struct DenseProduct<'a> {
    /// Element type of W and x: [`Float::Bf16`] or [`Float::F16`].
    pub dtype: Float,
    /// Rows N and columns K of W.
    pub shape: TileGrid,
    /// W.
    pub w: DeviceSlice<'a>,
    /// x.
    pub x: DeviceSlice<'a>,
    /// Rows of x.
    pub rows: usize,
    /// y.
    pub y: DeviceSliceMut<'a>,
    /// Element type of y: that of W and x, or [`Float::F32`].
    pub y_dtype: Float,
}

impl DenseProduct<'_> {
    /// Checks that the types go together and that the buffers hold the matrices.
    ///
    /// # Errors
    /// [`GpuError::Matmul`] and, for W, [`GpuError::Blob`] with [`BlobError::BufferSize`].
    pub fn check(&self) -> Result<(), GpuError> {
        let &Self { dtype, shape, rows, y_dtype, .. } = self;
        let weights = if dtype == Float::F16 { Dtype::F16 } else { Dtype::Bf16 };
        let x = Activations { data: self.x.len(), dtype, rows, row_stride: shape.cols };
        let y = Outputs { data: self.y.len(), dtype: y_dtype, row_stride: shape.rows };
        check(weights, shape, x, y, Epilogue::default())?;
        check_size(weights.byte_len(), shape.rows, shape.cols, self.w.len())?;
        Ok(())
    }

    /// Queues the multiplication with a plain kernel and returns. Use it as a baseline for up to 8 rows, because it
    /// reads W once for every 8 rows of x. Sums and outputs are F32.
    ///
    /// # Errors
    /// The errors of [`DenseProduct::check`], [`MatmulError::OutputType`] for outputs that are not F32,
    /// [`BlobError::TooLarge`] for sides that do not fit 32 bits, [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn queue(self, gpu: &Gpu, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        self.check()?;
        let Self { dtype, shape: TileGrid { rows, cols }, .. } = self;
        let activations = match (dtype, self.y_dtype) {
            (Float::Bf16, Float::F32) => ActivationType::Bf16,
            (Float::F16, Float::F32) => ActivationType::F16,
            (activations, found) => Err(MatmulError::OutputType { activations, found })?,
        };
        if self.rows == 0 || rows == 0 {
            return Ok(());
        }
        let fits = |side| u32::try_from(side).map_err(|_| BlobError::TooLarge { rows, cols });
        let blocks = fits(rows.div_ceil(BLOCK_ROWS))?;
        let args = DenseArgs {
            w: self.w.address(),
            x: self.x.address(),
            y: self.y.address(),
            rows: fits(rows)?,
            cols: fits(cols)?,
            x_rows: fits(self.rows)?,
            reserved: 0,
        };
        gpu.enter()?;
        self.w.check(gpu, "W", 2)?;
        self.x.check(gpu, "the activations", 2)?;
        self.y.check(gpu, "the outputs", 4)?;
        let no_setup = SharedMemory { limit: None, carveout: 0 };
        let kernel = gpu.kernels().get(KernelId::dense(activations), no_setup)?;
        let size = LaunchSize { blocks, threads: DENSE_THREADS as u32, shared_memory: 0 };
        // SAFETY: the dense kernels take these arguments; the buffers are the device's and large enough, and the driver
        // frees none that is in use.
        unsafe { kernel.launch(size, &args, cuda_stream) }
    }
}
