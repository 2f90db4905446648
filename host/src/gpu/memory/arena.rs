//! Device memory that is allocated once and divided among layers.

use super::super::{Gpu, GpuError};
use super::{DeviceBuffer, DeviceSlice, DeviceSliceMut};
use std::sync::Arc;

/// Alignment of a range, the same as that of an allocation.
pub(in super::super) const ALIGNMENT: usize = 256;

/// Divides a buffer into ranges that do not overlap. Use it to load a model with one allocation.
///
/// An arena does not take ranges back. [`Layer::into_memory`](super::super::Layer::into_memory) returns a layer's range:
/// use it for the next layer. The buffer is freed when the arena and all its ranges are dropped.
#[derive(Debug)]
pub struct Arena {
    buffer: Arc<DeviceBuffer>,
    used: usize,
}

/// A part of an [`Arena`], or memory of another library, that a layer can be uploaded to.
#[derive(Debug)]
pub struct DeviceRange {
    address: u64,
    len: usize,
    gpu: Gpu,
    /// Keeps the memory; `None` for memory of another library.
    _buffer: Option<Arc<DeviceBuffer>>,
    is_borrowed: bool,
}

impl Arena {
    /// Creates an arena from all of `buffer`. Waits for the device, because queued work could write to the buffer, and
    /// kernels trust the index of a layer in it.
    ///
    /// # Errors
    /// [`GpuError::Driver`] if something queued has failed.
    pub fn new(buffer: DeviceBuffer) -> Result<Self, GpuError> {
        buffer.gpu().synchronize()?;
        Ok(Self { buffer: Arc::new(buffer), used: 0 })
    }

    /// Cuts off a range of `bytes` bytes, which starts at a multiple of 256 bytes. Pass it to
    /// [`UploadOptions::memory`](super::super::UploadOptions::memory).
    ///
    /// # Errors
    /// [`GpuError::TooShort`] if fewer are left.
    pub fn cut(&mut self, bytes: usize) -> Result<DeviceRange, GpuError> {
        let found = self.remaining();
        let rest = found.checked_sub(bytes).ok_or(GpuError::TooShort { needed: bytes, found })?;
        let address = self.buffer.address() + (self.buffer.len() - found) as u64;
        self.used = self.buffer.len() - rest;
        let (gpu, _buffer) = (self.buffer.gpu().clone(), Some(Arc::clone(&self.buffer)));
        Ok(DeviceRange { address, len: bytes, gpu, _buffer, is_borrowed: true })
    }

    /// Returns the size in bytes of the largest range that can be cut off.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.buffer.len().saturating_sub(self.used.next_multiple_of(ALIGNMENT))
    }
}

impl DeviceRange {
    /// Returns all of a buffer.
    pub(in super::super) fn whole(buffer: DeviceBuffer) -> Self {
        let (address, len, gpu) = (buffer.address(), buffer.len(), buffer.gpu().clone());
        Self { address, len, gpu, _buffer: Some(Arc::new(buffer)), is_borrowed: false }
    }

    /// Wraps device memory of another library. Use it to upload layers to that memory.
    ///
    /// # Safety
    /// There are `len` bytes of the device's memory at `address`; nothing else uses them while this and layers in it
    /// live and work with them is queued.
    #[must_use]
    pub unsafe fn from_raw(gpu: &Gpu, address: u64, len: usize) -> Self {
        Self { address, len, gpu: gpu.clone(), _buffer: None, is_borrowed: true }
    }

    /// Returns the address of the first byte.
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

    /// Returns whether the range is memory of another library or was cut from an arena.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        self.is_borrowed
    }

    pub(in super::super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(in super::super) fn as_slice(&self) -> DeviceSlice<'_> {
        DeviceSlice::known(self.address, self.len, &self.gpu)
    }

    pub(in super::super) fn as_mut_slice(&mut self) -> DeviceSliceMut<'_> {
        DeviceSliceMut::known(self.address, self.len, &self.gpu)
    }
}
