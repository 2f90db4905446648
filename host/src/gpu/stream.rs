//! CUDA streams and events.

use super::driver::codes::NOT_READY;
use super::driver::done;
use super::driver::types::{EVENT_DEFAULT, EVENT_DISABLE_TIMING, Handle, STREAM_NON_BLOCKING};
use super::memory::check_copy;
use super::{DeviceSlice, DeviceSliceMut, Gpu, GpuError, Workspace, WorkspaceSize};
use std::ffi::{c_uint, c_void};

/// A queue of work on a device, processed in order. Work on different CUDA streams may overlap.
#[derive(Debug)]
pub struct CudaStream {
    handle: Handle,
    gpu: Gpu,
    /// Whether dropping it destroys the CUDA stream.
    owned: bool,
}

impl Gpu {
    /// Creates a CUDA stream that does not wait for the legacy default stream (`CU_STREAM_NON_BLOCKING`).
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn create_stream(&self) -> Result<CudaStream, GpuError> {
        self.enter()?;
        let mut handle = Handle::NULL;
        // SAFETY: the result goes to a variable that lives; the context is current.
        let code = unsafe { (self.driver().stream_create)(&raw mut handle, STREAM_NON_BLOCKING) };
        done("creating a CUDA stream", code)?;
        Ok(CudaStream { handle, gpu: self.clone(), owned: true })
    }

    /// Creates an event. Use it to order CUDA streams or to measure times.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn create_event(&self) -> Result<Event, GpuError> {
        Event::new(self, EVENT_DEFAULT)
    }
}

impl CudaStream {
    /// Creates a CUDA stream on `gpu`, like [`Gpu::create_stream`].
    ///
    /// # Errors
    /// See [`Gpu::create_stream`].
    pub fn create(gpu: &Gpu) -> Result<Self, GpuError> {
        gpu.create_stream()
    }

    /// Wraps a `CUstream` of another library (or `cudaStream_t`, which is the same) to queue work on it. Null is the
    /// legacy default stream, 1 and 2 are CUDA's other special values. Dropping the wrapper does not destroy the CUDA
    /// stream.
    ///
    /// # Safety
    /// `raw` is a CUDA stream of the device's primary context, or a special value, and is not destroyed while this
    /// lives.
    #[must_use]
    pub unsafe fn from_raw(gpu: &Gpu, raw: *mut c_void) -> Self {
        Self::borrowed(gpu, Handle(raw))
    }

    /// Returns the `CUstream`. Use it with another library while this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Returns the device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Waits for all work that was queued on this CUDA stream. Call it before the host reads results.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if something that was queued has failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.enter()?;
        // SAFETY: a valid handle.
        done("waiting for a CUDA stream", unsafe {
            (self.gpu.driver().stream_synchronize)(self.handle)
        })
    }

    /// Makes all work that is queued after this call wait for `event`. Use it to order work of two CUDA streams.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn wait(&self, event: &Event) -> Result<(), GpuError> {
        self.gpu.enter()?;
        // SAFETY: valid handles.
        done("waiting for an event", unsafe {
            (self.gpu.driver().stream_wait_event)(self.handle, event.handle, 0)
        })
    }

    /// Queues a copy in device memory and returns.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`], [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn copy(&self, from: DeviceSlice<'_>, to: DeviceSliceMut<'_>) -> Result<(), GpuError> {
        check_copy(from.len(), to.len())?;
        self.gpu.enter()?;
        from.check(&self.gpu, "the source", 1)?;
        to.check(&self.gpu, "the destination", 1)?;
        if from.is_empty() {
            return Ok(());
        }
        let driver = self.gpu.driver();
        // SAFETY: both slices are memory of the device, as checked; freeing memory waits for the copy.
        let code = unsafe {
            (driver.copy_on_device)(to.address(), from.address(), from.len(), self.handle)
        };
        done("copying in device memory", code)
    }

    /// Queues setting all bytes of `to` to `byte` and returns.
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn fill(&self, to: DeviceSliceMut<'_>, byte: u8) -> Result<(), GpuError> {
        self.gpu.enter()?;
        to.check(&self.gpu, "the destination", 1)?;
        if to.is_empty() {
            return Ok(());
        }
        let driver = self.gpu.driver();
        // SAFETY: the slice is memory of the device, as checked; freeing memory waits for the work.
        let code = unsafe { (driver.fill)(to.address(), byte, to.len(), self.handle) };
        done("filling device memory", code)
    }

    /// Queues a copy from host memory and returns. Returns before the copy is done if the memory is page-locked.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`], [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    ///
    /// # Safety
    /// If `from` is page-locked, it lives and does not change until the copy is done.
    pub unsafe fn copy_from_host(
        &self,
        from: &[u8],
        to: DeviceSliceMut<'_>,
    ) -> Result<(), GpuError> {
        check_copy(from.len(), to.len())?;
        self.gpu.enter()?;
        to.check(&self.gpu, "the destination", 1)?;
        // SAFETY: the destination is memory of the device, as checked; the rest is the caller's promise.
        unsafe { self.queue_host_copy(to.address(), from) }
    }

    /// Queues a copy to host memory and returns, maybe before the copy is done.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`], [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    ///
    /// # Safety
    /// `to` lives and is not used until the copy is done.
    pub unsafe fn copy_to_host(
        &self,
        from: DeviceSlice<'_>,
        to: &mut [u8],
    ) -> Result<(), GpuError> {
        check_copy(from.len(), to.len())?;
        self.gpu.enter()?;
        from.check(&self.gpu, "the source", 1)?;
        if from.is_empty() {
            return Ok(());
        }
        let (driver, host) = (self.gpu.driver(), to.as_mut_ptr().cast());
        // SAFETY: the source is memory of the device, as checked; the destination is the caller's promise.
        let code = unsafe { (driver.copy_to_host)(host, from.address(), from.len(), self.handle) };
        done("copying from the device", code)
    }

    /// Allocates a workspace for work that is queued on this CUDA stream after it. Use it instead of
    /// [`Gpu::alloc_workspace`] to avoid waiting for the device. Order other CUDA streams with an [`Event`] before they
    /// use the workspace.
    ///
    /// # Errors
    /// See [`Gpu::alloc_workspace`].
    pub fn alloc_workspace(&self, size: WorkspaceSize) -> Result<Workspace, GpuError> {
        Workspace::new(&self.gpu, size, self)
    }

    /// Queues a copy of `from` to device memory at `address`; the context must be current.
    ///
    /// # Safety
    /// There is memory of that length; `from` lives until it is copied, if it is page-locked.
    pub(super) unsafe fn queue_host_copy(&self, address: u64, from: &[u8]) -> Result<(), GpuError> {
        if from.is_empty() {
            return Ok(());
        }
        let (driver, host) = (self.gpu.driver(), from.as_ptr().cast());
        // SAFETY: the caller's promise. Memory that is not page-locked has been read when the call returns.
        let code = unsafe { (driver.copy_to_device)(address, host, from.len(), self.handle) };
        done("copying to the device", code)
    }

    pub(super) fn borrowed(gpu: &Gpu, handle: Handle) -> Self {
        Self { handle, gpu: gpu.clone(), owned: false }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for CudaStream {
    /// Destroys a CUDA stream made here, after what was queued on it.
    fn drop(&mut self) {
        if self.owned && !self.gpu.is_destroyed() {
            // SAFETY: a valid handle, not used after this.
            let _ = unsafe { (self.gpu.driver().stream_destroy)(self.handle) };
        }
    }
}

/// A point in a CUDA stream that other work waits for, or that times are measured from.
#[derive(Debug)]
pub struct Event {
    handle: Handle,
    gpu: Gpu,
    /// Whether dropping it destroys the event.
    owned: bool,
}

impl Event {
    /// Creates an event for order alone, which is faster.
    pub(super) fn without_timing(gpu: &Gpu) -> Result<Self, GpuError> {
        Self::new(gpu, EVENT_DISABLE_TIMING)
    }

    fn new(gpu: &Gpu, flags: c_uint) -> Result<Self, GpuError> {
        gpu.enter()?;
        let mut handle = Handle::NULL;
        // SAFETY: the result goes to a variable that lives; the context is current.
        let code = unsafe { (gpu.driver().event_create)(&raw mut handle, flags) };
        done("creating an event", code)?;
        Ok(Self { handle, gpu: gpu.clone(), owned: true })
    }

    /// Wraps a `CUevent` of another library. Use it to wait for work of that library. Dropping the wrapper does not
    /// destroy the event.
    ///
    /// # Safety
    /// `raw` is an event of the device's primary context and is not destroyed while this lives.
    #[must_use]
    pub unsafe fn from_raw(gpu: &Gpu, raw: *mut c_void) -> Self {
        Self { handle: Handle(raw), gpu: gpu.clone(), owned: false }
    }

    /// Returns the `CUevent`. Use it with another library while this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Records the event at the current end of a CUDA stream: it is done when all work queued so far is done.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn record(&self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        self.gpu.enter()?;
        // SAFETY: valid handles.
        done("recording an event", unsafe {
            (self.gpu.driver().event_record)(self.handle, cuda_stream.handle)
        })
    }

    /// Returns whether all work before the event is done. Use it to poll without waiting.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if something before it has failed.
    pub fn is_done(&self) -> Result<bool, GpuError> {
        self.gpu.enter()?;
        // SAFETY: a valid handle.
        match unsafe { (self.gpu.driver().event_query)(self.handle) } {
            NOT_READY => Ok(false),
            code => done("asking for an event", code).map(|()| true),
        }
    }

    /// Waits for all work before the event. Use it to wait for a part of a CUDA stream's work.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if something before it has failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.enter()?;
        // SAFETY: a valid handle.
        done("waiting for an event", unsafe { (self.gpu.driver().event_synchronize)(self.handle) })
    }

    /// Returns the milliseconds from `start` to this event, both of which must be done.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if one of them is not done or was never recorded.
    pub fn elapsed_ms(&self, start: &Self) -> Result<f32, GpuError> {
        self.gpu.enter()?;
        let (mut ms, driver) = (0.0, self.gpu.driver());
        // SAFETY: valid handles; the result goes to a variable that lives.
        let code = unsafe { (driver.event_elapsed)(&raw mut ms, start.handle, self.handle) };
        done("asking for the time between events", code)?;
        Ok(ms)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.owned && !self.gpu.is_destroyed() {
            // SAFETY: a valid handle, not used after this.
            let _ = unsafe { (self.gpu.driver().event_destroy)(self.handle) };
        }
    }
}
