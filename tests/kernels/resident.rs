//! Runs the matmul kernels for resident layers on the CPU, with resident layers as an upload makes them. The warps of every block take
//! the steps of `kernels-gpu/src/device/matmul/{lean,wide}` in the same order, and with the same functions where these are
//! portable. These files replace only what takes device instructions: copies, barriers, shared memory, `mma.sync`.
//!
//! So a layer that these tests accept can be wrong on a GPU only by the device's own code, and where a GPU's outputs
//! are wrong, they tell whether the layer is.
//!
//! - [`slab`]: words, raw planes and plain weights, from the layer to MMA operands.
//! - [`activations`]: stages of x.
//! - [`matmul`]: runs of slabs, sums of several blocks, outputs; [`exceptions`]: what they add to the sums.
//! - [`wide`]: the wide kernels.

mod activations;
mod exceptions;
mod matmul;
mod slab;
mod wide;

use crate::lanes::{Operands, mma_types, number, tables};
use activations::Activations;
use fused_rans::launch_plan::{Device, LaunchPlan, LayerShape};
use fused_rans::layout::{
    LeanPartition, MAX_LEAN_OCTETS, PANEL_FRAGMENTS, PANEL_STEPS, Place, SLAB_ROWS, SLAB_STRIPS,
    SlabShape, TILE, WARPGROUP, WIDE_ROWS,
};
use fused_rans::resident::{ResidentLayer, ResidentPlan};
use fused_rans::{Blob, Dtype, Encoder, Float, Matrix};
use fused_rans_kernels::MmaType;
use half::{bf16, f16};
use matmul::Matmul;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use slab::{Layer, Slab};
use support::product::{Accumulator, Case, Inputs, Values, any_case, weight_numbers};
use support::quantized::{QuantizedCase, large_integers};
use support::resident::bounds_of_resident;
use support::{Recipe, Weights};
use wide::Wide;

/// The device whose launch plans are tried: an H200.
const DEVICE: Device = Device { multiprocessors: 132, shared_memory: 227 << 10 };

fn build(blob: &Blob<'_>) -> ResidentLayer {
    ResidentPlan::new(blob).unwrap().build().unwrap()
}

/// Returns launches: by the launch plan, and at random one of a lean and one of a wide kernel.
fn launches(case: &Case, blob: &Blob<'_>) -> Vec<(LaunchPlan, LeanPartition)> {
    let shape = LayerShape::of_resident(&ResidentPlan::new(blob).unwrap());
    let own = LaunchPlan::new(DEVICE, shape, case.m).expect("every layer fits an H200");
    let mut rng = SmallRng::seed_from_u64(case.seed);
    let slab_rows = blob.rows().div_ceil(SLAB_ROWS) as u32;
    let warps = rng.random_range(1..=slab_rows.min(16));
    // Every block has a column of a row block at least.
    let most = slab_rows * blob.grid().across() as u32 / warps;
    let blocks = rng.random_range(1..=most.min(9));
    let lean = LaunchPlan { octets: 1 << rng.random_range(0..3), blocks, warps, ..own };
    let units = blob.rows().div_ceil(WIDE_ROWS) * blob.grid().across();
    let octets = if blob.has_groups() || rng.random() { 8 } else { 16 };
    let (blocks, warps) =
        (rng.random_range(1..=units.min(9)) as u32, WARPGROUP * rng.random_range(1..=4));
    let wide = LaunchPlan { octets, blocks, warps, ..own };
    let partition = |plan: LaunchPlan| plan.lean_partition(shape).expect("a possible plan");
    [own, lean, wide].map(|plan| (plan, partition(plan))).to_vec()
}

/// Multiplies as a kernel does, 8 rows of x for each of its octets at a time. Returns the buffer of y.
fn multiply(
    case: &Case,
    layer: Layer<'_>,
    (plan, partition): (LaunchPlan, LeanPartition),
    inputs: &Inputs,
) -> Vec<u8> {
    let epilogue = inputs.epilogue();
    let more = |n: usize| epilogue.scale.map_or(1.0, |scale| scale[n]);
    let row_scales = layer.blob.row_scales();
    let row_scales = row_scales.map(|scales| scales.iter().enumerate());
    let row_scales: Option<Vec<f32>> =
        row_scales.map(|scales| scales.map(|(n, scale)| scale.to_f32() * more(n)).collect());
    let x = inputs.x[case.offset_x..].as_chunks().0;
    let x: Vec<u16> = x.iter().map(|&bits| u16::from_le_bytes(bits)).collect();
    let (mut y, octets, blocks) = (case.output_buffer(), plan.octets as usize, plan.blocks);
    for first in (0..case.m).step_by(8 * octets) {
        let x = Activations {
            bits: &x[first * case.stride_x..],
            rows: (case.m - first).min(8 * octets),
            cols: layer.blob.cols(),
            row_stride: case.stride_x,
            is_aligned: case.seed.is_multiple_of(2),
        };
        let (scale, bias) = (row_scales.as_deref().or(epilogue.scale), epilogue.bias);
        let store = |m, n, output| {
            let at = (first + m) * case.stride_y + n;
            let bytes = case.y.byte_len();
            y[case.offset_y + at * bytes..][..bytes].copy_from_slice(&rounded(case.y, output));
        };
        if octets <= MAX_LEAN_OCTETS {
            Matmul { layer, partition, blocks, octets, x, scale, bias }.run(store);
        } else {
            let groups = plan.warps / WARPGROUP;
            Wide { layer, partition, blocks, groups, octets, x, scale, bias }.run(store);
        }
    }
    y
}

/// Returns the bytes of an output, rounded to its type.
fn rounded(dtype: Float, output: f32) -> Vec<u8> {
    match dtype {
        Float::Bf16 => bf16::from_f32(output).to_le_bytes().to_vec(),
        Float::F16 => f16::from_f32(output).to_le_bytes().to_vec(),
        _ => output.to_le_bytes().to_vec(),
    }
}

/// Multiplies with every table, and checks the outputs against the products of `weights` in F64, with errors that
/// `bounds` bound.
fn check_products(
    case: &Case,
    blob: &Blob<'_>,
    inputs: &Inputs,
    (weights, bounds): (&[f64], &[f64]),
) -> Result<(), String> {
    let resident = &build(blob);
    let mma_type = if case.x == Float::F16 { MmaType::F16 } else { MmaType::Bf16 };
    for launch in launches(case, blob) {
        let mut products = tables(blob).into_iter().map(|(format, table)| {
            let layer = Layer { blob, resident, table: &table, format, mma_type };
            multiply(case, layer, launch, inputs)
        });
        let y = products.next().expect("there is a table");
        let result = case.check_bounded(weights, bounds, inputs, Accumulator::F32, &y);
        result.map_err(|why| format!("{launch:?}: {why}"))?;
        if products.any(|other| other != y) {
            return Err(format!("{launch:?}: another table, another product"));
        }
    }
    Ok(())
}

/// Multiplies with the weights of a case. Returns `None` if they do not shrink.
fn check(case: &Case) -> Option<Result<(), String>> {
    let bytes = case.blob()?;
    let (blob, weights) = (Blob::parse(&bytes).unwrap(), case.weight_numbers());
    let mut inputs = case.inputs();
    let bounds = bounds_of_resident(case, &blob, &weights, &mut inputs);
    Some(check_products(case, &blob, &inputs, (&weights, &bounds)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn products_are_as_exact_as_f32_sums(case in any_case()) {
        let result = check(&case);
        prop_assume!(result.is_some());
        prop_assert_eq!(result, Some(Ok(())));
    }
}

#[test]
fn plain_slabs_lie_beside_coded_ones() {
    for dtype in Dtype::ALL {
        for (rows, cols) in [(512, 1024 + 64), (300, 700)] {
            let recipe = Recipe { weights: Weights::RawTiles, ..Recipe::gaussian(dtype) };
            let recipe = Recipe { rows, cols, ..recipe };
            let case = Case { recipe, ..Case::ordinary(dtype, rows, cols, 9) };
            let bytes = case.blob().expect("it shrinks");
            let blob = Blob::parse(&bytes).unwrap();
            let plain = build(&blob).index.iter().filter(|entry| entry.rows == 0).count();
            assert!(plain > 0 && plain < blob.index().len() * 8, "{dtype:?} {plain}");
            assert_eq!(check(&case), Some(Ok(())), "{case:?}");
            check_weights(&blob);
        }
    }
}

#[test]
fn exceptions_of_all_columns_count() {
    // Exceptions among integers are large enough to show in a sum, and not so large that nothing else does.
    let case = Case::ordinary(Dtype::I8, 60, 67_000, 2);
    let recipe = Recipe { weights: Weights::Integers(4), ..case.recipe };
    let case = Case { recipe, ..case };
    assert_eq!(check(&case), Some(Ok(())), "{case:?}");
    let bytes = case.blob().expect("it shrinks");
    let blob = Blob::parse(&bytes).unwrap();
    let layer = build(&blob);
    let columns: Vec<_> = layer.placed_exceptions(blob.grid()).map(|(_, col, _)| col).collect();
    assert!(columns.iter().any(|&col| col < 1 << 15) && columns.iter().any(|&col| col >> 16 > 0));
    check_weights(&blob);
}

#[test]
fn slabs_with_many_exceptions_count() {
    // So many in a slab that they do not come with its words; in others, the buffers are longer than the words. Columns of
    // whole tiles, of an odd step at the edge, and of one that is not whole.
    for ((one_of, copied), cols) in
        [((41, false), 512), ((121, true), 512), ((41, false), 560), ((121, true), 563)]
    {
        let case = Case::ordinary(Dtype::Bf16, 320, cols, 3);
        let mut weights = case.weights();
        for (at, weight) in weights.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            if at % one_of == 0 {
                *weight = (5u16 << 7 | at as u16 & 0x807F).to_le_bytes();
            }
        }
        let matrix = Matrix::from_bytes(Dtype::Bf16, &weights, 320, cols).unwrap();
        let blob = Encoder::new().encode(matrix).unwrap();
        let (layer, across) = (build(&blob), blob.grid().across());
        for (number, entry) in layer.index.iter().enumerate() {
            assert!(entry.rows > 0 && entry.exceptions > 5);
            let is_copied = entry.copied_units() == entry.front_units();
            assert!(is_copied == copied || number % across == 2, "{entry:?}");
        }
        let numbers = weight_numbers(Dtype::Bf16, &weights);
        let mut inputs = case.inputs();
        let bounds = bounds_of_resident(&case, &blob, &numbers, &mut inputs);
        assert_eq!(check_products(&case, &blob, &inputs, (&numbers, &bounds)), Ok(()));
        check_weights(&blob);
    }
}

#[test]
fn infinite_activations_meet_exceptions() {
    let case = Case::ordinary(Dtype::Bf16, 128, 1000, 64);
    let recipe = Recipe { weights: Weights::Dirty, ..case.recipe };
    let case = Case { recipe, values: Values::NonFinite, ..case };
    assert_eq!(check(&case), Some(Ok(())), "{case:?}");
}

#[test]
fn windows_with_infinities_harm_nothing() {
    // Exponent fields up to 255, which is the commonest, and others of the weights that have any bits.
    let (rows, cols) = (320, 640);
    let weights = Weights::Dirty.bytes(Dtype::Bf16, rows * cols, 4);
    let weights = weights.as_chunks().0.iter().map(|&bits| u16::from_le_bytes(bits));
    let raised = weights.map(|bits| match bits >> 7 & 0xFF {
        field @ 100..=125 => bits & 0x807F | (field + 135).min(255) << 7,
        _ => bits,
    });
    let weights: Vec<u8> = raised.flat_map(u16::to_le_bytes).collect();
    let matrix = Matrix::from_bytes(Dtype::Bf16, &weights, rows, cols).unwrap();
    let blob = Encoder::new().encode(matrix).unwrap();
    let split = blob.split();
    assert_eq!(split.base(), 240, "{split:?}");
    assert!(blob.exception_count() > 1000);
    check_weights(&blob);
}

#[test]
fn large_integers_count_with_both_bytes() {
    for QuantizedCase { name, case, blob, weights } in large_integers() {
        let (case, blob) = (Case { m: 9, ..case }, Blob::parse(&blob).unwrap());
        assert_eq!(
            check_products(&case, &blob, &case.inputs(), (&weights, &weights)),
            Ok(()),
            "{name}"
        );
        check_weights(&blob);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_warp_decodes_every_weight(case in any_case()) {
        let bytes = case.blob();
        prop_assume!(bytes.is_some());
        check_weights(&Blob::parse(&bytes.expect("assumed")).unwrap());
    }
}

/// Decodes all slabs with every table and for every type of operands, and compares each operand with its weight.
fn check_weights(blob: &Blob<'_>) {
    let (expected, resident) = (Expected::new(blob), &build(blob));
    let across = blob.grid().across();
    for &mma_type in mma_types(blob.dtype()) {
        for (format, table) in tables(blob) {
            let layer = Layer { blob, resident, table: &table, format, mma_type };
            for number in 0..resident.index.len() {
                let (row, col) = (number / across, number % across);
                check_slab(
                    layer.slab(row, col),
                    &expected,
                    (SLAB_ROWS * row, TILE * col),
                    mma_type,
                );
            }
        }
    }
}

/// Compares the operands of a slab, whose first weight has the place `first`, with its weights.
fn check_slab(mut slab: Slab<'_>, expected: &Expected, first: (usize, usize), mma_type: MmaType) {
    let steps = (expected.cols - first.1).min(TILE).div_ceil(16);
    let shape = SlabShape { strips: SLAB_STRIPS, steps };
    for panel in 0..slab.panels {
        // A group has two panels.
        let operands: [Operands; PANEL_FRAGMENTS] = slab.panel(panel, &slab.group(panel / 2));
        for (fragment, operands) in operands.iter().enumerate() {
            let fragment = panel * PANEL_STEPS * SLAB_STRIPS + fragment;
            for (at, &operand) in operands.as_flattened().iter().enumerate() {
                for half in 0..2 {
                    let place = Place { fragment, lane: at / 4, register: at % 4, half };
                    let (row, col) = shape.position(place);
                    let bits = operand >> (16 * half);
                    let is_plain = slab.is_plain();
                    expected.check((first.0 + row, first.1 + col), bits, mma_type, is_plain);
                }
            }
        }
    }
}

/// What the operands of a layer should be.
struct Expected {
    dtype: Dtype,
    rows: usize,
    cols: usize,
    /// Weights less their zero points, row-major.
    weights: Vec<f64>,
    /// For each weight, what an exception adds to it, if there is one.
    differences: Vec<Option<f32>>,
}

impl Expected {
    fn new(blob: &Blob<'_>) -> Self {
        let (dtype, rows, cols) = (blob.dtype(), blob.rows(), blob.cols());
        let mut weights = weight_numbers(dtype, &blob.decode_to_bytes().unwrap());
        for large in blob.large_integers().unwrap() {
            weights[large.row * cols + large.col] = large.integer.into();
        }
        if let Some(zeros) = blob.group_zeros().unwrap() {
            for (at, weight) in weights.iter_mut().enumerate() {
                *weight -= f64::from(zeros[at / cols * cols.div_ceil(128) + at % cols / 128]);
            }
        }
        let mut differences = vec![None; weights.len()];
        for (row, col, exception) in build(blob).placed_exceptions(blob.grid()) {
            differences[row * cols + col] = Some(f32::from_bits(exception.difference));
        }
        Self { dtype, rows, cols, weights, differences }
    }

    /// Checks the operand at a place of the matrix, or beyond it.
    fn check(&self, (row, col): (usize, usize), bits: u32, mma_type: MmaType, is_plain: bool) {
        let found = number(mma_type, bits);
        if row >= self.rows || col >= self.cols {
            // Columns beyond the last are multiplied by 0, rows are left out.
            assert!(found.is_finite() || col < self.cols, "[{row}][{col}] is {found}");
            return;
        }
        let weight = self.weights[row * self.cols + col];
        let message = || format!("[{row}][{col}] is {found:e}, not {weight:e}, plain: {is_plain}");
        match self.differences[row * self.cols + col] {
            Some(difference) if weight.is_finite() => {
                assert!(found.is_finite(), "{}", message());
                let error = (found + f64::from(difference) - weight).abs();
                assert!(error <= (weight - found).abs() * 2f64.powi(-24), "{}", message());
            }
            Some(difference) => assert!(found.is_finite() && !difference.is_finite()),
            // Signs of zeros count, but integers have one zero.
            None if self.dtype == Dtype::I8 => assert!(found == weight, "{}", message()),
            None if weight.is_nan() => assert!(found.is_nan(), "{}", message()),
            None => assert!(found.to_bits() == weight.to_bits(), "{}", message()),
        }
    }
}
