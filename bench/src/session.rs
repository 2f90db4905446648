//! A device, ready to measure on.

use super::cublas::{Cublas, CublasError};
use super::timing::{Effort, Timer};
use super::{BenchError, Report, Row, driver_version};
use fused_rans::Float;
use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{CudaStream, Gpu, GpuError};
use fused_rans::layout::TileGrid;
use std::rc::Rc;

/// Copies of a layer that calls rotate over take at least so many bytes,
const COLD: usize = 256 << 20;
/// and so many times the L2 cache.
const COLD_CACHES: usize = 3;

/// What layers are compared with.
pub enum Reference {
    /// cuBLAS.
    Cublas(Cublas),
    /// A dense kernel of ours, for lack of it.
    Kernel(CublasError),
}

/// A device with what is the same for all layers.
pub struct Session {
    // Dropped in this order: both use the CUDA stream.
    reference: Reference,
    timer: Timer,
    cuda_stream: Rc<CudaStream>,
    gpu: Gpu,
    copy_gbps: f64,
    read_gbps: f64,
    cold: usize,
}

impl Session {
    /// Looks for cuBLAS and measures what the device's memory gives.
    ///
    /// # Errors
    /// [`BenchError`] from the driver; that there is no cuBLAS is none.
    pub fn new(gpu: Gpu) -> Result<Self, BenchError> {
        let cuda_stream = Rc::new(gpu.create_stream()?);
        let reference = match Cublas::load(&gpu, &cuda_stream) {
            Ok(cublas) => Reference::Cublas(cublas),
            Err(error) => Reference::Kernel(error),
        };
        let mut timer = Timer::new(&gpu, &cuda_stream)?;
        let copy_gbps = copy_rate(&gpu, &cuda_stream, &mut timer)?;
        let read_gbps = read_rate(&gpu, &cuda_stream, &mut timer)?;
        let cold = COLD.max(COLD_CACHES * gpu.l2_bytes()?);
        Ok(Self { reference, timer, cuda_stream, gpu, copy_gbps, read_gbps, cold })
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// What layers are compared with, and why it is not cuBLAS if it is not.
    #[must_use]
    pub fn reference_name(&self) -> String {
        match &self.reference {
            Reference::Cublas(cublas) => cublas.name(),
            Reference::Kernel(CublasError::Missing { .. }) => {
                "cuBLAS not found: compared with a dense kernel of ours (FUSED_RANS_CUBLAS may name a library)"
                    .to_owned()
            }
            Reference::Kernel(error) => {
                format!("cuBLAS not usable ({error}): compared with a dense kernel of ours")
            }
        }
    }

    /// A report of `rows`.
    ///
    /// # Errors
    /// [`GpuError`] if the driver does not say what the device is called.
    pub fn report(&self, rows: Vec<Row>) -> Result<Report, GpuError> {
        Ok(Report {
            gpu: self.gpu.name()?,
            driver: driver_version(),
            copy_gbps: self.copy_gbps,
            read_gbps: self.read_gbps,
            reference: self.reference_name(),
            rows,
        })
    }

    /// The CUDA stream that everything runs on.
    pub(super) fn cuda_stream(&self) -> Rc<CudaStream> {
        Rc::clone(&self.cuda_stream)
    }

    /// GB/s of a copy, read and written.
    pub(super) fn copy_gbps(&self) -> f64 {
        self.copy_gbps
    }

    /// Timer and reference, which run in turns.
    pub(super) fn contest(&mut self) -> (&mut Timer, &Reference) {
        (&mut self.timer, &self.reference)
    }

    /// Copies of `bytes` bytes each that no cache holds together.
    pub(super) fn copies(&self, bytes: usize) -> usize {
        (self.cold / bytes.max(1) + 1).max(2)
    }
}

impl Reference {
    /// Queues `product`.
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

    /// The type of the outputs that are timed, for activations of type `x`: the same, where there is
    /// a choice.
    pub(super) fn timed_outputs(&self, x: Float) -> Float {
        match self {
            Self::Cublas(_) => x,
            Self::Kernel(_) => Float::F32,
        }
    }
}

/// What is enough for memory's rates.
const RATES: Effort = Effort { rounds: 5, batches: 10, calls: 4 };
/// Bytes of the buffers that memory's rates are measured with.
const RATE_BYTES: usize = 1 << 30;

/// GB/s of a copy of 1 GiB, bytes read plus bytes written.
fn copy_rate(gpu: &Gpu, cuda_stream: &CudaStream, timer: &mut Timer) -> Result<f64, BenchError> {
    let (from, mut to) = (gpu.alloc(RATE_BYTES)?, gpu.alloc(RATE_BYTES)?);
    let mut call = |_| Ok(cuda_stream.copy(from.as_slice(), to.as_mut_slice())?);
    let times = timer.in_turns(RATES, &mut call, None)?;
    Ok(2.0 * RATE_BYTES as f64 / times.us / 1e3)
}

/// GB/s at which the dense kernel reads 1 GiB of weights.
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
