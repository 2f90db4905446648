//! Multiplication with weights that are not compressed: what benchmarks compare a layer with.

use super::kernels::parameters;
use super::{Gpu, GpuError, at};
use crate::Float;
use crate::blob::header::check_size;
use crate::matmul::{Activations, Epilogue, MatmulError, Outputs, check};
use crate::{BlobError, Dtype};
use cust::device::DeviceAttribute;
use cust::memory::DeviceSlice;
use cust::stream::Stream;
use fused_rans_layout::TileGrid;

/// Threads of a block of the dense kernels.
const THREADS: u32 = 256;
/// Rows of W that a block takes.
const BLOCK_ROWS: usize = 8;

/// y = x W^T for W of N x K elements, x of M x K and y of M x N, row-major without gaps.
#[derive(Debug)]
pub struct DenseProduct<'a> {
    /// Element type of W and x: [`Float::Bf16`] or [`Float::F16`].
    pub dtype: Float,
    /// Rows N and columns K of W.
    pub shape: TileGrid,
    /// W.
    pub w: &'a DeviceSlice<u8>,
    /// x.
    pub x: &'a DeviceSlice<u8>,
    /// Rows of x.
    pub m: usize,
    /// y.
    pub y: &'a mut DeviceSlice<u8>,
    /// Element type of y: that of W and x, or [`Float::F32`].
    pub y_dtype: Float,
}

impl DenseProduct<'_> {
    /// Checks that the types go together and that the buffers hold the matrices.
    ///
    /// # Errors
    /// [`GpuError::Matmul`] and, for W, [`GpuError::Blob`] with [`BlobError::BufferSize`].
    pub fn check(&self) -> Result<(), GpuError> {
        let &Self { dtype, shape, m, y_dtype, .. } = self;
        let weights = if dtype == Float::F16 { Dtype::F16 } else { Dtype::Bf16 };
        let x = Activations { data: self.x.len(), dtype, rows: m, row_stride: shape.cols };
        let y = Outputs { data: self.y.len(), dtype: y_dtype, row_stride: shape.rows };
        check(weights, shape, x, y, Epilogue::default())?;
        check_size(weights.bytes(), shape.rows, shape.cols, self.w.len())?;
        Ok(())
    }

    /// Queues the multiplication with a plain kernel on `cuda_stream` and returns. Sums and outputs
    /// are F32. It reads W once for every 8 rows of x: a yardstick for few rows only.
    ///
    /// # Errors
    /// As [`DenseProduct::check`], [`MatmulError::OutputType`] for outputs that are not F32,
    /// [`BlobError::TooLarge`] for sides that do not fit 32 bits; [`GpuError::Launch`].
    pub fn queue(self, gpu: &Gpu, cuda_stream: &Stream) -> Result<(), GpuError> {
        self.check()?;
        let Self { dtype, shape: TileGrid { rows, cols }, .. } = self;
        let name = match (dtype, self.y_dtype) {
            (Float::Bf16, Float::F32) => "dense_bf16",
            (Float::F16, Float::F32) => "dense_f16",
            (activations, found) => Err(MatmulError::OutputType { activations, found })?,
        };
        if self.m == 0 || rows == 0 {
            return Ok(());
        }
        let fits = |side| u32::try_from(side).map_err(|_| BlobError::TooLarge { rows, cols });
        let blocks = fits(rows.div_ceil(BLOCK_ROWS))?;
        let (rows, cols, m) = (fits(rows)?, fits(cols)?, fits(self.m)?);
        gpu.enter()?;
        let kernel = gpu.kernels().get(name, |_| Ok(()))?;
        let [w, x] = [self.w, self.x].map(|matrix| matrix.as_device_ptr().as_raw());
        let y = self.y.as_device_ptr().as_raw();
        let mut parameters = parameters![w, x, y, rows, cols, m];
        // SAFETY: the parameters are those of the dense kernels in `kernels-gpu`; `check` has found
        // the buffers large enough, and the driver frees none that is in use.
        unsafe { kernel.launch(blocks, THREADS, 0, cuda_stream.as_inner(), &mut parameters) }
    }
}

impl Gpu {
    /// Bytes of the device's L2 cache, which measurements of memory have to get past.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] if the driver does not say.
    pub fn l2_bytes(&self) -> Result<usize, GpuError> {
        let bytes = self.0.device.get_attribute(DeviceAttribute::L2CacheSize);
        Ok(bytes.map_err(at("asking the device"))?.max(0).unsigned_abs() as usize)
    }
}
