//! What can go wrong on the GPU's side.

use crate::{BlobError, MatmulError};
use cust::error::CudaError;

/// Why something could not be done on a GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no driver, or no device of that number.
    #[error("no CUDA device {ordinal} ({source}); the CPU decoder needs none")]
    NoDevice {
        /// The device asked for.
        ordinal: u32,
        /// The driver's word.
        source: CudaError,
    },
    /// The device lacks instructions that the kernels use.
    #[error(
        "the device has compute capability {major}.{minor}, the kernels need 8.0 (Ampere) or newer"
    )]
    TooOld {
        /// Major number of the compute capability.
        major: i32,
        /// Minor number.
        minor: i32,
    },
    /// The driver does not take the kernels' PTX.
    #[error("the driver refused the kernels ({0}); a newer driver may take them")]
    Kernels(#[source] CudaError),
    /// The blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Device memory is exhausted.
    #[error("no room for {bytes} bytes in device memory")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A block of the kernel needs more shared memory than the device gives.
    #[error(
        "the kernel needs {needed} bytes of shared memory for a block, more than the device has"
    )]
    SharedMemory {
        /// Bytes that the kernel needs.
        needed: u32,
    },
    /// The driver does not let a kernel be set up.
    #[error("setting up a kernel: the driver's error {code}")]
    Setup {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The driver does not launch a kernel.
    #[error("launching a kernel: the driver's error {code}")]
    Launch {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The operands of a multiplication do not fit the layer.
    #[error(transparent)]
    Matmul(#[from] MatmulError),
    /// A workspace is too small.
    #[error(
        "the workspace has {found} bytes, the multiplication needs {needed}; make one for the largest layer and batch"
    )]
    Workspace {
        /// Bytes that the multiplication needs.
        needed: usize,
        /// Bytes that the workspace has.
        found: usize,
    },
    /// A layer has more tiles than a launch can have blocks.
    #[error("{tiles} tiles are more than one launch can take")]
    TooManyTiles {
        /// Tiles of the layer.
        tiles: usize,
    },
    /// Any other fault that the driver reports.
    #[error("{action}: {source}")]
    Cuda {
        /// What was being done.
        action: &'static str,
        /// The driver's word.
        source: CudaError,
    },
}

impl GpuError {
    /// For failed allocations of `bytes`.
    pub(super) fn allocating(bytes: usize) -> impl Fn(CudaError) -> Self {
        move |source| match source {
            CudaError::OutOfMemory | CudaError::InvalidMemoryAllocation => {
                Self::OutOfMemory { bytes }
            }
            source => Self::Cuda { action: "allocating device memory", source },
        }
    }
}

/// For failures of `action`.
pub(super) fn at(action: &'static str) -> impl Fn(CudaError) -> GpuError {
    move |source| GpuError::Cuda { action, source }
}
