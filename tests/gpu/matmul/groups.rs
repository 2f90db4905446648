//! Groups of layers that share activations.

use super::repeats::{repeats, while_occupied};
use fused_rans::gpu::{DeviceBuffer, Gpu, GpuError, Layer, LayerGroup, UploadOptions, Workspace};
use fused_rans::{Blob, Dtype, Float, MatmulError};
use support::device;
use support::product::{Accumulator, Case};

/// Layers with the same activations: a case for each.
struct Shared {
    cases: Vec<Case>,
    layers: Vec<Layer>,
}

impl Shared {
    fn new(gpu: &Gpu, dtype: Dtype, rows: &[usize], cols: usize, m: usize) -> Self {
        let cases: Vec<Case> =
            rows.iter().map(|&rows| Case::ordinary(dtype, rows, cols, m)).collect();
        let layers = cases.iter().map(|case| {
            let (bytes, inputs) = (case.blob().expect("it shrinks"), case.inputs());
            let options = UploadOptions::new().epilogue(inputs.epilogue());
            gpu.upload_with(&Blob::parse(&bytes).unwrap(), options).unwrap()
        });
        let layers = layers.collect();
        Self { cases, layers }
    }

    fn group(&self) -> LayerGroup<&Layer> {
        LayerGroup::new(self.layers.iter().collect()).unwrap()
    }

    fn x(&self, gpu: &Gpu) -> DeviceBuffer {
        let inputs: Vec<Vec<u8>> = self.cases.iter().map(|case| case.inputs().x).collect();
        assert!(inputs.iter().all(|x| *x == inputs[0]), "the same activations for all layers");
        let mut x = gpu.alloc(inputs[0].len()).unwrap();
        x.copy_from(&inputs[0]).unwrap();
        x
    }

    fn outputs(&self, gpu: &Gpu) -> Vec<DeviceBuffer> {
        let buffers = self.cases.iter().map(|case| {
            let bytes = case.output_buffer();
            let mut y = gpu.alloc(bytes.len()).unwrap();
            y.copy_from(&bytes).unwrap();
            y
        });
        buffers.collect()
    }
}

/// Rows of the layers of groups, and their columns.
const SHAPES: [(&[usize], usize); 4] =
    [(&[2048, 512, 512], 2048), (&[600, 96, 257], 700), (&[300], 512), (&[4096, 128], 300)];

/// Rows of x.
const BATCHES: [usize; 4] = [1, 8, 13, 40];

#[test]
fn all_layers_of_groups_shrink() {
    for (dtype, (rows, cols)) in Dtype::ALL.into_iter().flat_map(|d| SHAPES.map(|s| (d, s))) {
        for (&rows, m) in rows.iter().flat_map(|rows| BATCHES.map(|m| (rows, m))) {
            let case = Case::ordinary(dtype, rows, cols, m);
            assert!(case.blob().is_some(), "{dtype:?} {rows} x {cols}");
        }
    }
}

#[test]
fn groups_multiply_as_their_layers_do() {
    let Some(gpu) = device() else { return };
    for dtype in Dtype::ALL {
        for (rows, cols) in SHAPES {
            for m in BATCHES {
                let shared = Shared::new(gpu, dtype, rows, cols, m);
                let (group, x, mut outputs) = (shared.group(), shared.x(gpu), shared.outputs(gpu));
                let mut workspace = gpu.alloc_workspace(group.workspace_size(m).unwrap()).unwrap();
                let cuda_stream = gpu.create_stream().unwrap();
                let activations = shared.cases[0].activations(x.as_slice());
                let y = shared
                    .cases
                    .iter()
                    .zip(&mut outputs)
                    .map(|(case, y)| case.outputs(y.as_mut_slice()));
                group.matmul(activations, y.collect(), &mut workspace, &cuda_stream).unwrap();
                cuda_stream.synchronize().unwrap();
                for (case, y) in shared.cases.iter().zip(&outputs) {
                    let (weights, inputs) = (case.weight_numbers(), case.inputs());
                    let result =
                        case.check(&weights, &inputs, Accumulator::F32, &y.to_vec().unwrap());
                    assert_eq!(result, Ok(()), "{case:?}");
                }
            }
        }
    }
}

/// A product whose outputs a group takes, and a product that takes the outputs of the group's first layer.
struct Chain {
    before: Shared,
    group: Shared,
    after: Shared,
}

impl Chain {
    /// Queues all products, and waits after each if `one_by_one`. Returns all outputs.
    fn run(&self, gpu: &Gpu, workspace: &mut Workspace, one_by_one: bool) -> Vec<Vec<u8>> {
        let cuda_stream = gpu.create_stream().unwrap();
        let (x, mut buffers) = (self.before.x(gpu), Vec::new());
        for shared in [&self.before, &self.group, &self.after] {
            let mut outputs = shared.outputs(gpu);
            let x = buffers.first().unwrap_or(&x);
            let y = shared
                .cases
                .iter()
                .zip(&mut outputs)
                .map(|(case, y)| case.outputs(y.as_mut_slice()));
            let x = shared.cases[0].activations(x.as_slice());
            shared.group().matmul(x, y.collect(), workspace, &cuda_stream).unwrap();
            buffers.splice(0..0, outputs);
            if one_by_one {
                cuda_stream.synchronize().unwrap();
            }
        }
        cuda_stream.synchronize().unwrap();
        buffers.iter().map(|y| y.to_vec().unwrap()).collect()
    }
}

#[test]
fn products_before_and_after_a_group_wait_for_each_other() {
    let Some(gpu) = device() else { return };
    while_occupied(gpu, || {
        for (first, m) in [(4096, 8), (256, 1), (8192, 16)] {
            let shared = |rows: &[usize], cols| {
                let mut shared = Shared::new(gpu, Dtype::Bf16, rows, cols, m);
                shared.cases.iter_mut().for_each(|case| case.y = Float::Bf16);
                shared
            };
            let chain = Chain {
                before: shared(&[2048], 1024),
                group: shared(&[first, 64, 512], 2048),
                after: shared(&[512], first),
            };
            let groups = [&chain.before, &chain.group, &chain.after].map(Shared::group);
            let sizes = groups.iter().map(|group| group.workspace_size(m).unwrap());
            let size = sizes.reduce(|a, b| a.union(b)).expect("three");
            let mut workspace = gpu.alloc_workspace(size).unwrap();
            let expected = chain.run(gpu, &mut workspace, true);
            for turn in 0..5 * repeats() {
                let found = chain.run(gpu, &mut workspace, false);
                assert!(found == expected, "{first} x 2048, M = {m}, turn {turn}");
            }
        }
    });
}

#[test]
fn groups_of_what_does_not_fit_are_typed_errors() {
    let Some(gpu) = device() else { return };
    let shared = |rows, cols| Shared::new(gpu, Dtype::Bf16, &[rows], cols, 1);
    let [a, b] = [shared(64, 512), shared(64, 768)];
    let error = LayerGroup::new(vec![&a.layers[0], &b.layers[0]]).expect_err("other columns");
    let expected = MatmulError::SharedActivations { expected: 512, found: 768 };
    assert!(matches!(&error, GpuError::Matmul(found) if *found == expected), "{error}");
    let (group, x) = (a.group(), a.x(gpu));
    let mut workspace = gpu.alloc_workspace(group.workspace_size(1).unwrap()).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    let x = a.cases[0].activations(x.as_slice());
    let error = group.matmul(x, vec![], &mut workspace, &cuda_stream).expect_err("no outputs");
    let expected = MatmulError::OutputCount { expected: 1, found: 0 };
    assert!(matches!(&error, GpuError::Matmul(found) if *found == expected), "{error}");
    assert!(LayerGroup::<&Layer>::new(vec![]).unwrap().layers().is_empty());
}
