//! Device memory, and page-locked host memory.

mod arena;
mod buffer;
mod pinned;
mod slice;

pub use arena::{Arena, DeviceRange};
pub use buffer::DeviceBuffer;
pub use pinned::PinnedBuffer;
pub use slice::{DeviceSlice, DeviceSliceMut};

use super::GpuError;

/// Checks that source and destination of a copy have the same length.
pub fn check_copy(from: usize, to: usize) -> Result<(), GpuError> {
    if from == to { Ok(()) } else { Err(GpuError::CopyLength { from, to }) }
}
