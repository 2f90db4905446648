//! A device with everything that all measurements share.

use super::cublas::{Cublas, CublasError};
use super::timing::{Effort, Timer};
use super::{BenchError, Measurement, Report, driver_version};
use fused_rans::Float;
use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{CudaStream, Gpu, GpuError};
use fused_rans::layout::TileGrid;
use std::rc::Rc;

/// Calls rotate over copies of their weights, so that no copy is found in the L2 cache. All copies together have at least this
/// many bytes, and at least [`MIN_COPIED_CACHES`] times the size of the cache.
const MIN_COPIED_BYTES: usize = 256 << 20;
/// See [`MIN_COPIED_BYTES`].
const MIN_COPIED_CACHES: usize = 3;

/// Product that compressed layers are compared with.
pub enum Reference {
    /// cuBLAS.
    Cublas(Cublas),
    /// Our dense kernel, because cuBLAS cannot be used for this reason.
    Kernel(CublasError),
}

/// A device, its reference, a timer and the rates of its memory. Create one per run.
pub struct Session {
    // Dropped in this order: both use the CUDA stream.
    reference: Reference,
    timer: Timer,
    cuda_stream: Rc<CudaStream>,
    gpu: Gpu,
    copy_gbps: f64,
    read_gbps: f64,
    /// Smallest size of all copies of a layer's weights together.
    copied_bytes: usize,
}

impl Session {
    /// Loads cuBLAS, if it is installed, and measures the rates of the device's memory.
    ///
    /// # Errors
    /// [`BenchError::Gpu`] from the driver. Without cuBLAS our dense kernel becomes the reference, which is no error.
    pub fn new(gpu: Gpu) -> Result<Self, BenchError> {
        let cuda_stream = Rc::new(gpu.create_stream()?);
        let reference = match Cublas::load(&gpu, &cuda_stream) {
            Ok(cublas) => Reference::Cublas(cublas),
            Err(error) => Reference::Kernel(error),
        };
        let mut timer = Timer::new(&gpu, &cuda_stream)?;
        let copy_gbps = copy_rate(&gpu, &cuda_stream, &mut timer)?;
        let read_gbps = read_rate(&gpu, &cuda_stream, &mut timer)?;
        let copied_bytes = MIN_COPIED_BYTES.max(MIN_COPIED_CACHES * gpu.l2_bytes()?);
        Ok(Self { reference, timer, cuda_stream, gpu, copy_gbps, read_gbps, copied_bytes })
    }

    /// Returns the device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Returns the reference's name, and why it is not cuBLAS if it is not.
    #[must_use]
    pub fn reference_name(&self) -> String {
        match &self.reference {
            Reference::Cublas(cublas) => cublas.name(),
            Reference::Kernel(CublasError::Missing { .. }) => {
                "cuBLAS not found: compared with our dense kernel (set FUSED_RANS_CUBLAS to name a library)"
                    .to_owned()
            }
            Reference::Kernel(error) => {
                format!("cuBLAS cannot be used ({error}): compared with our dense kernel")
            }
        }
    }

    /// Returns a report of the measurements `rows`.
    ///
    /// # Errors
    /// [`GpuError`] if the driver does not return the device's name.
    pub fn report(&self, rows: Vec<Measurement>) -> Result<Report, GpuError> {
        Ok(Report {
            gpu: self.gpu.name()?,
            driver: driver_version(),
            copy_gbps: self.copy_gbps,
            read_gbps: self.read_gbps,
            reference: self.reference_name(),
            rows,
        })
    }

    /// Returns the CUDA stream that everything runs on.
    pub(super) fn cuda_stream(&self) -> Rc<CudaStream> {
        Rc::clone(&self.cuda_stream)
    }

    /// Returns the GB/s of a copy, bytes read plus bytes written.
    pub(super) fn copy_gbps(&self) -> f64 {
        self.copy_gbps
    }

    /// Returns the timer and the reference.
    pub(super) fn contest(&mut self) -> (&mut Timer, &Reference) {
        (&mut self.timer, &self.reference)
    }

    /// Returns how many copies of `bytes` bytes are needed so that the L2 cache does not hold them all.
    pub(super) fn copies(&self, bytes: usize) -> usize {
        (self.copied_bytes / bytes.max(1) + 1).max(2)
    }
}

impl Reference {
    /// Queues `product` on `cuda_stream`.
    pub(super) fn queue(
        &self,
        product: DenseProduct<'_>,
        gpu: &Gpu,
        cuda_stream: &CudaStream,
    ) -> Result<(), BenchError> {
        match self {
            Self::Cublas(cublas) => cublas.queue(product),
            Self::Kernel(_) => Ok(product.queue(gpu, cuda_stream)?),
        }
    }

    /// Returns the type of the outputs that are timed with activations of type `x`: the same type with cuBLAS, F32 with our
    /// dense kernel, which has no other.
    pub(super) fn timed_outputs(&self, x: Float) -> Float {
        match self {
            Self::Cublas(_) => x,
            Self::Kernel(_) => Float::F32,
        }
    }
}

/// Effort for the rates of memory.
const RATES: Effort = Effort { rounds: 5, batches: 10, calls: 4 };
/// Size of the buffers that the rates of memory are measured with.
const RATE_BYTES: usize = 1 << 30;

/// Measures the GB/s of a copy of 1 GiB, bytes read plus bytes written.
fn copy_rate(gpu: &Gpu, cuda_stream: &CudaStream, timer: &mut Timer) -> Result<f64, BenchError> {
    let (from, mut to) = (gpu.alloc(RATE_BYTES)?, gpu.alloc(RATE_BYTES)?);
    let mut call = |_| Ok(cuda_stream.copy(from.as_slice(), to.as_mut_slice())?);
    let times = timer.in_turns(RATES, &mut call, None)?;
    Ok(2.0 * RATE_BYTES as f64 / times.us / 1e3)
}

/// Measures the GB/s at which our dense kernel reads 1 GiB of weights.
fn read_rate(gpu: &Gpu, cuda_stream: &CudaStream, timer: &mut Timer) -> Result<f64, BenchError> {
    let shape = TileGrid { rows: RATE_BYTES / 2 / 8192, cols: 8192 };
    let mut w = gpu.alloc(RATE_BYTES)?;
    let (mut x, mut y) = (gpu.alloc(2 * shape.cols)?, gpu.alloc(4 * shape.rows)?);
    for buffer in [&mut w, &mut x] {
        buffer.fill(0)?;
    }
    let (dtype, y_dtype) = (Float::Bf16, Float::F32);
    let mut call = |_| {
        let (w, x, y) = (w.as_slice(), x.as_slice(), y.as_mut_slice());
        let product = DenseProduct { dtype, shape, w, x, rows: 1, y, y_dtype };
        Ok(product.queue(gpu, cuda_stream)?)
    };
    let times = timer.in_turns(RATES, &mut call, None)?;
    Ok(RATE_BYTES as f64 / times.us / 1e3)
}
