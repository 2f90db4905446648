//! Compressed layers in GPU memory, on rust-cuda's `cust`.
//!
//! [`Gpu::open`] takes the kernels' PTX, which the `fused-rans` crate embeds; [`Gpu::upload`] puts a
//! checked [`Blob`] into device memory; [`Layer::decode`] decodes it there. [`Layer`], [`Buffer`] and
//! [`CudaStream`] keep the device's context alive, may be used and dropped on any thread, and free
//! what they hold.

#[doc(hidden)] // for benchmarks
pub mod dense;
mod driver;
mod error;
mod handle;
mod kernels;
mod layer;
mod matmul;
mod verify;
mod workspace;

pub use cust::error::CudaError;
pub use cust::event::{Event, EventFlags};
pub use cust::memory::{AsyncCopyDestination, CopyDestination, DeviceBuffer, DeviceSlice};
pub use cust::stream::Stream;
pub use error::{GpuError, LayerPart};
pub use handle::{Buffer, CudaStream};
pub use layer::Layer;
pub use workspace::{Workspace, WorkspaceSize};

use crate::{Blob, BlobError, Dtype, Epilogue, TileFault, WeightsPerSymbol, launch_plan};
use cust::context::{Context, CurrentContext};
use cust::device::{Device, DeviceAttribute};
use cust::{CudaFlags, memory};
use driver::{INVALID_VALUE, SUCCESS};
use error::at;
use kernels::Kernels;
use layer::Checked;
use std::sync::Arc;

/// The oldest compute capability that the kernels run on: 8.0, for `cp.async` and `redux`.
const OLDEST: (i32, i32) = (8, 0);

/// A device with the kernels loaded. Clones share it; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    // Dropped in this order: the modules need their context.
    kernels: Kernels,
    context: Context,
    device: Device,
    for_plans: launch_plan::Device,
}

impl Drop for Shared {
    /// The modules unload themselves after this, in the context that is then current.
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
    /// before compute capability 8.0, [`GpuError::Kernels`] if the driver refuses the PTX, [`GpuError::Setup`]
    /// and [`GpuError::Cuda`] for what else it reports. In each of these cases [`Blob::decode`] on the CPU
    /// still works.
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
        let number = |value: i32| value.max(0).unsigned_abs();
        let for_plans = launch_plan::Device {
            multiprocessors: number(attribute(DeviceAttribute::MultiprocessorCount)?),
            shared_memory: number(shared_memory_of_block(&device)?),
        };
        let gpu = Self(Arc::new(Shared { kernels: Kernels::new(ptx), context, device, for_plans }));
        // Whether the driver takes the PTX at all shows here, not at the first decoding.
        layer::kernel(&gpu, Dtype::Bf16, WeightsPerSymbol::Two)?;
        Ok(gpu)
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
        self.upload_with(blob, Epilogue::default())
    }

    /// As [`Gpu::upload`], with a scale and a bias that [`Layer::matmul`] applies.
    ///
    /// # Errors
    /// As [`Gpu::upload`], and [`GpuError::Matmul`] if they have not a number for each row.
    pub fn upload_with(&self, blob: &Blob<'_>, epilogue: Epilogue<'_>) -> Result<Layer, GpuError> {
        self.enter()?;
        Layer::new(self.clone(), blob, epilogue, Checked::Tiles)
    }

    /// As [`Gpu::upload_with`], for blobs that nobody has forged: the CPU does not look at the tiles, but the device
    /// compares their checksums, which is faster on hosts of few cores.
    ///
    /// That finds all damage. A forgery, in which checksums are right and tiles not in order, is multiplied with as some
    /// weights; kernels touch nothing that is not the layer's or their operands' (`docs/safety.md` in the repository).
    ///
    /// # Errors
    /// As [`Gpu::upload_with`] and [`Layer::verify`].
    pub fn upload_on_trust(
        &self,
        blob: &Blob<'_>,
        epilogue: Epilogue<'_>,
    ) -> Result<Layer, GpuError> {
        self.enter()?;
        let layer = Layer::new(self.clone(), blob, epilogue, Checked::Structure)?;
        match layer.verify() {
            Ok(()) => Ok(layer),
            Err(GpuError::Damaged { part: LayerPart::Tile(tile) }) => {
                Err(BlobError::Tile { tile, fault: TileFault::Checksum }.into())
            }
            Err(other) => Err(other),
        }
    }

    /// A workspace for multiplications; see [`Layer::workspace_size`].
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] or [`GpuError::Cuda`].
    pub fn workspace(&self, size: WorkspaceSize) -> Result<Workspace, GpuError> {
        self.enter()?;
        Workspace::new(self.clone(), size)
    }

    /// What plans must know of the device.
    #[must_use]
    pub fn plan_device(&self) -> launch_plan::Device {
        self.0.for_plans
    }

    fn kernels(&self) -> &Kernels {
        &self.0.kernels
    }

    /// Makes the device's context the current one of this thread.
    fn enter(&self) -> Result<(), GpuError> {
        CurrentContext::set_current(&self.0.context).map_err(at("entering the context"))
    }

    /// Checks that `memory` is this device's and starts at a multiple of `alignment` bytes: else it would be a fault of the
    /// kernel's, which ends all work on the device. The device's context must be current.
    fn check_operand(&self, memory: &DeviceSlice<u8>, alignment: u64) -> Result<(), GpuError> {
        use cust::sys::CUpointer_attribute_enum as Attribute;
        if memory.is_empty() {
            return Ok(());
        }
        let (mut ordinal, attribute) = (-1, Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
        let (to, address) = ((&raw mut ordinal).cast(), memory.as_device_ptr().as_raw());
        if !address.is_multiple_of(alignment) {
            return Err(GpuError::Misaligned { alignment });
        }
        // SAFETY: a number goes to one that lives; the driver checks the address.
        match unsafe { driver::cuPointerGetAttribute(to, attribute, address) } {
            SUCCESS if ordinal == self.ordinal() => Ok(()),
            SUCCESS => Err(GpuError::OtherDevice { expected: self.ordinal() }),
            // The driver knows no memory there: perhaps since the context, with all that was in it, was destroyed.
            INVALID_VALUE => {
                self.memory()?;
                Err(GpuError::OtherDevice { expected: self.ordinal() })
            }
            code => Err(GpuError::Argument { code }),
        }
    }

    /// The device's number.
    fn ordinal(&self) -> i32 {
        self.0.device.as_raw()
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

/// Most bytes of shared memory that a block can have.
fn shared_memory_of_block(device: &Device) -> Result<i32, GpuError> {
    use cust::sys::CUdevice_attribute_enum as Attribute;
    let attribute = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let mut bytes = 0;
    // SAFETY: a call with a valid device; the result goes to a number that lives.
    match unsafe { driver::cuDeviceGetAttribute(&raw mut bytes, attribute, device.as_raw()) } {
        SUCCESS => Ok(bytes),
        code => Err(GpuError::Setup { code }),
    }
}

/// Devices that the driver offers; 0 without a driver.
#[must_use]
pub fn device_count() -> u32 {
    let count: Result<u32, CudaError> =
        cust::init(CudaFlags::empty()).and_then(|()| Device::num_devices());
    count.unwrap_or(0)
}
