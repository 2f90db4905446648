//! A layer in device memory, ready to be measured.

use super::check::Sample;
use super::numbers::{Weights, activations};
use super::timing::{Call, Effort, Times};
use super::{BenchError, Measurement, Reference, Session};
use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{CudaStream, DeviceBuffer, Gpu, GpuError, Layer, Workspace};
use fused_rans::layout::TileGrid;
use fused_rans::{Activations, Blob, Float, Outputs};
use std::cell::RefCell;
use std::rc::Rc;

/// Largest relative error of the reference. Rounding weights with scales to 16 bits causes a hundredth of it; a larger error
/// means that the reference has computed another product.
const MAX_REFERENCE_ERROR: f64 = 0.05;

/// A layer in device memory and its dense weights, both in so many copies that the L2 cache does not hold them.
pub struct Subject {
    name: String,
    format: &'static str,
    shape: TileGrid,
    blob_bytes: usize,
    layers: Vec<Layer>,
    /// Copies of the dense weights in the type of x; empty if device memory has no room for them.
    dense: Vec<DeviceBuffer>,
    x_dtype: Float,
    x: DeviceBuffer,
    /// Bytes of device memory of a copy of the layer and of a copy of the dense weights, as the driver counts them.
    device_bytes: [usize; 2],
    /// Outputs: ours, then the reference's.
    y: [DeviceBuffer; 2],
    /// Largest number of rows of x.
    max_rows: usize,
    sample: Sample,
    workspace: Workspace,
    gpu: Gpu,
    cuda_stream: Rc<CudaStream>,
}

impl Subject {
    /// Uploads the layer and its dense weights, and computes sampled outputs in F64 for up to `max_rows` rows of x.
    ///
    /// # Errors
    /// [`BenchError::Blob`] if the layer is damaged; [`BenchError::Gpu`]. If the dense weights do not fit into device memory,
    /// the layer is measured without a reference.
    pub fn new(
        session: &Session,
        name: &str,
        blob: &Blob<'_>,
        max_rows: usize,
    ) -> Result<Self, BenchError> {
        let (gpu, shape) = (session.gpu().clone(), blob.grid());
        let weights = Weights::decode(blob)?;
        let (format, x_dtype) = (weights.format(), weights.activations());
        let (x_bytes, x_numbers) = activations(x_dtype, max_rows * shape.cols);
        let sample = Sample::new(&weights, shape.rows, &x_numbers, shape.cols);
        let copies = session.copies(blob.as_bytes().len());
        let free = gpu.memory_info()?.free;
        let layers = (0..copies).map(|_| gpu.upload(blob)).collect::<Result<Vec<_>, _>>()?;
        let left = gpu.memory_info()?.free;
        let dense = dense(session, &weights.into_dense())?;
        let device_bytes = [
            free.saturating_sub(left) / copies,
            left.saturating_sub(gpu.memory_info()?.free) / dense.len().max(1),
        ];
        let workspace = gpu.alloc_workspace(layers[0].workspace_size(max_rows)?)?;
        let y = || gpu.alloc(4 * max_rows * shape.rows);
        Ok(Self {
            name: name.to_owned(),
            format,
            shape,
            blob_bytes: blob.as_bytes().len(),
            workspace,
            x_dtype,
            x: uploaded(&gpu, &x_bytes)?,
            y: [y()?, y()?],
            max_rows,
            sample,
            layers,
            dense,
            device_bytes,
            cuda_stream: session.cuda_stream(),
            gpu,
        })
    }

    /// Verifies all outputs with `rows` rows of x, then times the product in turns with the reference.
    ///
    /// # Errors
    /// [`BenchError::Wrong`] and [`BenchError::Reference`] for wrong outputs; [`BenchError::Batch`] for no rows or more than
    /// the subject was prepared for; [`BenchError::Gpu`] and [`BenchError::Cublas`].
    pub fn measure(
        &mut self,
        session: &mut Session,
        rows: usize,
        effort: Effort,
    ) -> Result<Measurement, BenchError> {
        let error = self.check(rows)?;
        let reference_error = self.reference_error(session, rows)?;
        let Times { us, reference_us } = self.time(session, rows, effort)?;
        let gbps = self.blob_bytes as f64 / us / 1e3;
        let with_cublas = matches!(session.contest().1, Reference::Cublas(_));
        Ok(Measurement {
            name: self.name.clone(),
            shape: [self.shape.rows, self.shape.cols],
            format: self.format,
            bits_per_weight: 8.0 * self.blob_bytes as f64
                / (self.shape.rows * self.shape.cols) as f64,
            m: rows,
            us,
            gbps,
            copy_share: gbps / session.copy_gbps(),
            cublas_us: reference_us.filter(|_| with_cublas),
            dense_us: reference_us.filter(|_| !with_cublas),
            speedup: reference_us.map(|reference| reference / us),
            device_bytes: self.device_bytes[0],
            vram_saved: (!self.dense.is_empty())
                .then(|| 1.0 - self.device_bytes[0] as f64 / self.device_bytes[1].max(1) as f64),
            error,
            reference_error,
            plan: format!("{:?}", self.layers[0].plan(rows)?),
        })
    }

    /// Returns the layer's format.
    pub(super) fn format(&self) -> &'static str {
        self.format
    }

    /// Returns the type of x.
    pub(super) fn x_dtype(&self) -> Float {
        self.x_dtype
    }

    /// Verifies the outputs of every copy of the layer; returns the relative error of the last. Refuses numbers of rows that
    /// the subject was not prepared for.
    pub(super) fn check(&mut self, rows: usize) -> Result<f64, BenchError> {
        if rows == 0 || rows > self.max_rows {
            return Err(BenchError::Batch { rows, max_rows: self.max_rows });
        }
        let mut error = 0.0;
        for layer in 0..self.layers.len() {
            self.clear(0)?;
            self.queue(layer, rows, Float::F32)?;
            let y = self.outputs(0, rows)?;
            self.sample.check(&self.name, rows, &y)?;
            error = self.sample.error(rows, &y);
        }
        Ok(error)
    }

    /// Verifies the reference's outputs and returns their relative error; `None` if it has no dense weights.
    pub(super) fn reference_error(
        &mut self,
        session: &mut Session,
        rows: usize,
    ) -> Result<Option<f64>, BenchError> {
        if self.dense.is_empty() {
            return Ok(None);
        }
        self.clear(1)?;
        let (_, reference) = session.contest();
        self.queue_reference(reference, 0, rows, Float::F32)?;
        let error = self.sample.error(rows, &self.outputs(1, rows)?);
        if error > MAX_REFERENCE_ERROR {
            return Err(BenchError::Reference { name: self.name.clone(), rows, error });
        }
        Ok(Some(error))
    }

    /// Times the layer, in turns with the reference if there are dense weights.
    fn time(
        &mut self,
        session: &mut Session,
        rows: usize,
        effort: Effort,
    ) -> Result<Times, BenchError> {
        let (timer, reference) = session.contest();
        let y_dtype = reference.timed_outputs(self.x_dtype);
        let has_reference = !self.dense.is_empty();
        // Both calls use the subject, one after the other.
        let subject = RefCell::new(self);
        let mut ours = |call| Ok(subject.borrow_mut().queue(call, rows, y_dtype)?);
        let mut theirs =
            |call| subject.borrow_mut().queue_reference(reference, call, rows, y_dtype);
        let theirs: &mut Call<'_> = &mut theirs;
        timer.in_turns(effort, &mut ours, has_reference.then_some(theirs))
    }

    /// Fills y with NaN, so that an output that is never written is found. `whose` is 0 for ours, 1 for the reference's.
    fn clear(&mut self, whose: usize) -> Result<(), GpuError> {
        self.y[whose].fill(0xFF)
    }

    /// Queues our product with a copy of the layer, which `call` chooses.
    pub(super) fn queue(&mut self, call: usize, rows: usize, dtype: Float) -> Result<(), GpuError> {
        let Self { layers, x, y, x_dtype, shape, workspace, cuda_stream, .. } = self;
        let x = Activations { data: x.as_slice(), dtype: *x_dtype, rows, row_stride: shape.cols };
        let y = Outputs { data: y[0].as_mut_slice(), dtype, row_stride: shape.rows };
        layers[call % layers.len()].matmul(x, y, workspace, cuda_stream)
    }

    /// Returns the copy of the layer that `call` chooses.
    pub(super) fn layer(&self, call: usize) -> &Layer {
        &self.layers[call % self.layers.len()]
    }

    /// Returns the addresses of the first `rows` rows of x.
    pub(super) fn raw_activations(&self, rows: usize) -> Activations<u64> {
        let data = self.x.address();
        Activations { data, dtype: self.x_dtype, rows, row_stride: self.shape.cols }
    }

    /// Returns the address of our outputs.
    pub(super) fn raw_outputs(&self, dtype: Float) -> Outputs<u64> {
        Outputs { data: self.y[0].address(), dtype, row_stride: self.shape.rows }
    }

    /// Queues the reference's product with a copy of the dense weights, which `call` chooses. There must be some.
    pub(super) fn queue_reference(
        &mut self,
        reference: &Reference,
        call: usize,
        rows: usize,
        y_dtype: Float,
    ) -> Result<(), BenchError> {
        let Self { dense, shape, x, y, x_dtype, gpu, cuda_stream, .. } = self;
        let product = DenseProduct {
            dtype: *x_dtype,
            shape: *shape,
            w: dense[call % dense.len()].as_slice(),
            x: x.as_slice(),
            rows,
            y: y[1].as_mut_slice(),
            y_dtype,
        };
        reference.queue(product, gpu, cuda_stream)
    }

    /// Waits for the device; returns the first `rows` rows of y, F32.
    fn outputs(&self, whose: usize, rows: usize) -> Result<Vec<u8>, GpuError> {
        self.gpu.synchronize()?;
        let mut y = vec![0; 4 * rows * self.shape.rows];
        self.gpu.copy_to_host(self.y[whose].slice(0..y.len()), &mut y)?;
        Ok(y)
    }
}

/// Copies `bytes` to device memory.
fn uploaded(gpu: &Gpu, bytes: &[u8]) -> Result<DeviceBuffer, GpuError> {
    let mut buffer = gpu.alloc(bytes.len())?;
    buffer.copy_from(bytes)?;
    Ok(buffer)
}

/// Uploads copies of dense weights; none if they do not fit into device memory.
fn dense(session: &Session, weights: &[u8]) -> Result<Vec<DeviceBuffer>, GpuError> {
    let gpu = session.gpu();
    let copies = || {
        let first = uploaded(gpu, weights)?;
        let mut copies = vec![first];
        for _ in 1..session.copies(weights.len()) {
            let mut copy = gpu.alloc(weights.len())?;
            session.cuda_stream().copy(copies[0].as_slice(), copy.as_mut_slice())?;
            copies.push(copy);
        }
        gpu.synchronize()?;
        Ok(copies)
    };
    match copies() {
        Err(GpuError::OutOfMemory { .. }) => Ok(Vec::new()),
        copies => copies,
    }
}
