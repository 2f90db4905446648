//! `cust`'s buffers and CUDA streams, each with the device that it belongs to.

use super::error::at;
use super::{Gpu, GpuError};
use cust::memory::DeviceBuffer;
use cust::stream::{Stream, StreamFlags};
use std::ops::{Deref, DerefMut};

/// Bytes of device memory; derefs to `cust`'s buffer.
#[derive(Debug)]
pub struct Buffer {
    // Dropped in this order: the memory is freed in its device's context.
    memory: DeviceBuffer<u8>,
    gpu: Gpu,
}

impl Buffer {
    pub(super) fn new(gpu: Gpu, bytes: usize) -> Result<Self, GpuError> {
        gpu.enter()?;
        // SAFETY: any bytes are valid `u8`s, and reading device memory that was never written gives
        // some.
        let memory = unsafe { DeviceBuffer::uninitialized(bytes) };
        Ok(Self { memory: memory.map_err(GpuError::allocating(bytes))?, gpu })
    }
}

impl Deref for Buffer {
    type Target = DeviceBuffer<u8>;

    fn deref(&self) -> &DeviceBuffer<u8> {
        &self.memory
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut DeviceBuffer<u8> {
        &mut self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Without the context there is nothing left to free.
        let _ = self.gpu.enter();
    }
}

/// A CUDA stream; derefs to `cust`'s.
#[derive(Debug)]
pub struct CudaStream {
    // Dropped in this order, as above.
    inner: Stream,
    gpu: Gpu,
}

impl CudaStream {
    pub(super) fn new(gpu: Gpu) -> Result<Self, GpuError> {
        gpu.enter()?;
        let inner = Stream::new(StreamFlags::NON_BLOCKING, None);
        Ok(Self { inner: inner.map_err(at("creating a CUDA stream"))?, gpu })
    }
}

impl Deref for CudaStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.inner
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // Without the context there is nothing left to destroy.
        let _ = self.gpu.enter();
    }
}
