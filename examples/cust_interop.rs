//! Multiplies with a compressed layer, with buffers and a CUDA stream of rust-cuda's `cust`.
//!
//! ```text
//! cargo run --release --features cust --example cust_interop
//! ```
//!
//! To build this without CUDA's toolkit, set `CUDA_LIBRARY_PATH` to a directory that contains `lib64`: see
//! `docs/gpu.md`.

use fused_rans::gpu::cust_interop::cust::memory::{CopyDestination, DeviceBuffer};
use fused_rans::gpu::cust_interop::cust::stream::{Stream, StreamFlags};
use fused_rans::gpu::{self, CudaStream, DeviceSlice, DeviceSliceMut};
use fused_rans::{Activations, Float, Matrix, Outputs, encode};
use half::bf16;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = match gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("skipped: {error}");
            return Ok(());
        }
    };
    // 512 x 512 weights, each 1.0 in BF16.
    let (n, k) = (512, 512);
    let weights = vec![bf16::ONE; n * k];
    let layer = gpu.upload(&encode(Matrix::from_slice(&weights, n, k)?)?)?;
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(1)?)?;

    // The rest is an ordinary program with `cust`, in the same context.
    let _context = gpu.to_cust()?;
    let stream = Stream::new(StreamFlags::DEFAULT, None)?;
    let x = DeviceBuffer::from_slice(&vec![0x3F80u16; k])?;
    let mut y = DeviceBuffer::from_slice(&vec![0f32; n])?;

    // SAFETY: the CUDA stream belongs to the device's context and is dropped at the end.
    let cuda_stream = unsafe { CudaStream::from_cust(&gpu, &stream) };
    layer.matmul(
        Activations {
            data: DeviceSlice::from_cust(&x),
            dtype: Float::Bf16,
            rows: 1,
            row_stride: k,
        },
        Outputs { data: DeviceSliceMut::from_cust(&mut y), dtype: Float::F32, row_stride: n },
        &mut workspace,
        &cuda_stream,
    )?;
    stream.synchronize()?;
    let mut sums = vec![0f32; n];
    y.copy_to(&mut sums)?;
    assert!(sums.iter().all(|&sum| sum == 512.0), "a sum of 512 ones");
    println!("{}: {n} sums of {k} ones, each {}", gpu.name()?, sums[0]);
    Ok(())
}
