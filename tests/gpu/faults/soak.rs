//! Works for minutes and checks every result, and at the end that no device memory is lost.

use super::{Product, device_alone};
use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{Check, Gpu, UploadOptions};
use fused_rans::layout::TileGrid;
use fused_rans::{Blob, Dtype, Float, WeightsPerSymbol};
use half::{bf16, f16};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::time::{Duration, Instant};
use support::product::{Accumulator, Case, any_case, weight_numbers};

/// Bytes by which free memory may differ, because the driver takes memory, too.
const SLACK: usize = 16 << 20;

/// Converts weights to the activations' type, which represents all of them exactly.
fn staged_weights(case: &Case, decoded: &[u8]) -> Vec<u8> {
    if case.recipe.dtype.byte_len() == 2 {
        return decoded.to_vec();
    }
    let numbers = weight_numbers(case.recipe.dtype, decoded).into_iter();
    let bits = |number: f64| match case.x {
        Float::F16 => f16::from_f64(number).to_bits(),
        _ => bf16::from_f64(number).to_bits(),
    };
    numbers.flat_map(|number| bits(number).to_le_bytes()).collect()
}

/// Compares the product with one of the decoded matrix: relative to the norm of y, and each output relative to the norm
/// of its row.
fn against_staged(gpu: &Gpu, case: Case) {
    let mut product = Product::of(gpu, case).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    product.queue(&cuda_stream).unwrap();
    cuda_stream.synchronize().unwrap();
    let fused = product.outputs();
    let Product { case, layer, x, .. } = &product;
    let decoded = layer.decode_to_bytes().unwrap();
    assert!(decoded == case.weights(), "{case:?}: other weights");
    let staged = staged_weights(case, &decoded);
    let mut w = gpu.alloc(staged.len()).unwrap();
    w.copy_from(&staged).unwrap();
    let mut y = gpu.alloc(fused.len()).unwrap();
    let shape = TileGrid { rows: case.recipe.rows, cols: case.recipe.cols };
    let (w, x, rows) = (w.as_slice(), x.as_slice(), case.m);
    let (dtype, y_dtype) = (case.x, Float::F32);
    let dense = DenseProduct { dtype, shape, w, x, rows, y: y.as_mut_slice(), y_dtype };
    dense.queue(gpu, &cuda_stream).unwrap();
    cuda_stream.synchronize().unwrap();
    let expected = y.to_vec().unwrap();
    let numbers = |bytes: &[u8]| support::product::numbers(Float::F32, bytes);
    let (fused, expected) = (numbers(&fused), numbers(&expected));
    let norm = |all: &mut dyn Iterator<Item = f64>| all.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut fused.iter().zip(&expected).map(|(a, b)| a - b));
    let all = norm(&mut expected.iter().copied());
    assert!(error <= 2e-6 * all, "{case:?}: {error} of {all}");
}

/// Multiplies with random weights, shapes and activations, and checks against products in F64.
fn any(gpu: &Gpu, case: &Case) -> bool {
    let case = case.aligned();
    let Some(bytes) = case.blob() else { return false };
    let (blob, inputs) = (Blob::parse(&bytes).unwrap(), case.inputs());
    let options = UploadOptions::new().epilogue(inputs.epilogue()).check(Check::OnDevice);
    let layer = gpu.upload_with(&blob, options).unwrap();
    assert!(layer.decode_to_bytes().unwrap() == case.weights(), "{case:?}: other weights");
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let mut y_bytes = case.output_buffer();
    let (mut x, mut y) = (gpu.alloc(inputs.x.len()).unwrap(), gpu.alloc(y_bytes.len()).unwrap());
    x.copy_from(&inputs.x).unwrap();
    y.copy_from(&y_bytes).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    let (from, to) = (case.offset_x..x.len(), case.offset_y..y.len());
    let (activations, outputs) = (case.activations(x.slice(from)), case.outputs(y.slice_mut(to)));
    layer.matmul(activations, outputs, &mut workspace, &cuda_stream).unwrap();
    cuda_stream.synchronize().unwrap();
    y.copy_to(&mut y_bytes).unwrap();
    let checked = case.check(&case.weight_numbers(), &inputs, Accumulator::F32, &y_bytes);
    assert_eq!(checked, Ok(()), "{case:?}");
    layer.verify().unwrap();
    true
}

/// Returns case number `number` of large layers. Types alternate.
fn large(number: usize) -> Case {
    let sides = [1024, 1536, 2048, 2816, 4096, 5632];
    let (rows, cols) = (sides[number * 5 % 6], sides[number * 7 / 2 % 6]);
    let m = [1, 2, 5, 8, 13, 16, 24, 32, 57, 64][number % 10];
    let mut case = Case::ordinary(Dtype::ALL[number % 4], rows, cols, m);
    if number / 4 % 2 == 1 && case.recipe.dtype == Dtype::I8 {
        case.recipe.weights_per_symbol = WeightsPerSymbol::Four;
    }
    case.recipe.seed = number as u64;
    case
}

#[test]
#[ignore = "takes minutes: FUSED_RANS_SOAK seconds, 300 if that is not set"]
fn nothing_goes_wrong_for_minutes() {
    let Some((gpu, _alone)) = device_alone() else { return };
    let seconds = std::env::var("FUSED_RANS_SOAK").map_or(300, |seconds| seconds.parse().unwrap());
    let (start, duration) = (Instant::now(), Duration::from_secs(seconds));
    let mut runner = TestRunner::deterministic();
    let (mut products, mut layers, mut half) = (0, 0, None);
    while start.elapsed() < duration {
        against_staged(gpu, large(layers));
        layers += 1;
        for _ in 0..20 {
            let case = any_case().new_tree(&mut runner).unwrap().current();
            products += usize::from(any(gpu, &case));
        }
        if half.is_none() && start.elapsed() > duration / 2 {
            half = Some(gpu.memory_info().unwrap().free);
        }
    }
    let (half, free) = (half.expect("it took that long"), gpu.memory_info().unwrap().free);
    println!(
        "{layers} layers against staged ones, {products} of any kind against F64, {} s; {half} bytes free after half of it, {free} at the end",
        start.elapsed().as_secs()
    );
    assert!(free + SLACK >= half, "{free} bytes are free, {half} were");
}
