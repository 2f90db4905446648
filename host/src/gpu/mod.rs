//! Compressed layers in GPU memory, on rust-cuda's `cust`.
//!
//! [`Gpu::open`] takes the kernels' PTX, which the `fused-rans` crate embeds; [`Gpu::upload`] puts a
//! checked [`Blob`] into device memory; [`Layer::decode`] decodes it there. [`Layer`], [`Buffer`] and
//! [`CudaStream`] keep the device's context alive, may be used and dropped on any thread, and free
//! what they hold.

mod error;
mod handle;
mod layer;

pub use cust::event::{Event, EventFlags};
pub use cust::memory::{AsyncCopyDestination, CopyDestination, DeviceBuffer};
pub use cust::stream::Stream;
pub use error::GpuError;
pub use handle::{Buffer, CudaStream};
pub use layer::Layer;

use crate::{Blob, Dtype};
use cust::context::{Context, CurrentContext};
use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::module::Module;
use cust::{CudaFlags, memory};
use error::at;
use std::sync::Arc;

/// The oldest compute capability that the kernels run on: 8.0, for `cp.async` and `redux`.
const OLDEST: (i32, i32) = (8, 0);

/// A device with the kernels loaded. Clones share it; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    // Dropped in this order: the module needs its context.
    module: Module,
    context: Context,
    device: Device,
}

impl Drop for Shared {
    /// The module unloads itself after this, in the context that is then current.
    fn drop(&mut self) {
        // Without the context there is nothing left to unload.
        let _ = CurrentContext::set_current(&self.context);
    }
}

impl Gpu {
    /// Opens device number `ordinal` and loads the kernels in `ptx` on it.
    ///
    /// # Errors
    /// [`GpuError::NoDevice`] if there is no driver or no such device, [`GpuError::TooOld`] for one
    /// before compute capability 8.0, [`GpuError::Kernels`] if the driver refuses the PTX. In each
    /// of these cases [`Blob::decode`] on the CPU still works.
    pub fn open(ordinal: u32, ptx: &str) -> Result<Self, GpuError> {
        cust::init(CudaFlags::empty()).map_err(|source| GpuError::NoDevice { ordinal, source })?;
        let device = Device::get_device(ordinal);
        let device = device.map_err(|source| GpuError::NoDevice { ordinal, source })?;
        let attribute =
            |attribute| device.get_attribute(attribute).map_err(at("asking the device"));
        let major = attribute(DeviceAttribute::ComputeCapabilityMajor)?;
        let minor = attribute(DeviceAttribute::ComputeCapabilityMinor)?;
        if (major, minor) < OLDEST {
            return Err(GpuError::TooOld { major, minor });
        }
        let context = Context::new(device).map_err(at("creating a context"))?;
        CurrentContext::set_current(&context).map_err(at("entering the context"))?;
        let module = Module::from_ptx(ptx, &[]).map_err(GpuError::Kernels)?;
        for dtype in Dtype::ALL {
            let kernel = module.get_function(layer::decode_kernel(dtype));
            layer::prepare(&kernel.map_err(GpuError::Kernels)?)?;
        }
        Ok(Self(Arc::new(Shared { module, context, device })))
    }

    /// The device's name.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] if the driver does not say.
    pub fn name(&self) -> Result<String, GpuError> {
        self.0.device.name().map_err(at("asking the device"))
    }

    /// A new CUDA stream of this device.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] from the driver.
    pub fn cuda_stream(&self) -> Result<CudaStream, GpuError> {
        CudaStream::new(self.clone())
    }

    /// A buffer of `bytes` bytes of device memory, uninitialized until something is written to it.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] or [`GpuError::Cuda`].
    pub fn buffer(&self, bytes: usize) -> Result<Buffer, GpuError> {
        Buffer::new(self.clone(), bytes)
    }

    /// (free, total) bytes of device memory.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] from the driver.
    pub fn memory(&self) -> Result<(usize, usize), GpuError> {
        self.enter()?;
        memory::mem_get_info().map_err(at("asking for free memory"))
    }

    /// Checks all of `blob` and copies it into device memory, with its decode table expanded.
    ///
    /// # Errors
    /// [`GpuError::Blob`] if the blob is damaged; [`GpuError::OutOfMemory`] or [`GpuError::Cuda`].
    pub fn upload(&self, blob: &Blob<'_>) -> Result<Layer, GpuError> {
        self.enter()?;
        Layer::new(self.clone(), blob)
    }

    /// Makes the device's context the current one of this thread.
    fn enter(&self) -> Result<(), GpuError> {
        CurrentContext::set_current(&self.0.context).map_err(at("entering the context"))
    }

    /// Waits for everything that was queued on the device.
    ///
    /// # Errors
    /// [`GpuError::Cuda`] if something queued has failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.enter()?;
        CurrentContext::synchronize().map_err(at("waiting for the device"))
    }
}

/// Devices that the driver offers; 0 without a driver.
#[must_use]
pub fn device_count() -> u32 {
    let count: Result<u32, CudaError> =
        cust::init(CudaFlags::empty()).and_then(|()| Device::num_devices());
    count.unwrap_or(0)
}
