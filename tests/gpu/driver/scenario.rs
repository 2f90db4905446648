//! A program that calls everything in `fused_rans::gpu`, and continues after errors as far as possible.

use fused_rans::gpu::{
    Arena, Check, CudaStream, DeviceBuffer, Gpu, GpuError, Layer, UploadOptions, Workspace,
};
use fused_rans::{Activations, Blob, Dtype, Epilogue, Float, Outputs};
use support::product::activation_type;
use support::{AnyGroups, Recipe};

/// Rows of each layer.
pub const ROWS: usize = 80;
/// Rows of activations.
const BATCHES: [usize; 2] = [1, 16];

/// Returns blobs of three layers: BF16, INT8 with row scales, and INT8 with groups.
pub fn layers() -> Vec<Vec<u8>> {
    let bf16 = Recipe { rows: ROWS, cols: 320, ..Recipe::gaussian(Dtype::Bf16) };
    let i8 = Recipe { dtype: Dtype::I8, ..bf16.clone() };
    let (scales, nibbles) = (vec![0x3F80; ROWS], i8.nibbles());
    let groups = AnyGroups::with_normal_scales(ROWS, i8.cols, true, 3);
    let blobs = [
        bf16.job(&bf16.bytes()).encode(),
        i8.job(&i8.bytes()).with_row_scales(&scales).encode(),
        i8.job(&nibbles).with_groups(groups.groups()).encode(),
    ];
    blobs.map(|blob| blob.expect("it shrinks")).into()
}

/// Errors, in the order in which they happened.
#[derive(Debug, Default)]
pub struct Errors(pub Vec<GpuError>);

impl Errors {
    pub fn of<T>(&mut self, result: Result<T, GpuError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}

/// Opens the device and does everything with it.
pub fn run(open: impl FnOnce() -> Result<Gpu, GpuError>, layers: &[Vec<u8>]) -> Errors {
    let mut errors = Errors::default();
    if let Some(gpu) = errors.of(open()) {
        everything(gpu, layers, &mut errors);
    }
    errors
}

/// Does everything with a device.
pub fn everything(gpu: Gpu, blobs: &[Vec<u8>], errors: &mut Errors) {
    errors.of(gpu.name());
    errors.of(gpu.memory_info());
    let cuda_stream = errors.of(gpu.create_stream());
    let epilogue = Epilogue { scale: None, bias: Some(&[1.0; ROWS]) };
    let options = || UploadOptions::new().epilogue(epilogue);
    let upload = |bytes: &Vec<u8>| gpu.upload_with(&Blob::parse(bytes).unwrap(), options());
    let layers: Vec<Layer> = blobs.iter().filter_map(|bytes| errors.of(upload(bytes))).collect();
    let on_device = options().check(Check::OnDevice);
    errors.of(gpu.upload_with(&Blob::parse(&blobs[0]).unwrap(), on_device));
    for layer in &layers {
        errors.of(layer.verify());
        errors.of(layer.decode_to_bytes());
        if let Some(cuda_stream) = &cuda_stream {
            decode(&gpu, layer, cuda_stream, errors);
            multiply(&gpu, layer, cuda_stream, errors);
        }
    }
    if let Some(cuda_stream) = &cuda_stream {
        errors.of(in_order(&gpu, &blobs[0], cuda_stream));
        errors.of(from_pinned(&gpu, &blobs[0], cuda_stream));
    }
    errors.of(gpu.synchronize());
    // Layers outlive the handle of the device, and are dropped on a thread that has not entered its context.
    drop(gpu);
    std::thread::spawn(move || drop(layers)).join().expect("no panic");
}

fn decode(gpu: &Gpu, layer: &Layer, on: &CudaStream, errors: &mut Errors) -> Option<()> {
    let mut weights = errors.of(gpu.alloc(layer.decoded_byte_len()))?;
    errors.of(layer.decode(weights.as_mut_slice(), on))
}

fn multiply(gpu: &Gpu, layer: &Layer, on: &CudaStream, errors: &mut Errors) -> Option<()> {
    let mut operands = errors.of(Operands::new(gpu, layer))?;
    for rows in BATCHES {
        errors.of(operands.multiply(layer, rows, on));
        errors.of(operands.workspace.reset(on));
    }
    Some(())
}

/// Uploads to an arena on a CUDA stream, makes another CUDA stream wait for it, and captures a product.
fn in_order(gpu: &Gpu, blob: &[u8], cuda_stream: &CudaStream) -> Result<(), GpuError> {
    let blob = Blob::parse(blob).unwrap();
    let bytes = UploadOptions::new().device_byte_len(gpu, &blob)?;
    let mut arena = Arena::new(gpu.alloc(bytes)?)?;
    let options = UploadOptions::new().memory(arena.cut(bytes)?);
    let layer = gpu.upload_async(&blob, options, cuda_stream)?;
    let (start, end) = (gpu.create_event()?, gpu.create_event()?);
    start.record(cuda_stream)?;
    let other = gpu.create_stream()?;
    let mut weights = gpu.alloc(layer.decoded_byte_len())?;
    // The first time, the layer's upload is not finished yet.
    layer.decode(weights.as_mut_slice(), &other)?;
    other.wait(&start)?;
    let mut operands = Operands::new(gpu, &layer)?;
    layer.prepare(1, activation_type(layer.dtype(), true))?;
    let mut graph = other.capture(|other| operands.multiply(&layer, 1, other))?;
    // SAFETY: everything that the graph uses outlives the wait for the event.
    unsafe { graph.launch(&other)? };
    end.record(&other)?;
    end.synchronize()?;
    end.elapsed_ms(&start)?;
    let mut copy = gpu.alloc(weights.len())?;
    other.copy(weights.as_slice(), copy.as_mut_slice())?;
    other.synchronize()
}

/// Uploads from page-locked memory.
fn from_pinned(gpu: &Gpu, blob: &[u8], cuda_stream: &CudaStream) -> Result<(), GpuError> {
    let mut pinned = gpu.alloc_pinned(blob.len())?;
    pinned.copy_from_slice(blob);
    gpu.upload_async(&Blob::parse(&pinned).unwrap(), UploadOptions::new(), cuda_stream)?.verify()
}

/// Operands and workspace of a multiplication.
pub struct Operands {
    pub x: DeviceBuffer,
    pub y: DeviceBuffer,
    pub workspace: Workspace,
}

impl Operands {
    pub fn new(gpu: &Gpu, layer: &Layer) -> Result<Self, GpuError> {
        let workspace = gpu.alloc_workspace(layer.workspace_size(BATCHES[1])?)?;
        let x = gpu.alloc(BATCHES[1] * layer.cols() * 2)?;
        let y = gpu.alloc(BATCHES[1] * layer.rows() * 4)?;
        Ok(Self { x, y, workspace })
    }

    pub fn multiply(
        &mut self,
        layer: &Layer,
        rows: usize,
        on: &CudaStream,
    ) -> Result<(), GpuError> {
        let dtype = activation_type(layer.dtype(), true);
        let x = Activations { data: self.x.as_slice(), dtype, rows, row_stride: layer.cols() };
        let (data, row_stride) = (self.y.as_mut_slice(), layer.rows());
        let y = Outputs { data, dtype: Float::F32, row_stride };
        layer.matmul(x, y, &mut self.workspace, on)
    }
}
