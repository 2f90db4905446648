//! What goes wrong on a GPU: too little memory, memory that changes, contexts that break, handles that go while work is
//! queued. On a real device; skipped where there is none. One test at a time, as some take all of its memory.
#![cfg(feature = "cuda")]

mod broken;
mod driver;
mod soak;

use fused_rans::gpu::{
    self, Buffer, CopyDestination, CudaStream, Gpu, GpuError, Layer, LayerPart, Workspace,
};
use fused_rans::{Blob, BlobError, Dtype, Epilogue, Float, Matrix, TileFault, encode};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::product::{Case, Inputs};
use support::{Weights, device};

/// The device, for this test alone.
fn device_alone() -> Option<(&'static Gpu, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    device().map(|gpu| (gpu, alone))
}

/// A layer and all that a multiplication with it needs.
struct Product {
    case: Case,
    layer: Layer,
    inputs: Inputs,
    x: Buffer,
    y: Buffer,
    workspace: Workspace,
}

impl Product {
    fn new(gpu: &Gpu, dtype: Dtype, rows: usize, cols: usize, m: usize) -> Self {
        Self::of(gpu, Case::ordinary(dtype, rows, cols, m)).unwrap()
    }

    fn of(gpu: &Gpu, case: Case) -> Result<Self, GpuError> {
        let (blob, inputs, y) =
            (case.blob().expect("it shrinks"), case.inputs(), case.output_buffer());
        let layer = gpu.upload_with(&Blob::parse(&blob).unwrap(), inputs.epilogue())?;
        let workspace = gpu.workspace(layer.workspace_size(case.m)?)?;
        let (mut x, y) = (gpu.buffer(inputs.x.len())?, gpu.buffer(y.len())?);
        x.copy_from(&inputs.x).unwrap();
        gpu.synchronize()?;
        Ok(Self { case, layer, inputs, x, y, workspace })
    }

    fn queue(&mut self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        let (x, y) = (self.case.activations(&**self.x), self.case.outputs(&mut **self.y));
        self.layer.matmul(x, y, &mut self.workspace, cuda_stream)
    }

    fn outputs(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.y.len()];
        self.y.copy_to(&mut bytes).unwrap();
        bytes
    }

    /// Multiplies, and checks against F64.
    fn check(&mut self, gpu: &Gpu) -> Result<Vec<u8>, GpuError> {
        let cuda_stream = gpu.cuda_stream()?;
        self.queue(&cuda_stream)?;
        gpu.synchronize()?;
        let y = self.outputs();
        let exact = self.case.weight_numbers();
        self.case.check(&exact, &self.inputs, support::product::Accumulator::F32, &y).unwrap();
        Ok(y)
    }
}

/// A blob of ordinary weights.
fn blob(dtype: Dtype, rows: usize, cols: usize) -> Vec<u8> {
    let data = Weights::Gaussian.bytes(dtype, rows * cols, 7);
    encode(Matrix::new(dtype, rows, cols, &data).unwrap()).expect("it shrinks")
}

#[test]
fn every_changed_bit_of_a_layer_is_found() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let case = Case { scale: true, bias: true, ..Case::ordinary(Dtype::Bf16, 700, 1100, 1) };
    let Product { layer, .. } = Product::of(gpu, case.clone()).unwrap();
    layer.verify().unwrap();
    let mut parts = Vec::new();
    for (part, address, bytes) in layer.memory() {
        // First and last bits, and some in between.
        let bits = 8 * bytes as u64;
        let bits = (0..bits).step_by((bits / 60) as usize + 1).chain([bits - 1]);
        for bit in bits {
            driver::flip(address, bit);
            let error = layer.verify().expect_err("a bit was flipped");
            driver::flip(address, bit);
            let GpuError::Damaged { part: found } = error else { panic!("{error}") };
            match (part, found) {
                (LayerPart::Tile(_), LayerPart::Tile(tile)) => {
                    let blob = case.blob().unwrap();
                    let entry = Blob::parse(&blob).unwrap().index()[tile];
                    let (start, lines) = (u64::from(entry.offset), u64::from(entry.lines));
                    let line = (address + bit / 8 - layer.memory()[0].1) / 128;
                    assert!((start..start + lines).contains(&line), "tile {tile}, line {line}");
                }
                _ => assert_eq!(found, part),
            }
            parts.push(found);
        }
    }
    layer.verify().unwrap();
    println!("{} bits of {} parts", parts.len(), layer.memory().len());
    for part in [LayerPart::Front, LayerPart::Table, LayerPart::Scale, LayerPart::Bias] {
        assert!(parts.contains(&part), "{part}");
    }
}

#[test]
fn what_is_uploaded_on_trust_is_the_same_and_damage_is_found() {
    let Some((gpu, _alone)) = device_alone() else { return };
    for dtype in Dtype::ALL {
        let mut bytes = blob(dtype, 1000, 1100);
        let layer =
            gpu.upload_on_trust(&Blob::parse(&bytes).unwrap(), Epilogue::default()).unwrap();
        let mut weights = vec![0; layer.weight_bytes()];
        Blob::parse(&bytes).unwrap().decode(&mut weights).unwrap();
        assert!(layer.decode_to_host().unwrap() == weights, "{dtype:?}");
        let entry = Blob::parse(&bytes).unwrap().index()[7];
        bytes[128 * entry.offset as usize + 5000] ^= 4;
        let error = gpu.upload_on_trust(&Blob::parse(&bytes).unwrap(), Epilogue::default());
        let error = error.expect_err("a tile is damaged");
        let expected = BlobError::Tile { tile: 7, fault: TileFault::Checksum };
        assert!(matches!(&error, GpuError::Blob(found) if *found == expected), "{error}");
    }
}

#[test]
fn too_little_memory_is_an_error_and_nothing_else() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut product = Product::new(gpu, Dtype::Bf16, 2048, 2048, 4);
    product.check(gpu).unwrap();
    // With a kernel that is not loaded yet.
    let mut other = Product::new(gpu, Dtype::F16, 64, 64, 1);
    let large = blob(Dtype::I8, 4096, 4096);
    let mut all: Vec<Buffer> = Vec::new();
    for shift in (12..36).rev() {
        while let Ok(buffer) = gpu.buffer(1 << shift) {
            all.push(buffer);
        }
    }
    let error = gpu.upload(&Blob::parse(&large).unwrap()).expect_err("there is no room");
    assert!(matches!(error, GpuError::OutOfMemory { bytes } if bytes >= large.len()), "{error}");
    let error = gpu.upload_on_trust(&Blob::parse(&large).unwrap(), Epilogue::default());
    assert!(error.expect_err("there is no room").is_out_of_memory());
    // A kernel that has run runs again; one that has to be loaded may find no room.
    product.check(gpu).unwrap();
    match product.layer.fragments(Float::Bf16) {
        Err(error) => assert!(error.is_out_of_memory(), "{error}"),
        Ok(_) => panic!("there was room for fragments"),
    }
    match other.check(gpu) {
        Ok(_) => println!("there was room for another kernel"),
        Err(error) => {
            println!("another kernel: {error}");
            assert!(error.is_out_of_memory() && !error.is_sticky(), "{error}");
        }
    }
    drop(all);
    product.check(gpu).unwrap();
    other.check(gpu).unwrap();
    gpu.upload(&Blob::parse(&large).unwrap()).unwrap().decode_to_host().unwrap();
}

#[test]
fn a_layer_is_used_from_threads_with_many_cuda_streams() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut product = Product::new(gpu, Dtype::Bf16, 1500, 2048, 8);
    let expected = product.check(gpu).unwrap();
    let (layer, case, x, expected) = (&product.layer, &product.case, &product.x, &expected);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut lanes: Vec<(CudaStream, Workspace, Buffer)> = (0..8)
                    .map(|_| {
                        let workspace = gpu.workspace(layer.workspace_size(case.m).unwrap());
                        let y = gpu.buffer(expected.len()).unwrap();
                        (gpu.cuda_stream().unwrap(), workspace.unwrap(), y)
                    })
                    .collect();
                for _ in 0..50 {
                    for (cuda_stream, workspace, y) in &mut lanes {
                        let y = case.outputs(&mut ***y);
                        layer.matmul(case.activations(&***x), y, workspace, cuda_stream).unwrap();
                    }
                }
                for (cuda_stream, _, y) in &lanes {
                    cuda_stream.synchronize().unwrap();
                    let mut bytes = vec![0; y.len()];
                    y.copy_to(&mut bytes).unwrap();
                    assert!(bytes == *expected, "another product");
                }
            });
        }
    });
}

#[test]
fn what_queued_work_needs_may_be_dropped() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut expected = None;
    for round in 0..20 {
        let mut product = Product::new(gpu, Dtype::Bf16, 4096, 4096, 8);
        let cuda_stream = gpu.cuda_stream().unwrap();
        for _ in 0..100 {
            product.queue(&cuda_stream).unwrap();
        }
        let Product { case, layer, x, y, workspace, .. } = product;
        // In any order, and with what takes the memory next.
        match round % 3 {
            0 => drop((layer, x, workspace)),
            1 => drop((workspace, layer, x)),
            _ => drop((x, workspace, layer)),
        }
        let others: Vec<Buffer> = (20..25).map(|shift| gpu.buffer(1 << shift).unwrap()).collect();
        for mut other in others {
            other.set_8(0xFF).unwrap();
        }
        drop(cuda_stream);
        gpu.synchronize().unwrap();
        let mut bytes = vec![0; y.len()];
        y.copy_to(&mut bytes).unwrap();
        assert_eq!(bytes.len(), case.output_buffer().len());
        assert!(*expected.get_or_insert_with(|| bytes.clone()) == bytes, "round {round}");
    }
}

#[test]
fn memory_that_was_freed_or_is_misaligned_is_refused() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut product = Product::new(gpu, Dtype::Bf16, 64, 256, 1);
    let cuda_stream = gpu.cuda_stream().unwrap();
    let out = gpu.buffer(product.layer.weight_bytes() + 8).unwrap();
    let error = product.layer.decode(&mut out.index(8..), &cuda_stream).expect_err("misaligned");
    assert!(matches!(error, GpuError::Misaligned { alignment: 16 }), "{error}");
    for (x_at, y_at, alignment) in [(1, 0, 2), (0, 1, 4), (0, 2, 4)] {
        let Product { case, layer, workspace, .. } = &mut product;
        let (x, mut y) = (out.index(x_at..4096), out.index(4096 + y_at..));
        let (x, y) = (case.activations(&x), case.outputs(&mut y));
        let error = layer.matmul(x, y, workspace, &cuda_stream).expect_err("misaligned");
        assert!(
            matches!(error, GpuError::Misaligned { alignment: a } if a == alignment),
            "{error}"
        );
    }
    // `cust`'s slices do not keep their buffer alive.
    let mut gone = out.index(..product.layer.weight_bytes());
    drop(out);
    let error = product.layer.decode(&mut gone, &cuda_stream).expect_err("it was freed");
    assert!(matches!(error, GpuError::OtherDevice { expected: 0 }), "{error}");
    product.check(gpu).unwrap();
}

#[test]
fn two_devices_do_not_mix() {
    let Some((gpu, _alone)) = device_alone() else { return };
    if gpu::device_count() < 2 {
        return println!("skipped: there is one device");
    }
    let second = gpu::open(1).unwrap();
    let mut there = Product::new(&second, Dtype::Bf16, 1024, 1024, 4);
    let mut here = Product::new(gpu, Dtype::Bf16, 1024, 1024, 4);
    let (there_stream, here_stream) = (second.cuda_stream().unwrap(), gpu.cuda_stream().unwrap());
    assert!(there.check(&second).unwrap() == here.check(gpu).unwrap());
    let error = here.queue(&there_stream).expect_err("the other device's CUDA stream");
    println!("the other device's CUDA stream: {error}");
    assert!(!error.is_sticky());
    std::mem::swap(&mut here.x, &mut there.x);
    for (product, cuda_stream) in [(&mut here, &here_stream), (&mut there, &there_stream)] {
        let error = product.queue(cuda_stream).expect_err("the other device's x");
        assert!(matches!(error, GpuError::OtherDevice { .. }), "{error}");
    }
    std::mem::swap(&mut here.x, &mut there.x);
    std::mem::swap(&mut here.workspace, &mut there.workspace);
    let error = here.queue(&here_stream).expect_err("the other device's workspace");
    assert!(matches!(error, GpuError::OtherDevice { expected: 0 }), "{error}");
    std::mem::swap(&mut here.workspace, &mut there.workspace);
    let error = here.layer.decode(&mut there.y, &here_stream).expect_err("the other device's y");
    assert!(matches!(error, GpuError::OtherDevice { .. }), "{error}");
    // Used in turns, from one thread, both work.
    for _ in 0..3 {
        assert!(there.check(&second).unwrap() == here.check(gpu).unwrap());
    }
    drop((here, there));
}
