//! Tests faults on a GPU: too little memory, memory that changes, contexts that break, handles that are dropped while
//! work is queued. Skipped if there is no GPU. Runs one test at a time, because some take all of the memory.
#![cfg(feature = "cuda")]

mod broken;
mod driver;
mod soak;

use fused_rans::gpu::{
    self, Check, CudaStream, DeviceBuffer, DeviceSliceMut, Gpu, GpuError, Layer, LayerPart,
    UploadOptions, Workspace,
};
use fused_rans::{Blob, BlobError, Dtype, Float, Matrix, TileFault, encode};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::product::{Case, Inputs};
use support::{Weights, device};

/// Returns the device and a lock that keeps other tests off it.
fn device_alone() -> Option<(&'static Gpu, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    device().map(|gpu| (gpu, alone))
}

/// A layer and everything that a multiplication with it needs.
struct Product {
    case: Case,
    layer: Layer,
    inputs: Inputs,
    x: DeviceBuffer,
    y: DeviceBuffer,
    workspace: Workspace,
}

impl Product {
    fn new(gpu: &Gpu, dtype: Dtype, rows: usize, cols: usize, m: usize) -> Self {
        Self::of(gpu, Case::ordinary(dtype, rows, cols, m)).unwrap()
    }

    fn of(gpu: &Gpu, case: Case) -> Result<Self, GpuError> {
        let (blob, inputs, y) =
            (case.blob().expect("it shrinks"), case.inputs(), case.output_buffer());
        let layer = gpu.upload_with(
            &Blob::parse(&blob).unwrap(),
            UploadOptions::new().epilogue(inputs.epilogue()),
        )?;
        let workspace = gpu.alloc_workspace(layer.workspace_size(case.m)?)?;
        let (mut x, y) = (gpu.alloc(inputs.x.len())?, gpu.alloc(y.len())?);
        x.copy_from(&inputs.x).unwrap();
        Ok(Self { case, layer, inputs, x, y, workspace })
    }

    fn queue(&mut self, cuda_stream: &CudaStream) -> Result<(), GpuError> {
        let (x, y) =
            (self.case.activations(self.x.as_slice()), self.case.outputs(self.y.as_mut_slice()));
        self.layer.matmul(x, y, &mut self.workspace, cuda_stream)
    }

    fn outputs(&self) -> Vec<u8> {
        self.y.to_vec().unwrap()
    }

    /// Multiplies and checks the outputs against products in F64.
    fn check(&mut self, gpu: &Gpu) -> Result<Vec<u8>, GpuError> {
        let cuda_stream = gpu.create_stream()?;
        self.queue(&cuda_stream)?;
        gpu.synchronize()?;
        Ok(self.check_outputs())
    }

    /// Checks the outputs against products in F64, and returns them.
    fn check_outputs(&self) -> Vec<u8> {
        let y = self.outputs();
        let exact = self.case.weight_numbers();
        self.case.check(&exact, &self.inputs, support::product::Accumulator::F32, &y).unwrap();
        y
    }
}

/// Returns a blob of ordinary weights.
fn blob(dtype: Dtype, rows: usize, cols: usize) -> Vec<u8> {
    let data = Weights::Gaussian.bytes(dtype, rows * cols, 7);
    encode(Matrix::from_bytes(dtype, &data, rows, cols).unwrap()).expect("it shrinks").into_bytes()
}

#[test]
fn every_changed_bit_of_a_layer_is_found() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let case = Case { scale: true, bias: true, ..Case::ordinary(Dtype::Bf16, 700, 1100, 1) };
    let Product { layer, .. } = Product::of(gpu, case.clone()).unwrap();
    layer.verify().unwrap();
    let mut parts = Vec::new();
    for (part, address, bytes) in layer.parts() {
        // Flips the first and the last bits, and some in between.
        let bits = 8 * bytes as u64;
        let bits = (0..bits).step_by((bits / 60) as usize + 1).chain([bits - 1]);
        for bit in bits {
            driver::flip(gpu, address, bit);
            let error = layer.verify().expect_err("a bit was flipped");
            driver::flip(gpu, address, bit);
            let GpuError::Damaged { part: found } = error else { panic!("{error}") };
            match (part, found) {
                (LayerPart::Tile(_), LayerPart::Tile(tile)) if !layer.is_resident() => {
                    let blob = case.blob().unwrap();
                    let entry = Blob::parse(&blob).unwrap().index()[tile];
                    let (start, lines) = (u64::from(entry.offset), u64::from(entry.lines));
                    let line = (address + bit / 8 - layer.parts()[0].1) / 128;
                    assert!((start..start + lines).contains(&line), "tile {tile}, line {line}");
                }
                _ => assert_eq!(found, part),
            }
            parts.push(found);
        }
    }
    layer.verify().unwrap();
    println!("{} bits of {} parts", parts.len(), layer.parts().len());
    let first = if layer.is_resident() { LayerPart::Index } else { LayerPart::Front };
    for part in [first, LayerPart::Table, LayerPart::Scale, LayerPart::Bias] {
        assert!(parts.contains(&part), "{part}");
    }
}

#[test]
fn the_device_finds_damage_in_what_is_uploaded() {
    let Some((gpu, _alone)) = device_alone() else { return };
    for dtype in Dtype::ALL {
        let mut bytes = blob(dtype, 1000, 1100);
        let on_device = || UploadOptions::new().check(Check::OnDevice);
        let layer = gpu.upload_with(&Blob::parse(&bytes).unwrap(), on_device()).unwrap();
        let mut weights = vec![0; layer.decoded_byte_len()];
        Blob::parse(&bytes).unwrap().decode(&mut weights).unwrap();
        assert!(layer.decode_to_bytes().unwrap() == weights, "{dtype:?}");
        let entry = Blob::parse(&bytes).unwrap().index()[7];
        bytes[128 * entry.offset as usize + 5000] ^= 4;
        let error = gpu.upload_with(&Blob::parse(&bytes).unwrap(), on_device());
        let error = error.expect_err("a tile is damaged");
        let expected = BlobError::Tile { tile: 7, fault: TileFault::Checksum };
        assert!(matches!(&error, GpuError::Blob(found) if *found == expected), "{error}");
    }
}

/// Allocates all device memory, in ever smaller pieces.
fn take_all_memory(gpu: &Gpu) -> Vec<DeviceBuffer> {
    let mut all = Vec::new();
    for shift in (12..36).rev() {
        while let Ok(buffer) = gpu.alloc(1 << shift) {
            all.push(buffer);
        }
    }
    all
}

/// Accepts success, or an error that says that memory is full; anything else is a fault.
fn may_be_out_of_memory<T>(what: &str, result: Result<T, GpuError>) {
    match result {
        Ok(_) => println!("{what}: there was room"),
        Err(error) => {
            println!("{what}: {error}");
            assert!(error.is_out_of_memory() && !error.is_sticky(), "{what}: {error}");
            assert!(error.to_string().contains("out of memory while"), "{what}: {error}");
        }
    }
}

#[test]
fn too_little_memory_is_an_error_and_nothing_else() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut product = Product::new(gpu, Dtype::Bf16, 2048, 2048, 4);
    product.check(gpu).unwrap();
    // Its kernel, the one for 16 rows, is not loaded yet.
    let mut other = Product::new(gpu, Dtype::F16, 64, 64, 16);
    let large = blob(Dtype::I8, 4096, 4096);
    let large = Blob::parse(&large).unwrap();
    // Created before memory is taken: a CUDA stream takes memory, too.
    let cuda_stream = gpu.create_stream().unwrap();
    let all = take_all_memory(gpu);
    let error = gpu.upload(&large).expect_err("there is no room");
    let needed = UploadOptions::new().device_byte_len(gpu, &large).unwrap();
    assert!(
        matches!(error, GpuError::OutOfMemory { bytes: Some(bytes), .. } if bytes == needed),
        "{error}"
    );
    let on_device = UploadOptions::new().check(Check::OnDevice);
    assert!(gpu.upload_with(&large, on_device).expect_err("there is no room").is_out_of_memory());
    // A kernel that is loaded still runs.
    product.queue(&cuda_stream).unwrap();
    cuda_stream.synchronize().unwrap();
    product.check_outputs();
    match product.layer.fragments(Float::Bf16) {
        Err(error) => assert!(error.is_out_of_memory() || product.layer.is_resident(), "{error}"),
        Ok(_) => panic!("there was room for fragments"),
    }
    // The driver needs memory for these, and may have some left.
    may_be_out_of_memory("another CUDA stream", gpu.create_stream());
    may_be_out_of_memory("an event", gpu.create_event());
    may_be_out_of_memory("another kernel", other.queue(&cuda_stream));
    may_be_out_of_memory("a second handle of the device", gpu::open(0));
    drop(all);
    product.check(gpu).unwrap();
    other.check(gpu).unwrap();
    gpu.upload(&large).unwrap().decode_to_bytes().unwrap();
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
                let mut lanes: Vec<(CudaStream, Workspace, DeviceBuffer)> = (0..8)
                    .map(|_| {
                        let workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap());
                        let y = gpu.alloc(expected.len()).unwrap();
                        (gpu.create_stream().unwrap(), workspace.unwrap(), y)
                    })
                    .collect();
                for _ in 0..50 {
                    for (cuda_stream, workspace, y) in &mut lanes {
                        let (x, y) =
                            (case.activations(x.as_slice()), case.outputs(y.as_mut_slice()));
                        layer.matmul(x, y, workspace, cuda_stream).unwrap();
                    }
                }
                for (cuda_stream, _, y) in &lanes {
                    cuda_stream.synchronize().unwrap();
                    assert!(y.to_vec().unwrap() == *expected, "another product");
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
        let cuda_stream = gpu.create_stream().unwrap();
        for _ in 0..100 {
            product.queue(&cuda_stream).unwrap();
        }
        let Product { case, layer, x, y, workspace, .. } = product;
        // Drops in different orders, and then allocates memory that may reuse theirs.
        match round % 3 {
            0 => drop((layer, x, workspace)),
            1 => drop((workspace, layer, x)),
            _ => drop((x, workspace, layer)),
        }
        let others: Vec<DeviceBuffer> =
            (20..25).map(|shift| gpu.alloc(1 << shift).unwrap()).collect();
        for mut other in others {
            other.fill(0xFF).unwrap();
        }
        drop(cuda_stream);
        gpu.synchronize().unwrap();
        let bytes = y.to_vec().unwrap();
        assert_eq!(bytes.len(), case.output_buffer().len());
        assert!(*expected.get_or_insert_with(|| bytes.clone()) == bytes, "round {round}");
    }
}

#[test]
fn memory_that_was_freed_or_is_misaligned_is_refused() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let mut product = Product::new(gpu, Dtype::Bf16, 64, 256, 1);
    let cuda_stream = gpu.create_stream().unwrap();
    let bytes = product.layer.decoded_byte_len();
    let mut out = gpu.alloc(bytes + 8).unwrap();
    let error = product.layer.decode(out.slice_mut(8..bytes + 8), &cuda_stream);
    let error = error.expect_err("misaligned");
    assert!(matches!(error, GpuError::Misaligned { alignment: 16, .. }), "{error}");
    for (x_at, y_at, alignment) in [(1, 0, 2), (0, 1, 4), (0, 2, 4)] {
        let Product { case, layer, workspace, .. } = &mut product;
        let (x, y) = out.as_mut_slice().split_at(4096);
        let (x_end, y_end) = (x.len(), y.len());
        let (x, y) = (x.slice(x_at..x_end).into(), y.slice(y_at..y_end));
        let (x, y) = (case.activations(x), case.outputs(y));
        let error = layer.matmul(x, y, workspace, &cuda_stream).expect_err("misaligned");
        assert!(
            matches!(error, GpuError::Misaligned { alignment: a, .. } if a == alignment),
            "{error}"
        );
    }
    let address = out.address();
    drop(out);
    // SAFETY: the memory is freed, but the library checks the address before it uses it, which this tests.
    let gone = unsafe { DeviceSliceMut::from_raw(address, bytes) };
    let error = product.layer.decode(gone, &cuda_stream).expect_err("it was freed");
    assert!(matches!(error, GpuError::OtherDevice { expected: 0, .. }), "{error}");
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
    let (there_stream, here_stream) =
        (second.create_stream().unwrap(), gpu.create_stream().unwrap());
    assert!(there.check(&second).unwrap() == here.check(gpu).unwrap());
    let error = here.queue(&there_stream).expect_err("the other device's CUDA stream");
    assert!(matches!(error, GpuError::OtherDevice { what: "the CUDA stream", .. }), "{error}");
    std::mem::swap(&mut here.x, &mut there.x);
    for (product, cuda_stream) in [(&mut here, &here_stream), (&mut there, &there_stream)] {
        let error = product.queue(cuda_stream).expect_err("the other device's x");
        assert!(matches!(error, GpuError::OtherDevice { .. }), "{error}");
    }
    std::mem::swap(&mut here.x, &mut there.x);
    std::mem::swap(&mut here.workspace, &mut there.workspace);
    let error = here.queue(&here_stream).expect_err("the other device's workspace");
    assert!(matches!(error, GpuError::OtherDevice { what: "the workspace", .. }), "{error}");
    std::mem::swap(&mut here.workspace, &mut there.workspace);
    // Buffers of the other device: of another size, of the right size, and by address only.
    let mut weights = second.alloc(here.layer.decoded_byte_len()).unwrap();
    let (address, bytes) = (weights.address(), weights.len());
    // SAFETY: the buffer lives until the end of the test, and nothing else uses it.
    let foreign = unsafe { DeviceSliceMut::from_raw(address, bytes) };
    for out in [there.y.as_mut_slice(), weights.as_mut_slice(), foreign] {
        let error = here.layer.decode(out, &here_stream).expect_err("the other device's buffer");
        assert!(matches!(error, GpuError::OtherDevice { expected: 0, .. }), "{error}");
    }
    // Both devices work if one thread uses them in turns.
    for _ in 0..3 {
        assert!(there.check(&second).unwrap() == here.check(gpu).unwrap());
    }
    drop((here, there));
}
