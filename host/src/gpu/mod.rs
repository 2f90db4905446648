//! Compressed layers in GPU memory (feature `cuda`).
//!
//! [`Gpu`] is a device with the kernels, [`Gpu::upload`] checks a [`Blob`](crate::Blob) and copies it to device memory,
//! [`Layer::matmul`] multiplies with it and [`Layer::decode`] decodes it there. The CUDA driver is loaded when
//! a device is opened: a program with this feature builds without CUDA and starts without a driver.
//!
//! Everything here belongs to a device's primary context, which CUDA's runtime library, PyTorch, candle and `cust` use,
//! too, and keeps it alive. Everything may be used and dropped on any thread. Addresses of device memory and CUDA
//! streams of other libraries go in through `from_raw` functions.
//!
//! # Order of work
//! CUDA streams made here do not wait for the legacy default stream. Functions that return a result (`upload`, `copy_to_host`,
//! `decode`, `verify`) wait for their own work only. Functions that queue work on a CUDA stream return at once; the caller
//! orders work on different CUDA streams with [`Event`]s. Memory that is dropped while queued work uses it
//! is freed when that work is done.

#[cfg(feature = "cust")]
pub mod cust_interop;
#[doc(hidden)] // for benchmarks
pub mod dense;
mod device;
mod driver;
mod error;
mod graph;
mod kernel_set;
mod kernels;
mod layer;
mod matmul;
mod memory;
mod stream;

pub use device::{Gpu, MemoryInfo, device_count};
#[doc(hidden)]
pub use driver::REQUIRED as DRIVER_FUNCTIONS;
pub use error::{GpuError, LayerPart};
pub use graph::Graph;
#[doc(hidden)]
pub use kernel_set::KernelSet;
pub use layer::{Check, Layer, UploadOptions};
pub use matmul::{LayerGroup, Workspace, WorkspaceSize};
pub use memory::{Arena, DeviceBuffer, DeviceRange, DeviceSlice, DeviceSliceMut, PinnedBuffer};
pub use stream::{CudaStream, Event};
