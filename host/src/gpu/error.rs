//! What can go wrong on the GPU's side.

use super::driver;
use crate::{BlobError, MatmulError};
use cust::error::CudaError;
use std::ffi::CStr;
use std::fmt;

/// Why something could not be done on a GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no driver, or no device of that number.
    #[error("no CUDA device {ordinal} ({}); the CPU decoder needs none", name(*source as u32))]
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
    #[error("the driver refused the kernels ({}); a newer driver may take them", name(*code))]
    Kernels {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is not enough device memory for a buffer.
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
    /// The driver does not let a kernel be loaded or set up, for another reason than its PTX.
    #[error("setting up a kernel: {}", fault(*code))]
    Setup {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The driver does not say whose memory an operand is in.
    #[error("asking for an operand's device: {}", fault(*code))]
    Argument {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The driver does not launch a kernel.
    #[error("launching a kernel: {}", fault(*code))]
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
    /// An operand or a workspace is in another device's memory.
    #[error("an operand is not in the memory of device {expected}, where the layer is")]
    OtherDevice {
        /// The layer's device.
        expected: i32,
    },
    /// An operand does not start where the kernels can load or store it.
    #[error("an operand must start at a multiple of {alignment} bytes")]
    Misaligned {
        /// What its address must be a multiple of.
        alignment: u64,
    },
    /// Device memory is not what was copied there.
    #[error("the layer's {part} changed in device memory since it was uploaded; upload it anew")]
    Damaged {
        /// What has changed.
        part: LayerPart,
    },
    /// Any other fault that the driver reports.
    #[error("{action}: {}", fault(*source as u32))]
    Cuda {
        /// What was being done.
        action: &'static str,
        /// The driver's word.
        source: CudaError,
    },
}

/// A part of a layer in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerPart {
    /// The blob's header, frequency table, index and row scales.
    Front,
    /// A decode table.
    Table,
    /// The outputs' scale.
    Scale,
    /// The outputs' bias.
    Bias,
    /// The tile of this number.
    Tile(usize),
}

impl fmt::Display for LayerPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front => out.write_str("header or index"),
            Self::Table => out.write_str("decode table"),
            Self::Scale => out.write_str("scale"),
            Self::Bias => out.write_str("bias"),
            Self::Tile(number) => write!(out, "tile {number}"),
        }
    }
}

impl GpuError {
    /// Whether the device's context is lost: a kernel, of this or another library, or the hardware had a fault.
    ///
    /// What was in device memory is gone, and every later call of this process for this device must be expected to fail, too; layers,
    /// buffers and the [`Gpu`](super::Gpu) can be dropped all the same. Go on in a new process, or with
    /// [`Blob::decode`](crate::Blob::decode) on the CPU. After other errors what failed may be tried again.
    ///
    /// These are the codes of which CUDA's documentation says so, uncorrectable errors of memory and NVLink, and the unknown
    /// error.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.code().is_some_and(loses_context)
    }

    /// Whether there is too little device memory: for a buffer ([`GpuError::OutOfMemory`]), or for what the driver itself
    /// needs, such as to load or launch a kernel. Nothing is lost; it may be tried again when there is room.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
            || self.code() == Some(CudaError::OutOfMemory as u32)
    }

    /// The driver's code for something that failed on a device.
    fn code(&self) -> Option<u32> {
        match *self {
            Self::Cuda { source, .. } => Some(source as u32),
            Self::Kernels { code }
            | Self::Setup { code }
            | Self::Argument { code }
            | Self::Launch { code } => Some(code),
            _ => None,
        }
    }

    /// For failed allocations of `bytes`.
    pub(super) fn allocating(bytes: usize) -> impl Fn(CudaError) -> Self {
        move |source| match source {
            CudaError::OutOfMemory | CudaError::InvalidMemoryAllocation => {
                Self::OutOfMemory { bytes }
            }
            source => Self::Cuda { action: "allocating device memory", source },
        }
    }

    /// For a kernel that the driver has not loaded.
    pub(super) fn loading(code: u32) -> Self {
        match code {
            // Of the image, the device, the PTX, its compiler, its version, compiling it, its source, a kernel's name.
            200 | 209 | 218 | 221 | 222 | 223 | 300 | 500 => Self::Kernels { code },
            code => Self::Setup { code },
        }
    }
}

/// For failures of `action`.
pub(super) fn at(action: &'static str) -> impl Fn(CudaError) -> GpuError {
    move |source| GpuError::Cuda { action, source }
}

/// Whether nothing more can be done in a context after the driver has returned `code`.
fn loses_context(code: u32) -> bool {
    match code {
        // The driver shuts down; a device that was there is so no more.
        4 | 100 | 101 => true,
        // Uncorrectable errors of memory and NVLink, after which NVIDIA has applications restarted.
        214 | 220 => true,
        // "This leaves the process in an inconsistent state and any further CUDA work will return the same error": what
        // error containment caught, an illegal address, a timeout, faults of stack, instruction, alignment, address space
        // and program counter, a failed launch, leaked tensor memory, an external device.
        226 | 700 | 702 | 714..=719 | 721 | 911 => true,
        // The context is destroyed or, after an assertion, must be; the MPS server has ended this process's work.
        709 | 710 | 810 => true,
        // Also what `cust` makes of codes that it does not know, as are 226, 721, 810 and 911.
        999 => true,
        _ => false,
    }
}

/// What the driver says, and what to do.
fn fault(code: u32) -> String {
    let advice = match code {
        2 => "; make room in device memory and try again",
        code if loses_context(code) => {
            "; the device's context is lost: go on in a new process, or on the CPU"
        }
        _ => "",
    };
    name(code) + advice
}

/// The driver's name for `code`, with its number.
fn name(code: u32) -> String {
    let mut name = std::ptr::null();
    // SAFETY: the driver writes an address, or none.
    let result = unsafe { driver::cuGetErrorName(code, &raw mut name) };
    if result != driver::SUCCESS || name.is_null() {
        return format!("the driver's error {code}");
    }
    // SAFETY: it is that of a text which lives as long as the driver.
    let name = unsafe { CStr::from_ptr(name) };
    format!("{}, {code}", name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All codes of CUDA 13 and some that there are not.
    fn errors(code: u32) -> [GpuError; 3] {
        [GpuError::loading(code), GpuError::Setup { code }, GpuError::Launch { code }]
    }

    #[test]
    fn lost_contexts_are_told_from_other_errors() {
        let sticky = [
            4, 100, 101, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810,
            911, 999,
        ];
        for code in 0..1100 {
            for error in errors(code) {
                assert_eq!(error.is_sticky(), sticky.contains(&code), "{error}");
                let advice = error.to_string().contains("a new process");
                assert_eq!(advice, error.is_sticky(), "{error}");
                assert!(error.to_string().contains(&code.to_string()), "{error}");
            }
        }
        assert!(at("waiting")(CudaError::EccUncorrectable).is_sticky());
        assert!(GpuError::allocating(1)(CudaError::IllegalAddress).is_sticky());
        assert!(!at("waiting")(CudaError::InvalidContext).is_sticky());
        let none = GpuError::NoDevice { ordinal: 0, source: CudaError::NoDevice };
        assert!(!none.is_sticky(), "nothing was there to be lost");
    }

    #[test]
    fn too_little_memory_is_told_from_other_errors() {
        for code in 0..1100 {
            for error in errors(code) {
                assert_eq!(error.is_out_of_memory(), code == 2, "{error}");
            }
        }
        assert!(at("waiting")(CudaError::OutOfMemory).is_out_of_memory());
        assert!(!at("waiting")(CudaError::InvalidValue).is_out_of_memory());
        for source in [CudaError::OutOfMemory, CudaError::InvalidMemoryAllocation] {
            let error = GpuError::allocating(77)(source);
            assert!(error.is_out_of_memory() && error.to_string().contains("77 bytes"), "{error}");
        }
    }

    #[test]
    fn only_kernels_that_are_not_taken_may_need_a_newer_driver() {
        let refused = |code| matches!(GpuError::loading(code), GpuError::Kernels { .. });
        let codes: Vec<u32> = (0..1100).filter(|&code| refused(code)).collect();
        assert_eq!(codes, [200, 209, 218, 221, 222, 223, 300, 500]);
    }
}
