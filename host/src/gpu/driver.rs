//! The driver's own functions. They return numbers here: `cust`'s type for results has not all that a driver may return.

use cust::sys;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// What all of them return where nothing has failed.
pub const SUCCESS: u32 = 0;
/// What they return for arguments that they do not take.
pub const INVALID_VALUE: u32 = 1;

unsafe extern "C" {
    pub fn cuDeviceGetAttribute(
        value: *mut c_int,
        attribute: sys::CUdevice_attribute_enum,
        device: sys::CUdevice,
    ) -> u32;
    pub fn cuFuncSetAttribute(
        function: sys::CUfunction,
        attribute: sys::CUfunction_attribute_enum,
        value: c_int,
    ) -> u32;
    pub fn cuGetErrorName(code: u32, name: *mut *const c_char) -> u32;
    pub fn cuLaunchKernel(
        function: sys::CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_memory: c_uint,
        stream: sys::CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;
    pub fn cuModuleGetFunction(
        function: *mut sys::CUfunction,
        module: sys::CUmodule,
        name: *const c_char,
    ) -> u32;
    pub fn cuModuleLoadData(module: *mut sys::CUmodule, image: *const c_void) -> u32;
    pub fn cuModuleUnload(module: sys::CUmodule) -> u32;
    pub fn cuPointerGetAttribute(
        value: *mut c_void,
        attribute: sys::CUpointer_attribute_enum,
        address: u64,
    ) -> u32;
}
