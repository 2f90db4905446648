//! CUDA graphs: work that was recorded once and is launched many times with one call.

use super::driver::done;
use super::driver::types::{CAPTURE_MODE_THREAD_LOCAL, Handle};
use super::{CudaStream, Gpu, GpuError};
use std::ffi::c_void;

/// Work recorded by [`CudaStream::capture`]. A launch costs the host about as much as one kernel.
#[derive(Debug)]
pub struct Graph {
    graph: Handle,
    executable: Handle,
    gpu: Gpu,
}

impl CudaStream {
    /// Records the work that `work` queues on this CUDA stream, without running it. Use it for a sequence of products
    /// that is repeated, such as a token's: one launch then replaces one per kernel. `work` may multiply and decode to
    /// device memory. It must not wait for the device or drop device memory. Call
    /// [`Layer::prepare`](super::Layer::prepare) before, because kernels cannot be loaded during the recording.
    ///
    /// # Errors
    /// The errors of `work`; [`GpuError::MissingFunction`] for drivers before CUDA 11.4; [`GpuError::OutOfMemory`] and
    /// [`GpuError::Driver`].
    pub fn capture(
        &self,
        work: impl FnOnce(&Self) -> Result<(), GpuError>,
    ) -> Result<Graph, GpuError> {
        let gpu = self.gpu();
        let (driver, stream) = (gpu.driver(), self.handle());
        let missing = GpuError::MissingFunction { function: "cuGraphInstantiateWithFlags" };
        let instantiate = driver.graph_instantiate.ok_or(missing)?;
        gpu.enter()?;
        // SAFETY: a valid handle.
        let code = unsafe { (driver.stream_begin_capture)(stream, CAPTURE_MODE_THREAD_LOCAL) };
        done("recording a CUDA stream", code)?;
        // From here on, a failure or a panic ends the recording: this thread could allocate nothing meanwhile.
        let recording = Recording { cuda_stream: self };
        work(self)?;
        let mut graph = recording.end()?;
        // SAFETY: a valid handle; the result goes to a variable that lives.
        let code = unsafe { instantiate(&raw mut graph.executable, graph.graph, 0) };
        done("preparing a CUDA graph", code)?;
        Ok(graph)
    }
}

/// A recording under way.
struct Recording<'a> {
    cuda_stream: &'a CudaStream,
}

impl Recording<'_> {
    /// Ends the recording and returns its graph, which is not executable yet.
    fn end(self) -> Result<Graph, GpuError> {
        let (graph, ended) = self.stop();
        std::mem::forget(self);
        ended.map(|()| graph)
    }

    fn stop(&self) -> (Graph, Result<(), GpuError>) {
        let (gpu, stream) = (self.cuda_stream.gpu(), self.cuda_stream.handle());
        let mut graph = Graph { graph: Handle::NULL, executable: Handle::NULL, gpu: gpu.clone() };
        let entered = gpu.enter();
        if entered.as_ref().is_err_and(GpuError::is_destroyed_context) {
            return (graph, entered);
        }
        // SAFETY: a valid handle; the result goes to a variable that lives.
        let code = unsafe { (gpu.driver().stream_end_capture)(stream, &raw mut graph.graph) };
        (graph, entered.and(done("recording a CUDA stream", code)))
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // What was recorded so far is dropped, and the cause is on its way to the caller.
        let _ = self.stop();
    }
}

impl Graph {
    /// Returns the executable graph, a `CUgraphExec`. Use it with another library while this value lives.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.executable.0
    }

    /// Queues the recorded work on a CUDA stream and returns.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    ///
    /// # Safety
    /// Everything that the recorded work uses (layers, workspaces, operands) lives until it is done, and nothing that
    /// is not ordered after it uses the outputs or the workspaces.
    pub unsafe fn launch(&mut self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        self.gpu.enter()?;
        let driver = self.gpu.driver();
        // SAFETY: valid handles; the rest is the caller's promise.
        let code = unsafe { (driver.graph_launch)(self.executable, cuda_stream.handle()) };
        done("launching a CUDA graph", code)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.gpu.is_destroyed() {
            return;
        }
        let driver = self.gpu.driver();
        // SAFETY: valid handles, where they are not null, not used after this; the driver keeps what is running.
        unsafe {
            if self.executable != Handle::NULL {
                let _ = (driver.graph_exec_destroy)(self.executable);
            }
            if self.graph != Handle::NULL {
                let _ = (driver.graph_destroy)(self.graph);
            }
        }
    }
}
