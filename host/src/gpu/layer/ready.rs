//! When a layer's upload is done.

use super::super::{CudaStream, Event, GpuError};
use std::sync::atomic::{AtomicBool, Ordering};

/// An upload that may be in progress. Kernels trust a layer's index, so none may start before the upload is done, on
/// any CUDA stream.
#[derive(Debug)]
pub struct Ready {
    /// Recorded behind the upload; `None` if the upload has been waited for.
    event: Option<Event>,
    done: AtomicBool,
}

impl Ready {
    /// Returns the state of an upload that is done.
    pub fn now() -> Self {
        Self { event: None, done: AtomicBool::new(true) }
    }

    /// Returns the state of an upload that was just queued on `cuda_stream`.
    pub fn after(cuda_stream: &CudaStream) -> Result<Self, GpuError> {
        let event = Event::without_timing(cuda_stream.gpu())?;
        event.record(cuda_stream)?;
        Ok(Self { event: Some(event), done: AtomicBool::new(false) })
    }

    /// Makes `cuda_stream` wait for the upload, unless it is known to be done. Returns whether it is known.
    pub fn order(&self, cuda_stream: &CudaStream) -> Result<bool, GpuError> {
        match &self.event {
            Some(event) if !self.done.load(Ordering::Relaxed) => {
                if event.is_done()? {
                    self.done.store(true, Ordering::Relaxed);
                    return Ok(true);
                }
                cuda_stream.wait(event).map(|()| false)
            }
            _ => Ok(true),
        }
    }

    /// Waits for the upload.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        match &self.event {
            Some(event) if !self.done.load(Ordering::Relaxed) => {
                event.synchronize()?;
                self.done.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
