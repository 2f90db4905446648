//! Products that are repeated while the device is busy.

use super::{every_type, multiply};
use fused_rans::gpu::{Gpu, UploadOptions};
use fused_rans::{Blob, Dtype};
use std::sync::atomic::{AtomicBool, Ordering};
use support::product::Case;
use support::{Recipe, device};

/// Returns how often a product that must not change is repeated: `FUSED_RANS_REPEATS`, or a few times.
pub fn repeats() -> usize {
    std::env::var("FUSED_RANS_REPEATS").map_or(4, |text| text.parse().expect("a number"))
}

#[test]
fn products_are_the_same_bits_whatever_else_runs() {
    let Some(gpu) = device() else { return };
    while_occupied(gpu, || {
        for dtype in Dtype::ALL {
            for (rows, cols) in [(2048, 5632), (1000, 1000), (4099, 1027), (96, 30_000)] {
                for m in [1, 8, 16, 33, 130] {
                    repeat(gpu, &Case::ordinary(dtype, rows, cols, m));
                }
            }
        }
        for case in every_type().into_iter().filter(|case| case.recipe.dtype == Dtype::I8) {
            for m in [8, 70] {
                let recipe = Recipe { rows: 1024, cols: 2048, ..case.recipe.clone() };
                repeat(gpu, &Case { recipe, m, stride_x: 2048, stride_y: 1024, ..case.clone() });
            }
        }
    });
}

/// Keeps multiprocessors and memory of the device busy, off and on, until `is_done`.
fn occupy(gpu: &Gpu, is_done: &AtomicBool) {
    let case = Case::ordinary(Dtype::Bf16, 1024, 1024, 24);
    let bytes = case.blob().expect("it shrinks");
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let mut buffer = gpu.alloc(64 << 20).unwrap();
    while !is_done.load(Ordering::Relaxed) {
        buffer.fill(1).unwrap();
        multiply(gpu, &layer, &case, &mut workspace);
    }
}

/// Multiplies over and over, several products in a row, and compares the bits.
fn repeat(gpu: &Gpu, case: &Case) {
    let bytes = case.blob().expect("it shrinks");
    let inputs = case.inputs();
    let options = UploadOptions::new().epilogue(inputs.epilogue());
    let layer = gpu.upload_with(&Blob::parse(&bytes).unwrap(), options).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let expected = multiply(gpu, &layer, case, &mut workspace);
    let mut x = gpu.alloc(inputs.x.len()).unwrap();
    x.copy_from(&inputs.x).unwrap();
    let mut outputs = [(); 4].map(|()| gpu.alloc(expected.len()).unwrap());
    let cuda_stream = gpu.create_stream().unwrap();
    let before = case.output_buffer();
    for turn in 0..repeats() {
        for y in &mut outputs {
            y.copy_from(&before).unwrap();
        }
        for y in &mut outputs {
            let (x, y) = (case.activations(x.as_slice()), case.outputs(y.as_mut_slice()));
            layer.matmul(x, y, &mut workspace, &cuda_stream).unwrap();
        }
        cuda_stream.synchronize().unwrap();
        for (i, y) in outputs.iter().enumerate() {
            let found = y.to_vec().unwrap();
            let differ: Vec<_> = (0..found.len()).filter(|&at| found[at] != expected[at]).collect();
            let (count, first) = (differ.len(), differ.first());
            assert!(
                count == 0,
                "{case:?}, turn {turn}, product {i}: {count} bytes from {first:?} on"
            );
        }
    }
}

/// Calls a function when it is dropped, also by a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs `test` while another thread keeps the device busy.
pub fn while_occupied(gpu: &Gpu, test: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| occupy(gpu, &is_done));
        let _done = OnDrop(|| is_done.store(true, Ordering::Relaxed));
        test();
    });
}
