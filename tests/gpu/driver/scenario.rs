//! A program that calls everything in `fused_rans::gpu`, and goes on after errors with what it has.

use fused_rans::gpu::{Buffer, Gpu, GpuError, Layer, Stream, Workspace};
use fused_rans::{Activations, Blob, Dtype, Epilogue, Float, Outputs, encode, encode_grouped};
use support::product::activation_type;
use support::{AnyGroups, Recipe};

/// Rows of each layer.
const ROWS: usize = 80;
/// Rows of activations.
const BATCHES: [usize; 2] = [1, 16];

/// Layers of BF16, of INT8 with scales of rows, and of groups.
pub fn layers() -> Vec<Vec<u8>> {
    let bf16 = Recipe { rows: ROWS, cols: 320, ..Recipe::gaussian(Dtype::Bf16) };
    let i8 = Recipe { dtype: Dtype::I8, ..bf16.clone() };
    let (scales, nibbles) = (vec![0x3F80; ROWS], i8.nibbles());
    let groups = AnyGroups::with_normal_scales(ROWS, i8.cols, true, 3);
    let blobs = [
        encode(bf16.matrix(&bf16.bytes())),
        encode(i8.matrix(&i8.bytes()).scaled(&scales).unwrap()),
        encode_grouped(i8.matrix(&nibbles), groups.groups()).unwrap(),
    ];
    blobs.map(|blob| blob.expect("it shrinks")).into()
}

/// The errors of what has failed, in order.
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

pub fn everything(gpu: Gpu, blobs: &[Vec<u8>], errors: &mut Errors) {
    errors.of(gpu.name());
    errors.of(gpu.memory());
    let cuda_stream = errors.of(gpu.cuda_stream());
    let epilogue = Epilogue { scale: None, bias: Some(&[1.0; ROWS]) };
    let upload = |bytes: &Vec<u8>| gpu.upload_with(&Blob::parse(bytes).unwrap(), epilogue);
    let layers: Vec<Layer> = blobs.iter().filter_map(|bytes| errors.of(upload(bytes))).collect();
    errors.of(gpu.upload_on_trust(&Blob::parse(&blobs[0]).unwrap(), epilogue));
    for layer in &layers {
        errors.of(layer.verify());
        errors.of(layer.decode_to_host());
        if let Some(cuda_stream) = &cuda_stream {
            decode(&gpu, layer, cuda_stream, errors);
            multiply(&gpu, layer, cuda_stream, errors);
        }
    }
    errors.of(gpu.synchronize());
    // What needs the device outlives it, and ends on a thread that has not entered it.
    drop(gpu);
    std::thread::spawn(move || drop(layers)).join().expect("no panic");
}

fn decode(gpu: &Gpu, layer: &Layer, cuda_stream: &Stream, errors: &mut Errors) -> Option<()> {
    let mut weights = errors.of(gpu.buffer(layer.weight_bytes()))?;
    errors.of(layer.decode(&mut weights, cuda_stream))
}

fn multiply(gpu: &Gpu, layer: &Layer, cuda_stream: &Stream, errors: &mut Errors) -> Option<()> {
    let mut operands = errors.of(Operands::new(gpu, layer))?;
    for m in BATCHES {
        errors.of(operands.multiply(layer, m, cuda_stream));
        errors.of(operands.workspace.reset());
    }
    Some(())
}

/// What a multiplication needs beside the layer.
pub struct Operands {
    pub x: Buffer,
    pub y: Buffer,
    pub workspace: Workspace,
}

impl Operands {
    pub fn new(gpu: &Gpu, layer: &Layer) -> Result<Self, GpuError> {
        let workspace = gpu.workspace(layer.workspace_size(BATCHES[1])?)?;
        let x = gpu.buffer(BATCHES[1] * layer.cols() * 2)?;
        let y = gpu.buffer(BATCHES[1] * layer.rows() * 4)?;
        Ok(Self { x, y, workspace })
    }

    pub fn multiply(&mut self, layer: &Layer, m: usize, on: &Stream) -> Result<(), GpuError> {
        let dtype = activation_type(layer.dtype(), true);
        let x = Activations { data: &**self.x, dtype, rows: m, row_stride: layer.cols() };
        let y = Outputs { data: &mut **self.y, dtype: Float::F32, row_stride: layer.rows() };
        layer.matmul(x, y, &mut self.workspace, on)
    }
}
