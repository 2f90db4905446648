//! Compares multiplication on a GPU with products in F64. Skipped if there is no GPU.
#![cfg(feature = "cuda")]

mod groups;
mod repeats;

use fused_rans::gpu::{
    CudaStream, DeviceSlice, DeviceSliceMut, Gpu, GpuError, KernelSet, Layer, UploadOptions,
    Workspace,
};
use fused_rans::launch_plan::{self as plan, LaunchPlan};
use fused_rans::layout::{FRAGMENT, GroupPlane, LANES, Place, SLABS, SlabShape, TILE, TileKind};
use fused_rans::{Blob, Dtype, Float, MatmulError, WeightsPerSymbol};
use half::{bf16, f16};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use support::product::{Accumulator, Case, Inputs, Values, any_case, weight_numbers};
use support::quantized::{QuantizedCase, quantized_cases};
use support::resident::bounds_of_resident;
use support::{Recipe, Weights, device, integer_splits};

/// Bytes of the guards before and after every buffer, which must not change.
const GUARD: usize = 256;
const UNTOUCHED: u8 = 0x5A;

/// Returns `bytes` between two guards.
fn guarded(bytes: &[u8]) -> Vec<u8> {
    [&[UNTOUCHED; GUARD], bytes, &[UNTOUCHED; GUARD]].concat()
}

/// Multiplies on the device with the layer's own launch plan. Returns the buffer of y. Checks the guards. Any workspace
/// that is large enough will do.
fn multiply(gpu: &Gpu, layer: &Layer, case: &Case, workspace: &mut Workspace) -> Vec<u8> {
    multiply_with(&case.inputs(), gpu, layer, case, workspace)
}

/// Multiplies as [`multiply`] does, with other inputs than the case's.
fn multiply_with(
    inputs: &Inputs,
    gpu: &Gpu,
    layer: &Layer,
    case: &Case,
    workspace: &mut Workspace,
) -> Vec<u8> {
    multiply_as(layer.plan(case.m).unwrap(), inputs, gpu, layer, case, workspace)
}

/// Multiplies on the device with a launch plan. Returns the buffer of y. Checks the guards.
fn multiply_as(
    plan: LaunchPlan,
    inputs: &Inputs,
    gpu: &Gpu,
    layer: &Layer,
    case: &Case,
    workspace: &mut Workspace,
) -> Vec<u8> {
    let y = case.output_buffer();
    let (x, mut y_bytes) = (guarded(&inputs.x), guarded(&y));
    let (mut x_buffer, mut y_buffer) =
        (gpu.alloc(x.len()).unwrap(), gpu.alloc(y_bytes.len()).unwrap());
    x_buffer.copy_from(&x).unwrap();
    y_buffer.copy_from(&y_bytes).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    let data = x_buffer.slice(GUARD + case.offset_x..GUARD + inputs.x.len());
    let out: DeviceSliceMut<'_> = y_buffer.slice_mut(GUARD + case.offset_y..GUARD + y.len());
    if plan == layer.plan(case.m).unwrap() {
        let (activations, outputs) = (case.activations(data), case.outputs(out));
        layer.matmul(activations, outputs, workspace, &cuda_stream).unwrap();
    } else {
        let activations = case.activations(data.address());
        let outputs = case.outputs(out.address());
        // SAFETY: the buffers are as large as the arguments say, and outlive the wait for the CUDA stream.
        let queued =
            unsafe { layer.matmul_planned(plan, activations, outputs, workspace, &cuda_stream) };
        queued.unwrap();
    }
    cuda_stream.synchronize().unwrap();
    y_buffer.copy_to(&mut y_bytes).unwrap();
    let mut x_after = vec![0; x.len()];
    x_buffer.copy_to(&mut x_after).unwrap();
    assert!(x_after == x, "x was written to");
    let (before, after) = (&y_bytes[..GUARD], &y_bytes[GUARD + y.len()..]);
    assert!([before, after].concat().iter().all(|&b| b == UNTOUCHED), "a guard was written to");
    y_bytes[GUARD..GUARD + y.len()].to_vec()
}

/// Multiplies twice and checks the outputs. Returns `None` if the matrix does not shrink.
fn check(gpu: &Gpu, case: &Case) -> Option<Result<(), String>> {
    let case = &case.aligned();
    let bytes = case.blob()?;
    let blob = Blob::parse(&bytes).unwrap();
    let (mut inputs, weights) = (case.inputs(), case.weight_numbers());
    let bounds = match gpu.kernel_set() {
        KernelSet::Sm80 => weights.clone(),
        KernelSet::Sm90 => bounds_of_resident(case, &blob, &weights, &mut inputs),
    };
    let layer = gpu.upload_with(&blob, UploadOptions::new().epilogue(inputs.epilogue())).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let y = multiply_with(&inputs, gpu, &layer, case, &mut workspace);
    let again = multiply_with(&inputs, gpu, &layer, case, &mut workspace);
    let differ = y.iter().zip(&again).filter(|(y, again)| y != again).count();
    assert_eq!(differ, 0, "{case:?}: bytes that differ in a second run");
    Some(case.check_bounded(&weights, &bounds, &inputs, Accumulator::F32, &y))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn products_are_as_exact_as_f32_sums(case in any_case()) {
        if let Some(gpu) = device() {
            let result = check(gpu, &case);
            prop_assume!(result.is_some());
            prop_assert_eq!(result, Some(Ok(())));
        }
    }
}

#[test]
fn layers_of_many_tiles_and_any_batch() {
    let Some(gpu) = device() else { return };
    for dtype in Dtype::ALL {
        for (rows, cols) in [(2048, 5632), (1000, 1000), (4099, 1027), (96, 30_000)] {
            for (m, values) in [
                (1, Values::Gaussian),
                (8, Values::Positive),
                (33, Values::Gaussian),
                (130, Values::Sparse),
            ] {
                let case = Case { values, ..Case::ordinary(dtype, rows, cols, m) };
                assert_eq!(check(gpu, &case), Some(Ok(())), "{case:?}");
            }
        }
    }
}

#[test]
fn the_mainloop_multiplies_with_every_bit_of_the_weights() {
    let Some(gpu) = device() else { return };
    let mut compared = 0;
    for dtype in Dtype::ALL {
        for (weights, rows, cols) in [
            (Weights::Gaussian, 512, 768),
            (Weights::Dirty, 600, 1000),
            (Weights::MostlyZero, 300, 576),
            (Weights::Small, 256, 272),
            (Weights::AnyBits, 100, 100),
        ] {
            for x in [Float::Bf16, Float::F16] {
                let recipe = Recipe { rows, cols, weights, seed: 7, ..Recipe::gaussian(dtype) };
                let pair = (dtype, x);
                if matches!(pair, (Dtype::Bf16, Float::F16) | (Dtype::F16, Float::Bf16)) {
                    continue;
                }
                let case = Case { recipe, x, ..Case::ordinary(dtype, rows, cols, 1) };
                let Some(bytes) = case.blob() else { continue };
                let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
                if !layer.is_resident() {
                    compare_fragments(&case, &layer.fragments(x).unwrap());
                }
                compared += 1;
            }
        }
    }
    for case in every_type() {
        let bytes = case.blob().expect("it shrinks");
        let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
        // Fragments have the zero points subtracted, but are not scaled.
        if case.groups.is_none_or(|plane| !plane.zeros) {
            if !layer.is_resident() {
                compare_fragments(&case, &layer.fragments(case.x).unwrap());
            }
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared}");
}

/// Compares A fragments with the weights that they should hold.
fn compare_fragments(case: &Case, fragments: &[u32]) {
    let Recipe { dtype, rows, cols, .. } = case.recipe;
    let stored = case.weights();
    let numbers = weight_numbers(dtype, &stored);
    let (across, per_slab) = (cols.div_ceil(TILE), SlabShape::WHOLE.fragments() * LANES * 4);
    for row in 0..rows {
        for col in 0..cols {
            let tile = row / TILE * across + col / TILE;
            let (tile_rows, tile_cols) =
                ((rows - row / TILE * TILE).min(TILE), (cols - col / TILE * TILE).min(TILE));
            let slab = row % TILE / 32;
            let strips = (tile_rows.div_ceil(FRAGMENT) - 2 * slab).min(2);
            let shape = SlabShape { strips, steps: tile_cols.div_ceil(FRAGMENT) };
            let Place { fragment, lane, register, half } = shape.place(row % 32, col % TILE);
            let at = (tile * SLABS + slab) * per_slab + (fragment * LANES + lane) * 4 + register;
            let found = (fragments[at] >> (16 * half)) as u16;
            let weight = row * cols + col;
            let expected = match dtype.byte_len() {
                2 => u16::from_le_bytes([stored[2 * weight], stored[2 * weight + 1]]),
                // Exact in either type.
                _ if case.x == Float::Bf16 => bf16::from_f64(numbers[weight]).to_bits(),
                _ => f16::from_f64(numbers[weight]).to_bits(),
            };
            // Integers have one zero.
            let same =
                found == expected || dtype == Dtype::I8 && found & 0x7FFF == 0 && expected == 0;
            assert!(same, "{case:?} [{row}][{col}]: {found:04x}, not {expected:04x}");
        }
    }
}

/// Returns a case for every combination of types and formats that kernels exist for.
fn every_type() -> Vec<Case> {
    let case = |dtype, weights_per_symbol, weights, x| {
        let recipe = Recipe { weights_per_symbol, weights, ..Recipe::gaussian(dtype) };
        Case { recipe, ..Case::plain(dtype, x, 256, 256, 1) }
    };
    let mut cases = Vec::new();
    for weights in [Weights::Gaussian, Weights::MostlyZero] {
        cases.push(case(Dtype::Bf16, WeightsPerSymbol::Two, weights, Float::Bf16));
        cases.push(case(Dtype::F16, WeightsPerSymbol::Two, weights, Float::F16));
    }
    for x in [Float::Bf16, Float::F16] {
        cases.push(case(Dtype::F8E4M3, WeightsPerSymbol::Two, Weights::Dirty, x));
        for (split, weights) in integer_splits() {
            let any = case(Dtype::I8, split.weights_per_symbol(), weights, x);
            let recipe = Recipe { raw_bits: Some(split.raw_bits()), ..any.recipe };
            cases.push(Case { recipe, ..any });
        }
        for (weights_per_symbol, zeros) in
            WeightsPerSymbol::ALL.into_iter().flat_map(|p| [(p, false), (p, true)])
        {
            let groups = Some(GroupPlane { zeros });
            cases.push(Case {
                groups,
                ..case(Dtype::I8, weights_per_symbol, Weights::Integers(4), x)
            });
        }
    }
    cases
}

#[test]
fn every_kernel_multiplies_with_plans_of_large_and_small_devices() {
    let Some(gpu) = device() else { return };
    let mut names = BTreeSet::new();
    for case in every_type() {
        // Whole segments and narrow ones of one panel; edges only; narrow segments of two and of three panels.
        for (rows, cols, m) in [(320, 576, 0), (150, 250, 0), (64, 384, 3), (60, 448, 5)] {
            let recipe = Recipe { rows, cols, ..case.recipe.clone() };
            let case = Case { recipe, stride_x: cols, stride_y: rows, ..case.clone() };
            for m in [8 - m, 16 - m, 32 - m, 64 - m, 128 - m] {
                names.extend(check_plans(gpu, &Case { m, ..case.clone() }));
            }
        }
    }
    let all = fused_rans::ptx(gpu.kernel_set()).split(".visible .entry ").skip(1);
    let all = all.filter_map(|text| text.split('(').next());
    let all: BTreeSet<_> = all.filter(|name| name.starts_with("matmul_")).collect();
    assert!(names == all, "{:?}", names.symmetric_difference(&all));
}

#[test]
fn raw_tiles_lie_beside_coded_ones() {
    let Some(gpu) = device() else { return };
    for dtype in Dtype::ALL {
        // There are raw tiles before, after, above and below coded ones.
        let (rows, cols) = (512, 1024 + 64);
        let recipe = Recipe { weights: Weights::RawTiles, ..Recipe::gaussian(dtype) };
        let case = Case {
            recipe: Recipe { rows, cols, ..recipe },
            ..Case::ordinary(dtype, rows, cols, 8)
        };
        let bytes = case.blob().expect("it shrinks");
        let blob = Blob::parse(&bytes).unwrap();
        let raw = blob.index().iter().filter(|tile| tile.kind == TileKind::Raw as u8).count();
        assert!(raw > 0 && raw < blob.index().len(), "{dtype:?} {raw}");
        for m in [8, 40] {
            check_plans(gpu, &Case { m, ..case.clone() });
        }
        let layer = gpu.upload(&blob).unwrap();
        if !layer.is_resident() {
            compare_fragments(&case, &layer.fragments(case.x).unwrap());
        }
    }
}

/// Multiplies with this device's launch plan, with that of a device with little shared memory, and with two warps per
/// block whose buffers are too small to request words early. Returns the names of the kernels.
fn check_plans(gpu: &Gpu, case: &Case) -> Vec<&'static str> {
    let bytes = case.blob().expect("it shrinks");
    let blob = Blob::parse(&bytes).unwrap();
    let (inputs, numbers) = (case.inputs(), case.weight_numbers());
    let layer = gpu.upload_with(&blob, UploadOptions::new().epilogue(inputs.epilogue())).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let shape = layer.plan_shape();
    let own = layer.plan(case.m).unwrap();
    let shared_memory = if shape.lean { 227 << 10 } else { 99 << 10 };
    let small = plan::Device { multiprocessors: 3, shared_memory };
    let small = LaunchPlan::new(small, shape, case.m).unwrap();
    let buffer_rows = if shape.lean { own.buffer_rows } else { plan::row_capacity(shape) };
    // The wide kernels decode with whole warpgroups.
    let warps = if shape.lean && own.octets > 4 { 4 } else { 2 };
    let scarce = LaunchPlan { blocks: 2, warps, buffer_rows, ..own };
    let plans = [own, small, scarce].into_iter().filter(|plan| plan.is_possible(shape));
    plans
        .map(|plan| {
            let y = multiply_as(plan, &inputs, gpu, &layer, case, &mut workspace);
            let result = case.check(&numbers, &inputs, Accumulator::F32, &y);
            assert_eq!(result, Ok(()), "{case:?} {plan:?}");
            layer.kernel_id(case.x, plan.octets).expect("there is one").name()
        })
        .collect()
}

#[test]
fn quantized_layers_multiply_with_dequantized_weights() {
    let Some(gpu) = device() else { return };
    for QuantizedCase { name, case, blob, weights } in quantized_cases() {
        let blob = Blob::parse(&blob).unwrap();
        for m in [1, 8, 16, 20, 64] {
            let case = Case { m, ..case.clone() };
            let inputs = case.inputs();
            let layer =
                gpu.upload_with(&blob, UploadOptions::new().epilogue(inputs.epilogue())).unwrap();
            let mut workspace = gpu.alloc_workspace(layer.workspace_size(m).unwrap()).unwrap();
            let y = multiply(gpu, &layer, &case, &mut workspace);
            let result = case.check(&weights, &inputs, Accumulator::F32, &y);
            assert_eq!(result, Ok(()), "{name}, {m} rows of x");
        }
        let mut decoded = vec![0; blob.decoded_byte_len()];
        blob.decode(&mut decoded).unwrap();
        assert!(gpu.upload(&blob).unwrap().decode_to_bytes().unwrap() == decoded, "{name}");
    }
}

#[test]
fn operands_that_do_not_fit_are_typed_errors() {
    let Some(gpu) = device() else { return };
    let case = Case::ordinary(Dtype::Bf16, 512, 512, 4);
    let bytes = case.blob().unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    let (x, mut y) = (gpu.alloc(4 * 512 * 2).unwrap(), gpu.alloc(4 * 512 * 4 - 1).unwrap());
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(4).unwrap()).unwrap();
    let error = layer.matmul(
        case.activations(x.as_slice()),
        case.outputs(y.as_mut_slice()),
        &mut workspace,
        &cuda_stream,
    );
    assert!(matches!(error, Err(GpuError::Matmul(MatmulError::TooShort { .. }))), "{error:?}");
    let mut y = gpu.alloc(4 * 512 * 4).unwrap();
    let mut small = gpu.alloc_workspace(Default::default()).unwrap();
    let error = layer.matmul(
        case.activations(x.as_slice()),
        case.outputs(y.as_mut_slice()),
        &mut small,
        &cuda_stream,
    );
    assert!(matches!(error, Err(GpuError::Workspace { .. })), "{error:?}");
    let f16 = Case { x: Float::F16, ..case.clone() };
    let error = layer.matmul(
        f16.activations(x.as_slice()),
        f16.outputs(y.as_mut_slice()),
        &mut workspace,
        &cuda_stream,
    );
    assert!(
        matches!(error, Err(GpuError::Matmul(MatmulError::ActivationType { .. }))),
        "{error:?}"
    );
}

#[test]
fn one_layer_serves_many_cuda_streams() {
    let Some(gpu) = device() else { return };
    let case = Case::ordinary(Dtype::Bf16, 1024, 2048, 8);
    let bytes = case.blob().unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let size = layer.workspace_size(8).unwrap();
                let mut workspace = gpu.alloc_workspace(size).unwrap();
                for _ in 0..8 {
                    let y = multiply(gpu, &layer, &case, &mut workspace);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(y);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert!(results.len() == 32 && results.iter().all(|y| *y == results[0]));
}

#[test]
fn a_recorded_product_gives_the_same_bits() {
    let Some(gpu) = device() else { return };
    let case = Case::ordinary(Dtype::Bf16, 1024, 2048, 20);
    let bytes = case.blob().unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let expected = multiply(gpu, &layer, &case, &mut workspace);
    let (mut x, mut y) =
        (gpu.alloc(case.inputs().x.len()).unwrap(), gpu.alloc(expected.len()).unwrap());
    x.copy_from(&case.inputs().x).unwrap();
    layer.prepare(case.m, case.x).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    let graph = cuda_stream.capture(|cuda_stream| {
        let (x, y) = (case.activations(x.as_slice()), case.outputs(y.as_mut_slice()));
        layer.matmul(x, y, &mut workspace, cuda_stream)
    });
    let mut graph = graph.unwrap();
    for _ in 0..3 {
        y.fill(0xFF).unwrap();
        // SAFETY: layer, workspace and buffers outlive the wait for the CUDA stream.
        unsafe { graph.launch(&cuda_stream) }.unwrap();
        cuda_stream.synchronize().unwrap();
        assert!(y.to_vec().unwrap() == expected);
    }
}

#[test]
fn operands_of_other_libraries_are_taken_by_address() {
    let Some(gpu) = device() else { return };
    let case = Case::ordinary(Dtype::F16, 512, 768, 3);
    let bytes = case.blob().unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(case.m).unwrap()).unwrap();
    let expected = multiply(gpu, &layer, &case, &mut workspace);
    let mut x = gpu.alloc(case.inputs().x.len()).unwrap();
    x.copy_from(&case.inputs().x).unwrap();
    let y = gpu.alloc(expected.len()).unwrap();
    let own = gpu.create_stream().unwrap();
    // SAFETY: `own` lives until the end of the test, and null is the legacy default stream.
    let streams =
        unsafe { [own.as_raw(), std::ptr::null_mut()].map(|raw| CudaStream::from_raw(gpu, raw)) };
    for cuda_stream in streams {
        // SAFETY: the buffers outlive the wait for the CUDA stream, and nothing else uses y.
        let (data, out) = unsafe {
            (
                DeviceSlice::from_raw(x.address(), x.len()),
                DeviceSliceMut::from_raw(y.address(), y.len()),
            )
        };
        let (x, y_slice) = (case.activations(data), case.outputs(out));
        layer.matmul(x, y_slice, &mut workspace, &cuda_stream).unwrap();
        cuda_stream.synchronize().unwrap();
        assert!(y.to_vec().unwrap() == expected);
    }
    let host = vec![0u8; 4096];
    // SAFETY: this is not device memory, but the library checks the address before it uses it, which this tests.
    let data = unsafe { DeviceSlice::from_raw(host.as_ptr().addr() as u64 & !1, host.len()) };
    let mut y = gpu.alloc(expected.len()).unwrap();
    let (x, y) = (Case { m: 1, ..case.clone() }.activations(data), case.outputs(y.as_mut_slice()));
    let error = layer.matmul(x, y, &mut workspace, &own).expect_err("host memory");
    assert!(matches!(error, GpuError::OtherDevice { what: "the activations", .. }), "{error}");
}
