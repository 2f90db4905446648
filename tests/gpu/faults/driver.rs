//! Calls of the driver that the library does not offer.

use fused_rans::gpu::{DeviceSlice, DeviceSliceMut, Gpu};
use libloading::{Library, Symbol};

/// Flips bit `bit` of the device memory at `address`.
pub fn flip(gpu: &Gpu, address: u64, bit: u64) {
    let (at, mut byte) = (address + bit / 8, [0u8]);
    // SAFETY: the library checks that the address is device memory, and no queued work uses it.
    gpu.copy_to_host(unsafe { DeviceSlice::from_raw(at, 1) }, &mut byte).unwrap();
    byte[0] ^= 1 << (bit % 8);
    // SAFETY: see above.
    gpu.copy_to_device(&byte, unsafe { DeviceSliceMut::from_raw(at, 1) }).unwrap();
}

/// Destroys the primary context of device 0.
pub fn destroy_context() {
    type Reset = unsafe extern "C" fn(i32) -> u32;
    // SAFETY: this process has loaded the driver already.
    let driver = unsafe { Library::new("libcuda.so.1") }.unwrap();
    // SAFETY: this is the function's type in `cuda.h`.
    let reset: Symbol<'_, Reset> = unsafe { driver.get(b"cuDevicePrimaryCtxReset_v2") }.unwrap();
    // SAFETY: the argument is the first device, which exists.
    assert_eq!(unsafe { reset(0) }, 0);
}
