//! Device memory that is owned.

use super::super::driver::codes::SUCCESS;
use super::super::{Gpu, GpuError};
use super::{DeviceSlice, DeviceSliceMut, check_copy};
use crate::element::zeros;
use std::ops::Range;

/// An owned buffer in device memory. Dropping it frees the memory, after queued work.
#[derive(Debug)]
pub struct DeviceBuffer {
    /// 0 where there are no bytes.
    address: u64,
    len: usize,
    gpu: Gpu,
}

impl Gpu {
    /// Allocates `bytes` bytes of device memory with unspecified contents. They start at a multiple of 256 bytes.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn alloc(&self, bytes: usize) -> Result<DeviceBuffer, GpuError> {
        DeviceBuffer::new(self, bytes, "allocating a buffer")
    }

    /// Copies `from` to device memory and waits until it is copied.
    /// [`CudaStream::copy_from_host`](super::super::CudaStream::copy_from_host) does not wait.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`], [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn copy_to_device(&self, from: &[u8], to: DeviceSliceMut<'_>) -> Result<(), GpuError> {
        let internal = self.internal_stream();
        // SAFETY: `from` is borrowed until the copy has been waited for.
        let copied = unsafe { internal.copy_from_host(from, to) };
        copied?;
        internal.synchronize()
    }

    /// Copies device memory to `to` and waits until it is copied.
    /// [`CudaStream::copy_to_host`](super::super::CudaStream::copy_to_host) does not wait.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`], [`GpuError::OtherDevice`] and [`GpuError::Driver`].
    pub fn copy_to_host(&self, from: DeviceSlice<'_>, to: &mut [u8]) -> Result<(), GpuError> {
        let internal = self.internal_stream();
        // SAFETY: `to` is borrowed until the copy has been waited for.
        let copied = unsafe { internal.copy_to_host(from, to) };
        copied?;
        internal.synchronize()
    }
}

impl DeviceBuffer {
    pub(in super::super) fn new(
        gpu: &Gpu,
        len: usize,
        action: &'static str,
    ) -> Result<Self, GpuError> {
        gpu.enter()?;
        let mut address = 0;
        if len > 0 {
            // SAFETY: the result goes to a variable that lives; the context is current.
            match unsafe { (gpu.driver().memory_alloc)(&raw mut address, len) } {
                SUCCESS => {}
                code => return Err(GpuError::allocating(action, len, code)),
            }
        }
        Ok(Self { address, len, gpu: gpu.clone() })
    }

    /// Takes ownership of memory that another library has allocated with `cuMemAlloc` or `cudaMalloc`.
    ///
    /// # Safety
    /// `address` is the start of such an allocation of `len` bytes in the device's primary context (0 where `len` is),
    /// and nothing else frees it.
    #[must_use]
    pub unsafe fn from_raw(gpu: &Gpu, address: u64, len: usize) -> Self {
        Self { address, len, gpu: gpu.clone() }
    }

    /// Returns address and length, and passes ownership to the caller, which frees the memory with `cuMemFree`.
    #[must_use]
    pub fn into_raw(self) -> (u64, usize) {
        let raw = (self.address, self.len);
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: a field of a value that is not dropped, read once.
        drop(unsafe { std::ptr::read(&raw mut this.gpu) });
        raw
    }

    /// Returns the address of the first byte; 0 if there are none.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Returns all bytes as an operand to read.
    #[must_use]
    pub fn as_slice(&self) -> DeviceSlice<'_> {
        DeviceSlice::known(self.address, self.len, &self.gpu)
    }

    /// Returns all bytes as an operand to write.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> DeviceSliceMut<'_> {
        DeviceSliceMut::known(self.address, self.len, &self.gpu)
    }

    /// Returns the bytes at the offsets `range` as an operand to read.
    ///
    /// # Panics
    /// If `range` is not inside the buffer.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> DeviceSlice<'_> {
        self.as_slice().slice(range)
    }

    /// Returns the bytes at the offsets `range` as an operand to write.
    ///
    /// # Panics
    /// If `range` is not inside the buffer.
    #[must_use]
    pub fn slice_mut(&mut self, range: Range<usize>) -> DeviceSliceMut<'_> {
        self.as_mut_slice().slice(range)
    }

    /// Copies `bytes` to the whole buffer and waits until they are copied. Work queued on the buffer must be done.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`] for another length, and [`GpuError::Driver`].
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<(), GpuError> {
        let gpu = self.gpu.clone();
        gpu.copy_to_device(bytes, self.as_mut_slice())
    }

    /// Sets all bytes to `byte` and waits until that is done. Work queued on the buffer must be done.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn fill(&mut self, byte: u8) -> Result<(), GpuError> {
        let internal = self.gpu.internal_stream();
        internal.fill(self.as_mut_slice(), byte)?;
        internal.synchronize()
    }

    /// Copies the whole buffer to `bytes` and waits until it is copied. Work queued on the buffer must be done.
    ///
    /// # Errors
    /// [`GpuError::CopyLength`] for another length, and [`GpuError::Driver`].
    pub fn copy_to(&self, bytes: &mut [u8]) -> Result<(), GpuError> {
        check_copy(self.len, bytes.len())?;
        self.gpu.copy_to_host(self.as_slice(), bytes)
    }

    /// Copies the buffer to newly allocated host memory. Work queued on the buffer must be done.
    ///
    /// # Errors
    /// [`BlobError::Memory`](crate::BlobError::Memory) (in [`GpuError::Blob`]) if the host has too little memory, and
    /// [`GpuError::Driver`].
    pub fn to_vec(&self) -> Result<Vec<u8>, GpuError> {
        let mut bytes = zeros(self.len)?;
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if self.address != 0 {
            // Without the context there is nothing to free.
            let _ = self.gpu.enter();
            // SAFETY: an allocation that nothing uses after this; the driver waits for queued work.
            let _ = unsafe { (self.gpu.driver().memory_free)(self.address) };
        }
    }
}

impl<'a> From<&'a DeviceBuffer> for DeviceSlice<'a> {
    fn from(buffer: &'a DeviceBuffer) -> Self {
        buffer.as_slice()
    }
}

impl<'a> From<&'a mut DeviceBuffer> for DeviceSliceMut<'a> {
    fn from(buffer: &'a mut DeviceBuffer) -> Self {
        buffer.as_mut_slice()
    }
}
