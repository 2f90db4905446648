//! A device.

use super::driver::codes::{INVALID_VALUE, SUCCESS};
use super::driver::types::{
    COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR, Handle, L2_CACHE_SIZE,
    MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, MULTIPROCESSOR_COUNT, POINTER_DEVICE_ORDINAL,
    STREAM_NON_BLOCKING,
};
use super::driver::{Driver, done};
use super::kernels::Kernels;
use super::{GpuError, KernelSet, Workspace, WorkspaceSize};
use crate::launch_plan;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ptr::null_mut;
use std::sync::Arc;

/// The oldest compute capability that the kernels run on: 8.0, for `cp.async` and `redux`.
const OLDEST: (i32, i32) = (8, 0);

/// An open device with the kernels. Clones share it, and any thread may use it. Layers, buffers and CUDA streams keep
/// it open.
#[derive(Clone)]
pub struct Gpu(Arc<Shared>);

struct Shared {
    driver: &'static Driver,
    /// A `CUdevice`.
    device: c_int,
    /// The device's primary context.
    context: Handle,
    /// A CUDA stream for functions that wait for their own work.
    internal: Handle,
    kernels: Kernels,
    plan_device: launch_plan::Device,
}

/// Free and total device memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// Number of unused bytes.
    pub free: usize,
    /// Number of bytes of the device.
    pub total: usize,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Gpu").field(&self.0.device).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Where a context is lost, nothing is left to give back, so that results do not matter.
        let destroyed = self.is_destroyed();
        // SAFETY: the handles are valid and not used after this: whatever uses them keeps `Shared` alive.
        unsafe {
            // Kernels may still run in memory of another handle of this context.
            let _ = (self.driver.context_synchronize)();
            self.kernels.unload();
            if self.internal != Handle::NULL && !destroyed {
                let _ = (self.driver.stream_destroy)(self.internal);
            }
            let _ = (self.driver.primary_context_release)(self.device);
        }
    }
}

impl Gpu {
    /// Opens device number `ordinal` with the kernels that suit it. `ptx` returns the PTX of a set, and is called only
    /// for sets that are needed. The `fused-rans` crate has a function that needs no PTX.
    ///
    /// # Errors
    /// [`GpuError::NoDriver`], [`GpuError::MissingFunction`] and [`GpuError::NoDevice`] where there is no usable driver
    /// or no such device, [`GpuError::TooOld`] for a device before compute capability 8.0, [`GpuError::Kernels`] if the
    /// driver refuses the PTX, [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    #[doc(hidden)]
    pub fn open_with<'a>(
        ordinal: u32,
        ptx: impl Fn(KernelSet) -> &'a str,
    ) -> Result<Self, GpuError> {
        Self::open_preferring(ordinal, KernelSet::preferred, ptx)
    }

    /// Opens device number `ordinal` with the kernels that `preferred` returns for its compute capability, or with
    /// their fallback if the driver refuses them. Use it in tests and benchmarks that compare the sets.
    ///
    /// # Errors
    /// Those of [`Gpu::open_with`].
    #[doc(hidden)]
    pub fn open_preferring<'a>(
        ordinal: u32,
        preferred: impl Fn((i32, i32)) -> KernelSet,
        ptx: impl Fn(KernelSet) -> &'a str,
    ) -> Result<Self, GpuError> {
        let driver = Driver::get().map_err(|error| match error {
            GpuError::NoDevice { code, .. } => GpuError::NoDevice { ordinal, code },
            error => error,
        })?;
        let mut device = 0;
        let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        // SAFETY: the result goes to a variable that lives.
        match unsafe { (driver.device_get)(&raw mut device, number) } {
            SUCCESS => {}
            code => return Err(GpuError::NoDevice { ordinal, code }),
        }
        let major = attribute(driver, device, COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(driver, device, COMPUTE_CAPABILITY_MINOR)?;
        if (major, minor) < OLDEST {
            return Err(GpuError::TooOld { major, minor });
        }
        let number = |value: c_int| value.max(0).unsigned_abs();
        let plan_device = launch_plan::Device {
            multiprocessors: number(attribute(driver, device, MULTIPROCESSOR_COUNT)?),
            shared_memory: number(attribute(driver, device, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?),
        };
        let mut context = Handle::NULL;
        // SAFETY: the result goes to a variable that lives.
        let code = unsafe { (driver.primary_context_retain)(&raw mut context, device) };
        done("creating a context", code)?;
        let set = preferred((major, minor));
        let kernels = Kernels::new(driver, set, ptx(set));
        let internal = Handle::NULL;
        let mut shared = Shared { driver, device, context, internal, kernels, plan_device };
        shared.enter()?;
        // SAFETY: the result goes to a variable that lives; the context is current.
        let code = unsafe { (driver.stream_create)(&raw mut shared.internal, STREAM_NON_BLOCKING) };
        done("creating a CUDA stream", code)?;
        shared.choose_kernels(ptx)?;
        Ok(Self(Arc::new(shared)))
    }

    /// Returns the device's name, such as `NVIDIA H200`.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn name(&self) -> Result<String, GpuError> {
        const LENGTH: usize = 256;
        let mut name: [c_char; LENGTH] = [0; LENGTH];
        let (driver, device) = (self.0.driver, self.0.device);
        // SAFETY: the name goes to a variable that lives and has that length.
        let code = unsafe { (driver.device_name)(name.as_mut_ptr(), LENGTH as c_int, device) };
        done("asking for the device's name", code)?;
        let bytes: [u8; LENGTH] = name.map(|c| c as u8);
        let name = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }

    /// Returns the device's number, from 0 to [`device_count`] - 1.
    #[must_use]
    pub fn ordinal(&self) -> i32 {
        self.0.device
    }

    /// Returns the device's primary context, a `CUcontext`. Use it with another library while this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.0.context.0
    }

    /// Returns the free and total device memory. Other processes may allocate memory at any time.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn memory_info(&self) -> Result<MemoryInfo, GpuError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the results go to variables that live.
        let code = unsafe { (self.0.driver.memory_info)(&raw mut free, &raw mut total) };
        done("asking for free memory", code)?;
        Ok(MemoryInfo { free, total })
    }

    /// Allocates a workspace for multiplications that need up to `size`, and waits until it is ready on all CUDA
    /// streams. Get the size from [`Layer::workspace_size`](super::Layer::workspace_size).
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn alloc_workspace(&self, size: WorkspaceSize) -> Result<Workspace, GpuError> {
        let internal = self.internal_stream();
        let workspace = Workspace::new(self, size, &internal)?;
        internal.synchronize()?;
        Ok(workspace)
    }

    /// Waits for all work that this process has queued on the device. Use
    /// [`CudaStream::synchronize`](super::CudaStream::synchronize) to wait for one CUDA stream.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if something that was queued has failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.enter()?;
        // SAFETY: the context is current.
        done("waiting for the device", unsafe { (self.0.driver.context_synchronize)() })
    }

    /// Returns the properties of the device that launch plans depend on.
    #[doc(hidden)]
    #[must_use]
    pub fn plan_device(&self) -> launch_plan::Device {
        self.0.plan_device
    }

    /// Returns the set of kernels that this device was opened with.
    #[doc(hidden)]
    #[must_use]
    pub fn kernel_set(&self) -> KernelSet {
        self.kernels().set()
    }

    /// Returns the size of the device's L2 cache in bytes. Use it in benchmarks, whose working set must exceed the
    /// cache.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    #[doc(hidden)]
    pub fn l2_bytes(&self) -> Result<usize, GpuError> {
        let bytes = attribute(self.0.driver, self.0.device, L2_CACHE_SIZE)?;
        Ok(bytes.max(0).unsigned_abs() as usize)
    }

    pub(super) fn driver(&self) -> &'static Driver {
        self.0.driver
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.0.kernels
    }

    /// Returns the CUDA stream of functions that wait for their own work.
    pub(super) fn internal_stream(&self) -> super::CudaStream {
        super::CudaStream::borrowed(self, self.0.internal)
    }

    /// Makes the device's context the current one of this thread.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        self.0.enter()
    }

    /// Makes the context current, and returns whether it was destroyed.
    pub(super) fn is_destroyed(&self) -> bool {
        self.0.is_destroyed()
    }

    /// Checks that `address` is in this device's memory: a kernel's access to anything else would end all work on the
    /// device. The device's context must be current.
    pub(super) fn check_address(&self, what: &'static str, address: u64) -> Result<(), GpuError> {
        let expected = self.ordinal();
        let (mut ordinal, driver): (c_int, _) = (-1, self.0.driver);
        let to = (&raw mut ordinal).cast();
        // SAFETY: the result goes to a variable that lives; the driver checks the address.
        match unsafe { (driver.pointer_attribute)(to, POINTER_DEVICE_ORDINAL, address) } {
            SUCCESS if ordinal == expected => Ok(()),
            SUCCESS => Err(GpuError::OtherDevice { what, expected }),
            // The driver knows no memory there: perhaps because the context, with all its memory, was destroyed.
            INVALID_VALUE => {
                self.memory_info()?;
                Err(GpuError::OtherDevice { what, expected })
            }
            code => Err(GpuError::from_code("asking for an operand's device", code)),
        }
    }
}

impl Shared {
    /// Replaces the kernels by their fallback if the driver refuses them.
    fn choose_kernels<'a>(&mut self, ptx: impl Fn(KernelSet) -> &'a str) -> Result<(), GpuError> {
        loop {
            match (self.kernels.probe(), self.kernels.set().fallback()) {
                (Err(GpuError::Kernels { .. }), Some(set)) => {
                    self.kernels = Kernels::new(self.driver, set, ptx(set));
                }
                (result, _) => return result,
            }
        }
    }

    fn enter(&self) -> Result<(), GpuError> {
        const ACTION: &str = "entering the context";
        // SAFETY: the context is retained.
        done(ACTION, unsafe { (self.driver.context_set_current)(self.context) })?;
        // A destroyed context can be set, and then the driver crashes on its CUDA streams. This is the cheapest call that
        // tells (0.04 us).
        // SAFETY: null is allowed for both results.
        done(ACTION, unsafe { (self.driver.stream_priorities)(null_mut(), null_mut()) })
    }

    /// Makes the context current, and returns whether it was destroyed: with all that was in it, so that nothing must
    /// be given back.
    fn is_destroyed(&self) -> bool {
        self.enter().is_err_and(|error| error.is_destroyed_context())
    }
}

/// Returns an attribute of a device.
fn attribute(driver: &Driver, device: c_int, attribute: c_uint) -> Result<c_int, GpuError> {
    let mut value = 0;
    // SAFETY: the result goes to a variable that lives; the driver checks the device.
    let code = unsafe { (driver.device_attribute)(&raw mut value, attribute, device) };
    done("asking for an attribute of the device", code)?;
    Ok(value)
}

/// Returns the number of devices that the driver offers, or 0 without a driver. Use it to choose between GPU and CPU.
#[must_use]
pub fn device_count() -> u32 {
    let Ok(driver) = Driver::get() else { return 0 };
    let mut count = 0;
    // SAFETY: the result goes to a variable that lives.
    let code = unsafe { (driver.device_count)(&raw mut count) };
    if code == SUCCESS { count.max(0).unsigned_abs() } else { 0 }
}
