//! Errors of GPUs.

use super::driver::code_name;
use super::driver::codes::{self, Code};
use crate::{BlobError, MatmulError};
use std::fmt;

/// An error of a GPU, its driver or arguments for it. After each of them the CPU decoder and
/// [`Blob::matmul`](crate::Blob::matmul) still work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No CUDA driver is installed, or the loader does not find it.
    #[error(
        "no CUDA driver ({reason}): install NVIDIA's driver, or put the directory of libcuda.so.1 on the loader's \
         path (LD_LIBRARY_PATH); the CPU decoder needs none"
    )]
    NoDriver {
        /// The loader's reason.
        reason: String,
    },
    /// The CUDA driver is too old to have a function that is needed.
    #[error(
        "the CUDA driver has no {function}: install a newer driver; the CPU decoder needs none"
    )]
    MissingFunction {
        /// The function's name in the library.
        function: &'static str,
    },
    /// There is no device of that number.
    #[error("no CUDA device {ordinal} ({}); the CPU decoder needs none", code_name(*code))]
    NoDevice {
        /// The device asked for.
        ordinal: u32,
        /// The driver's code, a `CUresult`.
        code: u32,
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
    /// The driver does not accept the kernels' PTX.
    #[error("the driver refused the kernels ({}); a newer driver may take them", code_name(*code))]
    Kernels {
        /// The driver's code, a `CUresult`.
        code: u32,
    },
    /// The blob is damaged, or a buffer does not have its size.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The operands of a multiplication do not fit the layer.
    #[error(transparent)]
    Matmul(#[from] MatmulError),
    /// Memory is full: the device's, or what the driver allocates for itself.
    #[error("out of memory while {action}{}; make room and try again", of_bytes(*bytes))]
    OutOfMemory {
        /// The operation, such as "copying to the device".
        action: &'static str,
        /// Bytes asked for; `None` if the driver needed them for itself.
        bytes: Option<usize>,
    },
    /// A kernel needs more shared memory for a block than the device has.
    #[error(
        "the kernel needs {needed} bytes of shared memory for a block, more than the device has"
    )]
    SharedMemory {
        /// Bytes that the kernel needs.
        needed: u32,
    },
    /// A workspace is too small.
    #[error(
        "the workspace has {found} bytes, the multiplication needs {needed}; make one for the largest layer and batch \
         (WorkspaceSize::union)"
    )]
    Workspace {
        /// Bytes that the multiplication needs.
        needed: usize,
        /// Bytes that the workspace has.
        found: usize,
    },
    /// A range of device memory is too short for its intended content.
    #[error("{needed} bytes of device memory are needed, the range has {found}")]
    TooShort {
        /// Bytes needed.
        needed: usize,
        /// Bytes of the range, or left in the arena.
        found: usize,
    },
    /// Source and destination of a copy have different lengths.
    #[error("a copy of {from} bytes to {to} bytes; both must have the same length")]
    CopyLength {
        /// Bytes of the source.
        from: usize,
        /// Bytes of the destination.
        to: usize,
    },
    /// A layer has more tiles than a launch can have blocks.
    #[error("{tiles} tiles are more than one launch can take")]
    TooManyTiles {
        /// Tiles of the layer.
        tiles: usize,
    },
    /// Something belongs to another device, or is no device memory at all.
    #[error("{what} does not belong to device {expected}, which it is used with")]
    OtherDevice {
        /// Name of the operand, workspace or CUDA stream.
        what: &'static str,
        /// Ordinal of the device that it is used with.
        expected: i32,
    },
    /// A range of device memory does not start where kernels can load or store it.
    #[error("{what} must start at a multiple of {alignment} bytes")]
    Misaligned {
        /// Name of the memory.
        what: &'static str,
        /// The alignment in bytes.
        alignment: u64,
    },
    /// Device memory no longer holds what was copied there.
    #[error("the layer's {part} changed in device memory since it was uploaded; upload it again")]
    Damaged {
        /// The part that changed.
        part: LayerPart,
    },
    /// Any other error that the driver reports.
    #[error("{action}: {}", with_advice(*code))]
    Driver {
        /// The operation, such as "copying to the device".
        action: &'static str,
        /// The driver's code, a `CUresult`.
        code: u32,
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
    /// The entries of a resident layer's slabs.
    Index,
    /// Scales and zero points of groups, in a resident layer.
    Groups,
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
            Self::Index => out.write_str("index of slabs"),
            Self::Groups => out.write_str("scales of groups"),
            Self::Tile(number) => write!(out, "tile {number}"),
        }
    }
}

impl GpuError {
    /// Returns the kind of this error, for callers that only need to know how to react.
    #[must_use]
    pub fn kind(&self) -> crate::ErrorKind {
        use crate::ErrorKind;
        match self {
            Self::Blob(error) => error.kind(),
            Self::Matmul(error) => error.kind(),
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::Damaged { .. } => ErrorKind::Corruption,
            Self::Workspace { .. }
            | Self::TooShort { .. }
            | Self::CopyLength { .. }
            | Self::TooManyTiles { .. }
            | Self::OtherDevice { .. }
            | Self::Misaligned { .. } => ErrorKind::InvalidArgument,
            Self::Driver { .. } if self.is_sticky() => ErrorKind::DeviceLost,
            _ => ErrorKind::Device,
        }
    }

    /// Returns whether the device's context is lost: a kernel, of this or another library, or the hardware had a fault.
    ///
    /// The contents of device memory are gone, and every later call of this process for this device must be expected to
    /// fail; layers, buffers and the [`Gpu`](super::Gpu) can still be dropped. Continue in a new process, or with
    /// [`Blob::decode`](crate::Blob::decode) on the CPU. After any other error the call may be repeated.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        matches!(*self, Self::Driver { code, .. } if loses_context(code))
    }

    /// Returns whether the context was destroyed, with all that was in it.
    pub(super) fn is_destroyed_context(&self) -> bool {
        matches!(*self, Self::Driver { code: codes::CONTEXT_IS_DESTROYED, .. })
    }

    /// Returns whether device memory is full. Free memory and repeat the call: no data is lost.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }

    /// Returns the error for a driver call that returned `code` while `action` was being done.
    pub(super) fn from_code(action: &'static str, code: Code) -> Self {
        match code {
            codes::OUT_OF_MEMORY => Self::OutOfMemory { action, bytes: None },
            code => Self::Driver { action, code },
        }
    }

    /// Returns the error for an allocation of `bytes` that failed with `code`.
    pub(super) fn allocating(action: &'static str, bytes: usize, code: Code) -> Self {
        match code {
            codes::OUT_OF_MEMORY => Self::OutOfMemory { action, bytes: Some(bytes) },
            code => Self::Driver { action, code },
        }
    }

    /// Returns the error for a kernel that could not be loaded.
    pub(super) fn loading(code: Code) -> Self {
        match codes::REFUSED_KERNEL.contains(&code) {
            true => Self::Kernels { code },
            false => Self::from_code("loading a kernel", code),
        }
    }
}

fn loses_context(code: Code) -> bool {
    codes::LOST_CONTEXT.contains(&code)
}

/// Returns ` (N bytes)`, if the number is known.
fn of_bytes(bytes: Option<usize>) -> String {
    bytes.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"))
}

/// Returns the driver's name for `code`, and what to do.
fn with_advice(code: Code) -> String {
    let advice = match loses_context(code) {
        true => "; the device's context is lost: continue in a new process, or on the CPU",
        false => "",
    };
    code_name(code) + advice
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors for all codes of CUDA 13 and for some that do not exist.
    fn errors(code: u32) -> [GpuError; 3] {
        [
            GpuError::loading(code),
            GpuError::from_code("waiting", code),
            GpuError::allocating("allocating", 77, code),
        ]
    }

    #[test]
    fn lost_contexts_are_distinguished_from_other_errors() {
        let sticky = [
            4, 100, 101, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810,
            911, 999,
        ];
        for code in 0..1100 {
            for error in errors(code) {
                assert_eq!(error.is_sticky(), sticky.contains(&code), "{error}");
                let advice = error.to_string().contains("a new process");
                assert_eq!(advice, error.is_sticky(), "{error}");
                let number = error.to_string().contains(&code.to_string());
                assert!(number || error.is_out_of_memory(), "{error}");
            }
        }
        let none = GpuError::NoDevice { ordinal: 0, code: 100 };
        assert!(!none.is_sticky(), "nothing was there to be lost");
    }

    #[test]
    fn out_of_memory_is_reported_for_every_action() {
        for code in 0..1100 {
            for error in errors(code) {
                let says_so = error.to_string().contains("out of memory while");
                assert_eq!([error.is_out_of_memory(), says_so], [code == 2; 2], "{error}");
            }
        }
        let error = GpuError::allocating("allocating a buffer", 77, 2).to_string();
        assert!(error.contains("(77 bytes)"), "{error}");
    }

    #[test]
    fn only_kernels_that_are_not_accepted_may_need_a_newer_driver() {
        let refused = |code| matches!(GpuError::loading(code), GpuError::Kernels { .. });
        let codes: Vec<u32> = (0..1100).filter(|&code| refused(code)).collect();
        assert_eq!(codes, [200, 209, 218, 221, 222, 223, 300, 500]);
    }

    #[test]
    fn a_missing_driver_says_what_to_do() {
        let error = GpuError::NoDriver { reason: "libcuda.so.1: not found".to_owned() };
        let text = error.to_string();
        for part in ["libcuda.so.1: not found", "install", "CPU"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
