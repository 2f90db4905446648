//! Runs the kernels on changed blobs with correct checksums. Contents that nothing has checked may give any numbers, but
//! the kernels must write to the outputs only. Skipped if there is no GPU.
//!
//! `FUSED_RANS_MUTANTS=10000 cargo test --release --features cuda --test gpu_mutants -- --nocapture` tests 10,000 of them.
#![cfg(feature = "cuda")]

use fused_rans::gpu::{
    Check, CudaStream, DeviceBuffer, DeviceSliceMut, Gpu, GpuError, Layer, UploadOptions,
};
use fused_rans::launch_plan::{LaunchPlan, row_capacity};
use fused_rans::{
    Activations, Blob, BlobError, Dtype, Float, Outputs, TileFault, WeightsPerSymbol,
};
use std::time::Instant;
use support::product::activation_type;
use support::victim::victims;
use support::{AnyGroups, AnyLargeIntegers, Recipe, Weights, device};
use support::{mutate, seal};

/// Bytes of the guards before and after every output, which must not change.
const GUARD: usize = 4096;
const UNTOUCHED: u8 = 0x5A;

/// Numbers of mutants by outcome.
#[derive(Debug, Default)]
struct Tally {
    /// Refused because of their structure.
    refused: usize,
    /// Valid: the GPU and the CPU decoded the same weights.
    in_order: usize,
    /// Invalid: the kernels decoded some weights.
    forged: usize,
    /// Multiplied by a matrix x.
    products: usize,
}

fn mutants() -> u64 {
    std::env::var("FUSED_RANS_MUTANTS").map_or(1000, |count| count.parse().expect("a number"))
}

/// Lets `work` write to `bytes` bytes between two guards. Returns these bytes. Checks the guards.
fn guarded(
    gpu: &Gpu,
    bytes: usize,
    work: impl FnOnce(DeviceSliceMut<'_>, &CudaStream) -> Result<(), GpuError>,
) -> Result<Vec<u8>, GpuError> {
    let mut all = vec![UNTOUCHED; bytes + 2 * GUARD];
    let mut buffer: DeviceBuffer = gpu.alloc(all.len())?;
    buffer.copy_from(&all).unwrap();
    let cuda_stream = gpu.create_stream()?;
    work(buffer.slice_mut(GUARD..GUARD + bytes), &cuda_stream)?;
    // This reports a fault of a kernel.
    gpu.synchronize().expect("no kernel runs into anything");
    buffer.copy_to(&mut all).unwrap();
    let (before, after) = (&all[..GUARD], &all[GUARD + bytes..]);
    assert!([before, after].concat().iter().all(|&b| b == UNTOUCHED), "a guard was written to");
    Ok(all[GUARD..GUARD + bytes].to_vec())
}

fn decode(gpu: &Gpu, layer: &Layer) -> Result<Vec<u8>, GpuError> {
    guarded(gpu, layer.decoded_byte_len(), |out, cuda_stream| layer.decode(out, cuda_stream))
}

/// Multiplies with `m` rows of x, with the layer's own launch plan. If `alone` is set, uses one warp, which computes all
/// segments one after another, with a buffer of that many rows of words.
fn multiply(gpu: &Gpu, layer: &Layer, m: usize, alone: Option<u32>) -> Result<Vec<u8>, GpuError> {
    let dtype = activation_type(layer.dtype(), false);
    let (rows, cols) = (layer.rows(), layer.cols());
    let mut x = gpu.alloc(2 * m * cols)?;
    x.fill(0x3C).unwrap();
    let mut workspace = gpu.alloc_workspace(layer.workspace_size(m)?)?;
    let bytes = 4 * m * rows;
    guarded(gpu, bytes, |out, cuda_stream| {
        let Some(buffer_rows) = alone else {
            let x = Activations { data: x.as_slice(), dtype, rows: m, row_stride: cols };
            let y = Outputs { data: out, dtype: Float::F32, row_stride: rows };
            return layer.matmul(x, y, &mut workspace, cuda_stream);
        };
        let plan = LaunchPlan { blocks: 1, warps: 1, buffer_rows, ..layer.plan(m)? };
        let x = Activations { data: x.address(), dtype, rows: m, row_stride: cols };
        let y = Outputs { data: out.address(), dtype: Float::F32, row_stride: rows };
        // SAFETY: the buffers are as large as the arguments say, and outlive the wait for the device.
        unsafe { layer.matmul_planned(plan, x, y, &mut workspace, cuda_stream) }
    })
}

/// Returns the golden blobs, and larger ones: of each type and number of weights per symbol, with groups, with large
/// integers, with exceptions.
fn blobs() -> Vec<Vec<u8>> {
    let mut blobs: Vec<Vec<u8>> = victims().iter().map(|victim| victim.bytes.clone()).collect();
    for (rows, cols) in [(512, 768), (288, 640)] {
        let of = |dtype, weights| Recipe { rows, cols, weights, ..Recipe::gaussian(dtype) };
        for weights in [Weights::Gaussian, Weights::Dirty] {
            let recipes = Dtype::ALL.map(|dtype| of(dtype, weights));
            let quads =
                Recipe { weights_per_symbol: WeightsPerSymbol::Four, ..of(Dtype::I8, weights) };
            let all = recipes.into_iter().chain([quads]);
            blobs.extend(all.filter_map(|recipe| recipe.job(&recipe.bytes()).encode()));
        }
        let integers = of(Dtype::I8, Weights::Gaussian);
        for weights_per_symbol in WeightsPerSymbol::ALL {
            let recipe = Recipe { weights_per_symbol, ..integers.clone() };
            let groups = AnyGroups::with_normal_scales(
                rows,
                cols,
                weights_per_symbol == WeightsPerSymbol::Four,
                5,
            );
            let nibbles = recipe.nibbles();
            blobs.extend(recipe.job(&nibbles).with_groups(groups.groups()).encode());
        }
        blobs.extend(AnyLargeIntegers::new(&integers, 300).job().encode());
    }
    blobs
}

/// Runs the kernels on a blob whose checksums are correct.
fn run(gpu: &Gpu, bytes: &[u8], tally: &mut Tally) -> Result<(), GpuError> {
    let blob = Blob::parse(bytes)?;
    let layer = gpu.upload_with(&blob, UploadOptions::new().check(Check::OnDevice))?;
    let mut expected = vec![0; blob.decoded_byte_len()];
    let found = decode(gpu, &layer)?;
    match blob.decode(&mut expected) {
        // The kernels do not check the checksum of the weights.
        Ok(()) | Err(BlobError::WeightsChecksum) => {
            assert!(found == expected, "CPU and GPU decode other weights");
            tally.in_order += 1;
        }
        Err(error) => {
            // Only decoding finds a fault of a stream.
            let shows = matches!(error, BlobError::Tile { fault: TileFault::Stream, .. });
            assert!(shows || gpu.upload(&blob).is_err(), "{error}");
            tally.forged += 1;
        }
    }
    for m in [1, 9, 20, 64] {
        for alone in [None, Some(row_capacity(layer.plan_shape()))] {
            multiply(gpu, &layer, m, alone)?;
            tally.products += 1;
        }
    }
    layer.verify()
}

#[test]
fn mutants_do_no_harm() {
    let Some(gpu) = device() else { return };
    let (mut tally, start, blobs) = (Tally::default(), Instant::now(), blobs());
    assert!(blobs.len() > victims().len() + 20, "they shrink");
    for seed in 0..mutants() {
        let number = seed as usize % blobs.len();
        let mut mutant = mutate::mutate(&blobs[number], seed);
        seal::reseal(&mut mutant);
        match run(gpu, &mutant, &mut tally) {
            Ok(()) => {}
            Err(GpuError::Blob(_)) => tally.refused += 1,
            Err(error) => panic!("blob {number}, seed {seed}: {error}"),
        }
        if seed % 500 == 0 {
            let blob = Blob::parse(&blobs[number]).unwrap();
            gpu.upload(&blob).unwrap().decode_to_bytes().expect("as before the mutants");
        }
    }
    println!("{tally:?} in {:.1?}", start.elapsed());
    assert!(tally.in_order > 0 && tally.forged > 0 && tally.refused > 0);
}
