//! Device memory that a multiplication needs beside its operands.

use super::super::{CudaStream, DeviceBuffer, Gpu, GpuError};

/// Alignment of the counters behind the partial sums.
const ALIGNMENT: usize = 256;

/// The size of a [`Workspace`]. [`Layer::workspace_size`](super::Layer::workspace_size) returns the size that a layer
/// needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceSize {
    /// Bytes of partial sums.
    pub(super) partials: usize,
    /// Bytes of counters of partial sums.
    pub(super) counters: usize,
}

impl WorkspaceSize {
    /// Returns a size that is enough for both. Fold the sizes of all layers with it to share one workspace.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            partials: self.partials.max(other.partials),
            counters: self.counters.max(other.counters),
        }
    }

    /// Returns a size that is enough for both at once, one behind the other.
    pub(super) fn beside(self, other: Self) -> Self {
        let partials = self.partials.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
        Self {
            partials: partials.saturating_add(other.partials.next_multiple_of(ALIGNMENT)),
            counters: self.counters.saturating_add(other.counters),
        }
    }

    /// Returns the bytes of device memory that a workspace of this size takes.
    #[must_use]
    pub fn byte_len(self) -> usize {
        self.counters_offset().saturating_add(self.counters)
    }

    /// Returns the offset of the counters.
    fn counters_offset(self) -> usize {
        self.partials.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
    }
}

/// Device memory in which the warps of a multiplication add up partial sums. Multiplications that share a workspace
/// must follow each other: make one for each CUDA stream.
#[derive(Debug)]
pub struct Workspace {
    buffer: DeviceBuffer,
    size: WorkspaceSize,
}

impl Workspace {
    /// Makes a workspace in the order of a CUDA stream.
    pub(in super::super) fn new(
        gpu: &Gpu,
        size: WorkspaceSize,
        cuda_stream: &CudaStream,
    ) -> Result<Self, GpuError> {
        let buffer = DeviceBuffer::new(gpu, size.byte_len(), "allocating a workspace")?;
        let mut workspace = Self { buffer, size };
        workspace.reset(cuda_stream)?;
        Ok(workspace)
    }

    /// Returns the size that the workspace was allocated for.
    #[must_use]
    pub fn size(&self) -> WorkspaceSize {
        self.size
    }

    /// Queues zeroing the workspace's counters on a CUDA stream, and returns. Call it after a multiplication that
    /// failed, before the workspace is used again.
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn reset(&mut self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        let range = self.size.counters_offset()..self.buffer.len();
        // All counters are 0 between multiplications.
        cuda_stream.fill(self.buffer.slice_mut(range), 0)
    }

    /// Checks that it is `gpu`'s and large enough.
    pub(super) fn check(&self, gpu: &Gpu, needed: WorkspaceSize) -> Result<(), GpuError> {
        let expected = gpu.ordinal();
        if self.buffer.gpu().ordinal() != expected {
            return Err(GpuError::OtherDevice { what: "the workspace", expected });
        }
        if self.size.union(needed) != self.size {
            let (needed, found) = (needed.byte_len(), self.size.byte_len());
            return Err(GpuError::Workspace { needed, found });
        }
        Ok(())
    }

    /// Returns the address of the partial sums.
    pub(super) fn partials(&self) -> u64 {
        self.buffer.address()
    }

    /// Returns the address of the counters.
    pub(super) fn counters(&self) -> u64 {
        self.buffer.address() + self.size.counters_offset() as u64
    }
}
