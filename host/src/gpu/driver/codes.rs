//! Results of driver calls: plain numbers, since newer drivers return codes that no list here can have.

/// A `CUresult`.
pub type Code = u32;

/// Defines constants named as in `cuda.h`, without `CUDA_ERROR_`.
macro_rules! codes {
    ($($name:ident = $code:literal),+ $(,)?) => {
        $(pub const $name: Code = $code;)+
    };
}

codes! {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    DEINITIALIZED = 4,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    NO_BINARY_FOR_GPU = 209,
    ECC_UNCORRECTABLE = 214,
    INVALID_PTX = 218,
    NVLINK_UNCORRECTABLE = 220,
    JIT_COMPILER_NOT_FOUND = 221,
    UNSUPPORTED_PTX_VERSION = 222,
    JIT_COMPILATION_DISABLED = 223,
    CONTAINED = 226,
    INVALID_SOURCE = 300,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_TIMEOUT = 702,
    CONTEXT_IS_DESTROYED = 709,
    ASSERT = 710,
    HARDWARE_STACK_ERROR = 714,
    ILLEGAL_INSTRUCTION = 715,
    MISALIGNED_ADDRESS = 716,
    INVALID_ADDRESS_SPACE = 717,
    INVALID_PC = 718,
    LAUNCH_FAILED = 719,
    TENSOR_MEMORY_LEAK = 721,
    MPS_CLIENT_TERMINATED = 810,
    EXTERNAL_DEVICE = 911,
    UNKNOWN = 999,
}

/// Codes after which a context is unusable. CUDA's documentation says for most of them that any further work returns the same
/// error. The others are uncorrectable errors of memory and NVLink (NVIDIA advises to restart the application), shutdown, a
/// device that has disappeared, and the unknown error.
pub const LOST_CONTEXT: [Code; 20] = [
    DEINITIALIZED,
    NO_DEVICE,
    INVALID_DEVICE,
    ECC_UNCORRECTABLE,
    NVLINK_UNCORRECTABLE,
    CONTAINED,
    ILLEGAL_ADDRESS,
    LAUNCH_TIMEOUT,
    CONTEXT_IS_DESTROYED,
    ASSERT,
    HARDWARE_STACK_ERROR,
    ILLEGAL_INSTRUCTION,
    MISALIGNED_ADDRESS,
    INVALID_ADDRESS_SPACE,
    INVALID_PC,
    LAUNCH_FAILED,
    TENSOR_MEMORY_LEAK,
    MPS_CLIENT_TERMINATED,
    EXTERNAL_DEVICE,
    UNKNOWN,
];

/// Codes that concern a module's PTX rather than the device: its image, version, source or compilation, or the name of a
/// kernel in it.
pub const REFUSED_KERNEL: [Code; 8] = [
    INVALID_IMAGE,
    NO_BINARY_FOR_GPU,
    INVALID_PTX,
    JIT_COMPILER_NOT_FOUND,
    UNSUPPORTED_PTX_VERSION,
    JIT_COMPILATION_DISABLED,
    INVALID_SOURCE,
    NOT_FOUND,
];
