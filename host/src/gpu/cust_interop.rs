//! Conversions to and from rust-cuda's `cust` (feature `cust`): contexts, CUDA streams, events and device memory.
//!
//! Both libraries use a device's primary context, so that handles and addresses of one are valid in the other. Nothing here
//! copies or waits. `cust` 0.3.2 has no constructors from raw CUDA streams and events: [`CustStream`] and [`CustEvent`] are
//! `cust`'s types around our handles, which they do not destroy.
//!
//! `cust` links `libcuda`: a program with this feature starts only where a driver is installed, and its build needs a
//! directory with `lib64` in `CUDA_LIBRARY_PATH` (`docs/gpu.md` in the repository). Results of its functions are an enum that
//! lacks the codes of newer drivers; where errors matter, call ours.

pub use cust;

use super::driver::types::Handle;
use super::{
    CudaStream, DeviceBuffer, DeviceSlice, DeviceSliceMut, Event, Gpu, GpuError, KernelSet,
};
use cust::context::{Context, CurrentContext};
use cust::device::Device;
use cust::error::{CudaError, CudaResult};
use cust::memory::{DeviceCopy, DevicePointer};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, align_of, size_of};
use std::ops::Deref;

// `cust` 0.3.2 declares `pub struct Stream { inner: CUstream }` and `pub struct Event(CUevent)`, each with no other field. A
// structure that is as large as its only field has it at offset 0, whatever its representation.
const _: () = assert!(
    size_of::<cust::stream::Stream>() == size_of::<Handle>()
        && align_of::<cust::stream::Stream>() == align_of::<Handle>()
        && size_of::<cust::event::Event>() == size_of::<Handle>()
        && align_of::<cust::event::Event>() == align_of::<Handle>()
);

/// Defines `cust`'s type around a handle that something else owns.
macro_rules! borrowed {
    ($(#[$about:meta])* $name:ident = $type:ty) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $name<'a> {
            inner: ManuallyDrop<$type>,
            owner: PhantomData<&'a ()>,
        }

        impl Deref for $name<'_> {
            type Target = $type;

            fn deref(&self) -> &$type {
                &self.inner
            }
        }

        impl $name<'_> {
            fn new(handle: Handle) -> Self {
                // SAFETY: the type holds the handle and nothing else, as asserted above; it is never dropped.
                let inner = unsafe { std::mem::transmute::<Handle, $type>(handle) };
                Self { inner: ManuallyDrop::new(inner), owner: PhantomData }
            }
        }
    };
}

borrowed! {
    /// A CUDA stream of ours as `cust`'s; see [`CudaStream::to_cust`].
    CustStream = cust::stream::Stream
}
borrowed! {
    /// An event of ours as `cust`'s; see [`Event::to_cust`].
    CustEvent = cust::event::Event
}

impl Gpu {
    /// Returns the device's primary context as a `cust` context, and makes it current on this thread. Use it instead of
    /// `cust::quick_init`. The result retains the context.
    ///
    /// # Errors
    /// What `cust` reports.
    pub fn to_cust(&self) -> CudaResult<Context> {
        cust::init(cust::CudaFlags::empty())?;
        let context = Context::new(Device::get_device(self.ordinal().unsigned_abs())?)?;
        // `Context::new` does not look at the result of this.
        CurrentContext::set_current(&context)?;
        Ok(context)
    }

    /// Returns whether `context` is this device's primary context, in which everything here works.
    #[must_use]
    pub fn is_context(&self, context: &Context) -> bool {
        context.as_raw().cast() == self.as_raw()
    }

    /// Opens the device of a `cust` context. The context must be primary, as all of `cust::context` are.
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] for a context that is not primary; otherwise those of opening a device.
    #[doc(hidden)] // the facade's takes no PTX
    pub fn from_cust_with<'a>(
        context: &Context,
        ptx: impl Fn(KernelSet) -> &'a str,
    ) -> Result<Self, GpuError> {
        let device =
            CurrentContext::set_current(context).and_then(|()| CurrentContext::get_device());
        let device = device.map_err(failed("asking for a context's device"))?;
        let gpu = Self::open_with(device.as_raw().unsigned_abs(), ptx)?;
        match gpu.is_context(context) {
            true => Ok(gpu),
            false => Err(GpuError::OtherDevice { what: "the context", expected: gpu.ordinal() }),
        }
    }
}

impl CudaStream {
    /// Returns this CUDA stream as a `cust` stream that borrows it. Use it to launch kernels of `cust` in the same
    /// order.
    #[must_use]
    pub fn to_cust(&self) -> CustStream<'_> {
        CustStream::new(Handle(self.as_raw()))
    }

    /// Wraps a `cust` stream. Use it to queue products and decoding among work of `cust`. `cust` still destroys the
    /// stream.
    ///
    /// # Safety
    /// `cuda_stream` belongs to `gpu`'s primary context, and lives as long as the result.
    #[must_use]
    pub unsafe fn from_cust(gpu: &Gpu, cuda_stream: &cust::stream::Stream) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(gpu, cuda_stream.as_inner().cast()) }
    }
}

impl Event {
    /// Returns this event as a `cust` event that borrows it. Use it where a `cust` stream must wait for this event.
    #[must_use]
    pub fn to_cust(&self) -> CustEvent<'_> {
        CustEvent::new(Handle(self.as_raw()))
    }

    /// Wraps a `cust` event. Use it where a CUDA stream of this crate must wait for `cust`, which still destroys the
    /// event.
    ///
    /// # Safety
    /// `event` belongs to `gpu`'s primary context, and lives as long as the result.
    #[must_use]
    pub unsafe fn from_cust(gpu: &Gpu, event: &cust::event::Event) -> Self {
        // SAFETY: the type holds the handle and nothing else, as asserted above.
        let handle = unsafe { std::mem::transmute_copy::<cust::event::Event, Handle>(event) };
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(gpu, handle.0) }
    }
}

impl DeviceBuffer {
    /// Converts the buffer to a `cust` buffer, which owns the memory and frees it in the context that is then current.
    #[must_use]
    pub fn into_cust(self) -> cust::memory::DeviceBuffer<u8> {
        let (address, len) = self.into_raw();
        // SAFETY: an allocation of that length by `cuMemAlloc`, which nothing else frees.
        unsafe { cust::memory::DeviceBuffer::from_raw_parts(DevicePointer::from_raw(address), len) }
    }

    /// Converts a `cust` buffer to a buffer, which owns the memory and frees it when it is dropped.
    ///
    /// # Safety
    /// `buffer` was allocated in `gpu`'s primary context, and not by an asynchronous function.
    #[must_use]
    pub unsafe fn from_cust<T: DeviceCopy>(
        gpu: &Gpu,
        buffer: cust::memory::DeviceBuffer<T>,
    ) -> Self {
        let buffer = ManuallyDrop::new(buffer);
        let bytes = buffer.len() * size_of::<T>();
        let address = if bytes > 0 { buffer.as_device_ptr().as_raw() } else { 0 };
        // SAFETY: the caller's promise; `cust` does not free it any more.
        unsafe { Self::from_raw(gpu, address, bytes) }
    }
}

impl<'a> DeviceSlice<'a> {
    /// Returns the memory as a `cust` slice to read. Use it for arguments of kernels of `cust`.
    ///
    /// # Safety
    /// The slice is used for reading alone, and not after `'a`, which `cust`'s type does not say.
    #[must_use]
    pub unsafe fn to_cust(&self) -> cust::memory::DeviceSlice<u8> {
        let start = DevicePointer::from_raw(self.address());
        // SAFETY: the memory has that length; the rest is the caller's promise.
        unsafe { cust::memory::DeviceSlice::from_raw_parts(start, self.len()) }
    }

    /// Borrows a `cust` buffer as an operand to read, such as activations.
    #[must_use]
    pub fn from_cust<T: DeviceCopy + bytemuck::Pod>(
        slice: &'a cust::memory::DeviceSlice<T>,
    ) -> Self {
        // SAFETY: `cust`'s memory is borrowed for `'a` and freed by `cuMemFree`, which waits for queued work. (A slice that
        // outlives its buffer is `cust`'s unsafety; then the driver knows no memory there, and it is refused.)
        unsafe { Self::from_raw(slice.as_device_ptr().as_raw(), slice.len() * size_of::<T>()) }
    }
}

impl<'a> DeviceSliceMut<'a> {
    /// Returns the memory as a `cust` slice to write. Use it for arguments of kernels of `cust`.
    ///
    /// # Safety
    /// The slice is not used after `'a`, which `cust`'s type does not say.
    #[must_use]
    pub unsafe fn to_cust(&mut self) -> cust::memory::DeviceSlice<u8> {
        let start = DevicePointer::from_raw(self.address());
        // SAFETY: the memory has that length; the rest is the caller's promise.
        unsafe { cust::memory::DeviceSlice::from_raw_parts_mut(start, self.len()) }
    }

    /// Borrows a `cust` buffer as an operand to write, such as outputs.
    #[must_use]
    pub fn from_cust<T: DeviceCopy + bytemuck::Pod>(
        slice: &'a mut cust::memory::DeviceSlice<T>,
    ) -> Self {
        // SAFETY: `cust`'s memory is borrowed for `'a`, here alone, and freed by `cuMemFree`, which waits for queued work.
        unsafe { Self::from_raw(slice.as_device_ptr().as_raw(), slice.len() * size_of::<T>()) }
    }
}

/// Returns the error for something that `cust` reports while `action` was being done.
fn failed(action: &'static str) -> impl Fn(CudaError) -> GpuError {
    move |error| GpuError::from_code(action, error as u32)
}
