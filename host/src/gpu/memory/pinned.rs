//! Host memory that the device reads and writes by itself.

use super::super::driver::codes::SUCCESS;
use super::super::{Gpu, GpuError};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// Bytes of page-locked host memory, initially zero. Copies between it and device memory are faster than with other
/// memory, and overlap with work of the host.
#[derive(Debug)]
pub struct PinnedBuffer {
    bytes: NonNull<u8>,
    len: usize,
    gpu: Gpu,
}

// SAFETY: the bytes are owned, as a boxed slice's are.
unsafe impl Send for PinnedBuffer {}
// SAFETY: shared references only read.
unsafe impl Sync for PinnedBuffer {}

impl Gpu {
    /// Allocates `bytes` bytes of page-locked host memory. Use it for buffers that are copied often, because allocating
    /// takes long.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] (of host memory) and [`GpuError::Driver`].
    pub fn alloc_pinned(&self, bytes: usize) -> Result<PinnedBuffer, GpuError> {
        self.enter()?;
        let mut address = NonNull::<u8>::dangling().as_ptr().cast();
        if bytes > 0 {
            // SAFETY: the result goes to a variable that lives; the context is current.
            match unsafe { (self.driver().host_alloc)(&raw mut address, bytes, 0) } {
                SUCCESS => {}
                code => return Err(GpuError::allocating("page-locking host memory", bytes, code)),
            }
        }
        let bytes_at = NonNull::new(address.cast::<u8>());
        let start = bytes_at.ok_or(GpuError::OutOfMemory {
            action: "page-locking host memory",
            bytes: Some(bytes),
        })?;
        // SAFETY: memory of that length that was just allocated.
        unsafe { start.write_bytes(0, bytes) };
        Ok(PinnedBuffer { bytes: start, len: bytes, gpu: self.clone() })
    }
}

impl Deref for PinnedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes, initialized where they were allocated.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }
}

impl DerefMut for PinnedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` bytes, initialized where they were allocated, and borrowed here alone.
        unsafe { slice::from_raw_parts_mut(self.bytes.as_ptr(), self.len) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if self.len > 0 {
            let _ = self.gpu.enter();
            // SAFETY: an allocation that nothing uses after this.
            let _ = unsafe { (self.gpu.driver().host_free)(self.bytes.as_ptr().cast()) };
        }
    }
}
