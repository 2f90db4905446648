//! The driver's own calls, for what the library does not let anybody do.

use std::ffi::c_void;

unsafe extern "C" {
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> u32;
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> u32;
    fn cuDevicePrimaryCtxReset_v2(device: i32) -> u32;
}

/// Flips bit `bit` of the memory at `address`, in the current context.
pub fn flip(address: u64, bit: u64) {
    let (at, mut byte) = (address + bit / 8, [0u8]);
    // SAFETY: a byte goes to one that lives; the driver checks the address.
    assert_eq!(unsafe { cuMemcpyDtoH_v2(byte.as_mut_ptr().cast(), at, 1) }, 0);
    byte[0] ^= 1 << (bit % 8);
    // SAFETY: likewise, from one that lives.
    assert_eq!(unsafe { cuMemcpyHtoD_v2(at, byte.as_ptr().cast(), 1) }, 0);
}

/// Destroys the primary context of device 0.
pub fn destroy_context() {
    // SAFETY: a call with the first device.
    assert_eq!(unsafe { cuDevicePrimaryCtxReset_v2(0) }, 0);
}
