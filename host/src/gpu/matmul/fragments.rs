//! The A fragments that kernels multiply with, for tests.

use super::super::driver::codes::NOT_FOUND;
use super::super::layer::Form;
use super::super::{GpuError, Layer};
use super::launch::matmul_args;
use super::launches::activation_type;
use super::{Activations, Outputs};
use crate::{Float, MatmulError};
use fused_rans_layout::{KernelId, LANES, SLABS, SlabShape};

impl Layer {
    /// Returns the A fragments that the kernels for activations of this type multiply with: four registers for each
    /// tile, slab (8 per tile), fragment (32 per slab) and lane. Waits until they are copied.
    ///
    /// # Errors
    /// See [`Layer::matmul`]; [`GpuError::Kernels`] for a resident layer, whose kernels do not write fragments.
    #[doc(hidden)]
    pub fn fragments(&self, activations: Float) -> Result<Vec<u32>, GpuError> {
        let (gpu, internal) = (self.gpu(), self.gpu().internal_stream());
        let Form::Blob(blob) = self.form() else {
            return Err(GpuError::loading(NOT_FOUND));
        };
        let launch = self.launch_for(1, activations)?;
        let found = activations;
        let id = activation_type(activations).and_then(|a| KernelId::fragments(self.coding(), a));
        let id = id.ok_or(MatmulError::ActivationType { weights: self.dtype(), found })?;
        let tiles = self.shape().grid.tiles().unwrap_or(usize::MAX);
        let bytes = tiles.saturating_mul(SLABS * SlabShape::WHOLE.fragments() * LANES * 16);
        let mut out = gpu.alloc(bytes)?;
        // The kernel loads activations, too, and does not use them.
        let mut zeros = gpu.alloc(2 * self.cols())?;
        let workspace = internal.alloc_workspace(launch.workspace)?;
        internal.fill(out.as_mut_slice(), 0)?;
        internal.fill(zeros.as_mut_slice(), 0)?;
        let data = zeros.address();
        let x = Activations { data, dtype: activations, rows: 1, row_stride: self.cols() };
        let y = Outputs { data: out.address(), dtype: Float::F32, row_stride: self.rows() };
        self.check_strides(&x, &y)?;
        let args = matmul_args(blob, launch, x, y, &workspace);
        let kernel = self.kernel(id, launch.size)?;
        self.ready().order(&internal)?;
        // SAFETY: x is a row, y has room for all fragments; both live until the device is done.
        unsafe { kernel.launch(launch.size, &args, &internal)? };
        internal.synchronize()?;
        let mut words = vec![0u32; bytes / 4];
        out.copy_to(bytemuck::cast_slice_mut(&mut words))?;
        Ok(words)
    }

    /// Returns the kernel of a multiplication that is launched with `octets` octets. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn kernel_id(&self, activations: Float, octets: u32) -> Option<KernelId> {
        KernelId::matmul(self.coding(), activation_type(activations)?, octets)
    }
}
