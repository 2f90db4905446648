//! Types and constants of `cuda.h`, as far as they are used here.

use std::ffi::{c_uint, c_void};

/// A pointer to something of the driver's: a context, CUDA stream, event, module, kernel or graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Handle(pub *mut c_void);

// SAFETY: the driver lets any thread use a handle; Rust code never dereferences it.
unsafe impl Send for Handle {}
// SAFETY: see above.
unsafe impl Sync for Handle {}

impl Handle {
    /// No handle; as a CUDA stream, the legacy default stream.
    pub const NULL: Self = Self(std::ptr::null_mut());
}

/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`
pub const MULTIPROCESSOR_COUNT: c_uint = 16;
/// `CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE`
pub const L2_CACHE_SIZE: c_uint = 38;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`
pub const COMPUTE_CAPABILITY_MAJOR: c_uint = 75;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`
pub const COMPUTE_CAPABILITY_MINOR: c_uint = 76;
/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`
pub const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_uint = 97;

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_uint = 8;
/// `CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT`
pub const PREFERRED_SHARED_MEMORY_CARVEOUT: c_uint = 9;

/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`
pub const POINTER_MEMORY_TYPE: c_uint = 2;
/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`
pub const POINTER_DEVICE_ORDINAL: c_uint = 9;

/// `CU_STREAM_NON_BLOCKING`
pub const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`
pub const CAPTURE_MODE_THREAD_LOCAL: c_uint = 1;
/// `CU_EVENT_DEFAULT`
pub const EVENT_DEFAULT: c_uint = 0;
/// `CU_EVENT_DISABLE_TIMING`
pub const EVENT_DISABLE_TIMING: c_uint = 2;

/// `CUlaunchConfig`
#[repr(C)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_memory: c_uint,
    pub cuda_stream: Handle,
    pub attributes: *mut LaunchAttribute,
    pub attribute_count: c_uint,
}

const _: () = assert!(size_of::<LaunchConfig>() == 56 || size_of::<usize>() != 8);

/// `CUlaunchAttribute`
#[repr(C, align(8))]
pub struct LaunchAttribute {
    id: c_uint,
    reserved: c_uint,
    /// A union; here, its `programmaticStreamSerializationAllowed`.
    value: c_uint,
    rest: [c_uint; 15],
}

const _: () = assert!(size_of::<LaunchAttribute>() == 72);

impl LaunchAttribute {
    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`
    const PROGRAMMATIC_STREAM_SERIALIZATION: c_uint = 6;

    /// Returns the attribute of launches that may start before the one before them has ended.
    pub fn overlap() -> Self {
        let id = Self::PROGRAMMATIC_STREAM_SERIALIZATION;
        Self { id, reserved: 0, value: 1, rest: [0; 15] }
    }
}
