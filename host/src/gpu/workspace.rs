//! What a multiplication needs beside its operands.

use super::error::at;
use super::{Gpu, GpuError};
use cust::memory::DeviceBuffer;

/// How large a [`Workspace`] must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceSize {
    /// Bytes for sums of parts of a row of weights.
    pub(super) partials: usize,
    /// Bytes for counters of those parts.
    pub(super) counters: usize,
}

impl WorkspaceSize {
    /// A size that is enough for either.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            partials: self.partials.max(other.partials),
            counters: self.counters.max(other.counters),
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.partials + self.counters
    }
}

/// Device memory in which the warps of a multiplication add up their sums. Multiplications that share one
/// must follow each other: make one for each CUDA stream.
#[derive(Debug)]
pub struct Workspace {
    pub(super) partials: DeviceBuffer<u8>,
    /// All 0 between multiplications.
    pub(super) counters: DeviceBuffer<u8>,
    pub(super) size: WorkspaceSize,
    gpu: Gpu,
}

impl Workspace {
    /// A workspace; the device's context must be current.
    pub(super) fn new(gpu: Gpu, size: WorkspaceSize) -> Result<Self, GpuError> {
        let allocating = |bytes| GpuError::allocating(bytes);
        // SAFETY: what is never written is never read.
        let partials = unsafe { DeviceBuffer::uninitialized(size.partials) };
        let counters = DeviceBuffer::zeroed(size.counters);
        let workspace = Self {
            partials: partials.map_err(allocating(size.partials))?,
            counters: counters.map_err(allocating(size.counters))?,
            size,
            gpu,
        };
        // CUDA streams that do not block would not wait for the zeros.
        workspace.gpu.synchronize()?;
        Ok(workspace)
    }

    /// The number of its device.
    pub(super) fn ordinal(&self) -> i32 {
        self.gpu.ordinal()
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> WorkspaceSize {
        self.size
    }

    /// Makes it fit for use after a multiplication that failed. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] from the driver.
    pub fn reset(&mut self) -> Result<(), GpuError> {
        self.gpu.synchronize()?;
        self.counters.set_8(0).map_err(at("clearing a workspace"))?;
        self.gpu.synchronize()
    }
}

impl Drop for Workspace {
    /// The buffers free themselves after this, in the device's context.
    fn drop(&mut self) {
        // Without a context nothing can be freed, and nothing needs to be.
        let _ = self.gpu.enter();
    }
}
