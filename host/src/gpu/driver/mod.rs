//! The CUDA driver, loaded when it is first needed: a table of its functions' addresses.
//!
//! Names are the header's, with the suffixes that it defines (`cuMemAlloc` is `cuMemAlloc_v2`). Results are numbers
//! ([`codes`]). No function here checks anything: the modules above do.

pub mod codes;
pub mod types;

use super::GpuError;
use codes::{Code, SUCCESS};
use libloading::Library;
use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;
use types::{Handle, LaunchConfig};

/// File name of the driver's library. The loader looks for it where it looks for every library.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// Defines [`Driver`]: functions that it needs, and functions that newer drivers have.
macro_rules! driver {
    (
        required: { $($name:ident = $symbol:literal ($($type:ty),* $(,)?);)* }
        optional: {
            $(
                $(#[$attribute:meta])*
                $newer:ident = $newer_symbol:literal ($($newer_type:ty),* $(,)?);
            )*
        }
    ) => {
        /// Functions of the driver, valid as long as the process.
        #[derive(Debug)]
        pub struct Driver {
            $(pub $name: unsafe extern "system" fn($($type),*) -> Code,)*
            $(
                $(#[$attribute])*
                pub $newer: Option<unsafe extern "system" fn($($newer_type),*) -> Code>,
            )*
        }

        /// Names of all functions that a driver must have. For tests that replace the driver.
        #[doc(hidden)]
        pub const REQUIRED: &[&str] = &[$($symbol),*];

        impl Driver {
            /// Looks all functions up in `library`.
            fn find(library: &Library) -> Result<Self, LoadError> {
                Ok(Self {
                    $($name: {
                        let missing = |_| LoadError::Missing($symbol);
                        // SAFETY: the field has the function's type in `cuda.h`.
                        *unsafe { library.get(concat!($symbol, "\0")) }.map_err(missing)?
                    },)*
                    $($newer: {
                        // SAFETY: the field has the function's type in `cuda.h`.
                        unsafe { library.get(concat!($newer_symbol, "\0")) }.ok().map(|found| *found)
                    },)*
                })
            }
        }
    };
}

driver! {
    required: {
        init = "cuInit"(c_uint);
        error_name = "cuGetErrorName"(Code, *mut *const c_char);
        device_count = "cuDeviceGetCount"(*mut c_int);
        device_get = "cuDeviceGet"(*mut c_int, c_int);
        device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
        device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_uint, c_int);
        primary_context_retain = "cuDevicePrimaryCtxRetain"(*mut Handle, c_int);
        primary_context_release = "cuDevicePrimaryCtxRelease_v2"(c_int);
        context_set_current = "cuCtxSetCurrent"(Handle);
        stream_priorities = "cuCtxGetStreamPriorityRange"(*mut c_int, *mut c_int);
        context_synchronize = "cuCtxSynchronize"();
        memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
        memory_alloc = "cuMemAlloc_v2"(*mut u64, usize);
        memory_free = "cuMemFree_v2"(u64);
        host_alloc = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
        host_free = "cuMemFreeHost"(*mut c_void);
        copy_to_device = "cuMemcpyHtoDAsync_v2"(u64, *const c_void, usize, Handle);
        copy_to_host = "cuMemcpyDtoHAsync_v2"(*mut c_void, u64, usize, Handle);
        copy_on_device = "cuMemcpyDtoDAsync_v2"(u64, u64, usize, Handle);
        fill = "cuMemsetD8Async"(u64, u8, usize, Handle);
        pointer_attribute = "cuPointerGetAttribute"(*mut c_void, c_uint, u64);
        stream_create = "cuStreamCreate"(*mut Handle, c_uint);
        stream_destroy = "cuStreamDestroy_v2"(Handle);
        stream_synchronize = "cuStreamSynchronize"(Handle);
        stream_wait_event = "cuStreamWaitEvent"(Handle, Handle, c_uint);
        stream_begin_capture = "cuStreamBeginCapture_v2"(Handle, c_uint);
        stream_end_capture = "cuStreamEndCapture"(Handle, *mut Handle);
        event_create = "cuEventCreate"(*mut Handle, c_uint);
        event_destroy = "cuEventDestroy_v2"(Handle);
        event_record = "cuEventRecord"(Handle, Handle);
        event_query = "cuEventQuery"(Handle);
        event_synchronize = "cuEventSynchronize"(Handle);
        event_elapsed = "cuEventElapsedTime"(*mut f32, Handle, Handle);
        module_load = "cuModuleLoadData"(*mut Handle, *const c_void);
        module_unload = "cuModuleUnload"(Handle);
        module_function = "cuModuleGetFunction"(*mut Handle, Handle, *const c_char);
        function_set_attribute = "cuFuncSetAttribute"(Handle, c_uint, c_int);
        launch = "cuLaunchKernel"(
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle,
            *mut *mut c_void, *mut *mut c_void,
        );
        graph_destroy = "cuGraphDestroy"(Handle);
        graph_launch = "cuGraphLaunch"(Handle, Handle);
        graph_exec_destroy = "cuGraphExecDestroy"(Handle);
    }
    optional: {
        // Since 11.4. Drivers before 12.0 have another `cuGraphInstantiate`.
        graph_instantiate = "cuGraphInstantiateWithFlags"(*mut Handle, Handle, c_ulonglong);
        // Since 11.8.
        launch_ex = "cuLaunchKernelEx"(
            *const LaunchConfig, Handle, *mut *mut c_void, *mut *mut c_void,
        );
    }
}

/// Why there is no driver; the same at every attempt.
#[derive(Debug)]
enum LoadError {
    /// The loader's reason.
    NoLibrary(String),
    /// A function that the library lacks.
    Missing(&'static str),
}

impl Driver {
    /// Returns the driver, loaded and initialized.
    pub fn get() -> Result<&'static Self, GpuError> {
        let driver = Self::loaded()?;
        // SAFETY: 0 is the only value that the driver takes. It may be called any number of times.
        match unsafe { (driver.init)(0) } {
            SUCCESS => Ok(driver),
            code => Err(GpuError::NoDevice { ordinal: 0, code }),
        }
    }

    /// Returns the driver's functions, which are looked up once.
    pub fn loaded() -> Result<&'static Self, GpuError> {
        static DRIVER: OnceLock<Result<Driver, LoadError>> = OnceLock::new();
        DRIVER.get_or_init(Self::load).as_ref().map_err(|error| match error {
            LoadError::NoLibrary(reason) => GpuError::NoDriver { reason: reason.clone() },
            LoadError::Missing(function) => GpuError::MissingFunction { function },
        })
    }

    fn load() -> Result<Self, LoadError> {
        // SAFETY: the library's initializers are NVIDIA's, and run in every program that uses CUDA.
        let library = unsafe { Library::new(LIBRARY) }.map_err(|error| {
            // The loader's own text has the name and what was wrong with it.
            LoadError::NoLibrary(error.source().unwrap_or(&error).to_string())
        })?;
        let driver = Self::find(&library)?;
        // Unloading the driver while its threads run would end the process.
        std::mem::forget(library);
        Ok(driver)
    }
}

/// Returns the driver's name for `code`, with its number.
pub fn code_name(code: Code) -> String {
    let unnamed = || format!("driver error {code}");
    let Ok(driver) = Driver::loaded() else { return unnamed() };
    let mut name = std::ptr::null();
    // SAFETY: the driver writes an address or null to a variable that lives.
    let result = unsafe { (driver.error_name)(code, &raw mut name) };
    if result != SUCCESS || name.is_null() {
        return unnamed();
    }
    // SAFETY: the address of a C string that lives as long as the driver, which is never unloaded.
    let name = unsafe { CStr::from_ptr(name) };
    format!("{}, {code}", name.to_string_lossy())
}

/// Returns the error for a call that failed with `code` while `action` was being done.
pub fn done(action: &'static str, code: Code) -> Result<(), GpuError> {
    match code {
        SUCCESS => Ok(()),
        code => Err(GpuError::from_code(action, code)),
    }
}
