//! Tests rust-cuda's `cust` and this library in one program, on a GPU. Skipped if there is none.

use fused_rans::gpu::cust_interop::cust::context::CurrentContext;
use fused_rans::gpu::cust_interop::cust::event::{self, EventFlags};
use fused_rans::gpu::cust_interop::cust::memory::{self, CopyDestination};
use fused_rans::gpu::cust_interop::cust::stream::{Stream, StreamFlags};
use fused_rans::gpu::{self, CudaStream, DeviceBuffer, DeviceSlice, DeviceSliceMut, Event};
use fused_rans::{Blob, Dtype};
use support::device;
use support::product::{Accumulator, Case};

#[test]
fn contexts_are_the_same() {
    let Some(gpu) = device() else { return };
    let context = gpu.to_cust().unwrap();
    assert!(gpu.is_context(&context));
    CurrentContext::set_current(&context).unwrap();
    let device = CurrentContext::get_device().unwrap();
    assert_eq!(device.as_raw(), gpu.ordinal());
    let same = gpu::from_cust(&context).unwrap();
    assert!(same.ordinal() == gpu.ordinal() && same.is_context(&context));
    drop((context, same));
    // Our handle retains the context on its own.
    gpu.synchronize().unwrap();
    gpu.alloc(4096).unwrap().fill(1).unwrap();
}

#[test]
fn a_product_between_buffers_and_cuda_streams_of_cust() {
    let Some(gpu) = device() else { return };
    let _context = gpu.to_cust().unwrap();
    let case = Case::ordinary(Dtype::Bf16, 700, 1100, 5);
    let bytes = case.blob().unwrap();
    let (inputs, mut bytes_y) = (case.inputs(), case.output_buffer());
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let x = memory::DeviceBuffer::from_slice(&inputs.x).unwrap();
    let mut y = memory::DeviceBuffer::from_slice(&bytes_y).unwrap();
    let stream = Stream::new(StreamFlags::DEFAULT, None).unwrap();
    // SAFETY: the CUDA stream belongs to the context and lives until the end of the test.
    let cuda_stream = unsafe { CudaStream::from_cust(gpu, &stream) };
    let operands = (DeviceSlice::from_cust(&x), DeviceSliceMut::from_cust(&mut y));
    let (activations, outputs) = (case.activations(operands.0), case.outputs(operands.1));
    layer.matmul(activations, outputs, &mut workspace, &cuda_stream).unwrap();
    stream.synchronize().unwrap();
    y.copy_to(&mut bytes_y).unwrap();
    let checked = case.check(&case.weight_numbers(), &inputs, Accumulator::F32, &bytes_y);
    assert_eq!(checked, Ok(()));
}

#[test]
fn cuda_streams_and_events_go_both_ways() {
    let Some(gpu) = device() else { return };
    let _context = gpu.to_cust().unwrap();
    let ours = gpu.create_stream().unwrap();
    assert_eq!(ours.to_cust().as_inner().cast(), ours.as_raw());
    // Records an event of `cust` on our CUDA stream, with the function of `cust` and with ours.
    let theirs = event::Event::new(EventFlags::DEFAULT).unwrap();
    theirs.record(&ours.to_cust()).unwrap();
    // SAFETY: the event belongs to the context and lives until the end of the test.
    let borrowed = unsafe { Event::from_cust(gpu, &theirs) };
    borrowed.record(&ours).unwrap();
    ours.wait(&borrowed).unwrap();
    // Records our event with the functions of `cust`.
    let end = gpu.create_event().unwrap();
    end.to_cust().record(&ours.to_cust()).unwrap();
    end.to_cust().synchronize().unwrap();
    assert!(end.elapsed_ms(&borrowed).unwrap() >= 0.0);
    assert!(end.to_cust().elapsed_time_f32(&theirs).unwrap() >= 0.0);
    ours.to_cust().synchronize().unwrap();
    // Wrappers do not destroy what they wrap.
    drop(borrowed);
    theirs.synchronize().unwrap();
    ours.synchronize().unwrap();
}

#[test]
fn memory_changes_its_owner() {
    let Some(gpu) = device() else { return };
    let _context = gpu.to_cust().unwrap();
    let free = gpu.memory_info().unwrap().free;
    for _ in 0..100 {
        let mut ours = gpu.alloc(64 << 20).unwrap();
        ours.fill(0x5A).unwrap();
        let address = ours.address();
        let theirs = ours.into_cust();
        assert_eq!((theirs.as_device_ptr().as_raw(), theirs.len()), (address, 64 << 20));
        // SAFETY: the memory was allocated by this library.
        let ours = unsafe { DeviceBuffer::from_cust(gpu, theirs) };
        assert!(ours.to_vec().unwrap().iter().all(|&byte| byte == 0x5A));
        drop(ours.into_cust());
    }
    assert!(gpu.memory_info().unwrap().free + (64 << 20) >= free, "memory was not freed");
}
