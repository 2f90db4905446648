//! Multiplication with several layers that share the activations.

use super::launch::Place;
use super::launches::{Launch, ROW_CLASSES};
use super::{Activations, Outputs, Workspace, WorkspaceSize};
use crate::gpu::layer::Form;
use crate::gpu::{CudaStream, DeviceSlice, DeviceSliceMut, GpuError, Layer};
use crate::launch_plan::{Device, LaunchPlan};
use crate::matmul::MatmulError;
use fused_rans_layout::MatmulFlags;
use std::borrow::Borrow;

/// Classes of rows of x for which the layers of a group are multiplied side by side.
const CLASSES: usize = 3;

/// Layers with the same number of columns that are multiplied with the same activations: `y_i = x W_i^T`, such as the
/// projections to queries, keys and values.
///
/// On devices of compute capability 9.0, products of up to 32 rows of x run side by side: each layer has a part of the
/// multiprocessors, by its size. So small layers do not leave most of the device idle, and all of them share one start
/// and one end. In other cases the products follow each other.
#[derive(Debug)]
pub struct LayerGroup<L> {
    layers: Vec<L>,
    /// The launches of each layer beside the others, by class of rows; `None` if these are not possible.
    launches: [Option<Vec<Launch>>; CLASSES],
}

impl<L: Borrow<Layer>> LayerGroup<L> {
    /// Makes a group of layers.
    ///
    /// # Errors
    /// [`MatmulError::SharedActivations`] if the layers have different numbers of columns, [`GpuError::OtherDevice`] if
    /// they are on different devices.
    pub fn new(layers: Vec<L>) -> Result<Self, GpuError> {
        if let Some((first, others)) = layers.split_first() {
            let first: &Layer = first.borrow();
            for other in others.iter().map(Borrow::<Layer>::borrow) {
                let (expected, found) = (first.cols(), other.cols());
                if found != expected {
                    return Err(MatmulError::SharedActivations { expected, found }.into());
                }
                let expected = first.gpu().ordinal();
                if other.gpu().ordinal() != expected {
                    return Err(GpuError::OtherDevice { what: "a layer of the group", expected });
                }
            }
        }
        let launches = std::array::from_fn(|class| {
            let layers: Vec<&Layer> = layers.iter().map(Borrow::borrow).collect();
            side_by_side(&layers, ROW_CLASSES[class])
        });
        Ok(Self { layers, launches })
    }

    /// Returns the layers, in the order in which they were given.
    #[must_use]
    pub fn layers(&self) -> &[L] {
        &self.layers
    }

    /// Returns the size of a workspace for multiplications with up to `rows` rows of x.
    ///
    /// # Errors
    /// See [`Layer::workspace_size`].
    pub fn workspace_size(&self, rows: usize) -> Result<WorkspaceSize, GpuError> {
        let one_by_one = self.layers.iter().try_fold(WorkspaceSize::default(), |size, layer| {
            Ok::<_, GpuError>(size.union(layer.borrow().workspace_size(rows)?))
        })?;
        let groups = self.launches.iter().flatten();
        let side_by_side = groups.map(|launches| {
            launches
                .iter()
                .fold(WorkspaceSize::default(), |size, launch| size.beside(launch.workspace))
        });
        Ok(side_by_side.fold(one_by_one, WorkspaceSize::union))
    }

    /// Loads the kernels for multiplications with up to `rows` rows of x of type `activations`, and waits for the layers'
    /// uploads. See [`Layer::prepare`].
    ///
    /// # Errors
    /// See [`Layer::prepare`].
    pub fn prepare(&self, rows: usize, activations: crate::Float) -> Result<(), GpuError> {
        self.layers.iter().try_for_each(|layer| layer.borrow().prepare(rows, activations))
    }

    /// Queues `y_i = x W_i^T` for every layer on a CUDA stream, and returns. `outputs` has one element for each layer.
    /// See [`Layer::matmul`] for everything else. Sums may be added in another order than by [`Layer::matmul`], so that
    /// outputs differ in their last bits; they are the same in every run.
    ///
    /// # Errors
    /// [`MatmulError::OutputCount`] if there is not one output for each layer; see [`Layer::matmul`] for others. If one
    /// product does not fit, none is queued.
    pub fn matmul(
        &self,
        x: Activations<DeviceSlice<'_>>,
        outputs: Vec<Outputs<DeviceSliceMut<'_>>>,
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.check_count(outputs.len())?;
        let x_raw = Activations {
            data: x.data.address(),
            dtype: x.dtype,
            rows: x.rows,
            row_stride: x.row_stride,
        };
        let mut raw = Vec::with_capacity(outputs.len());
        for (layer, y) in self.layers.iter().map(Borrow::<Layer>::borrow).zip(&outputs) {
            layer.check_operands(&x, y, cuda_stream)?;
            raw.push(Outputs { data: y.data.address(), dtype: y.dtype, row_stride: y.row_stride });
        }
        // SAFETY: the buffers are the device's and as large as the operands; the driver frees none that is in use.
        unsafe { self.matmul_raw(x_raw, &raw, workspace, cuda_stream) }
    }

    /// Queues the multiplications of [`LayerGroup::matmul`] with operands at device addresses.
    ///
    /// # Errors
    /// See [`LayerGroup::matmul`]; lengths of buffers are not known and not checked.
    ///
    /// # Safety
    /// As for [`Layer::matmul_raw`], for every layer; no two outputs overlap.
    pub unsafe fn matmul_raw(
        &self,
        x: Activations<u64>,
        outputs: &[Outputs<u64>],
        workspace: &mut Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.check_count(outputs.len())?;
        let mut overlap = true;
        for (layer, y) in self.layers.iter().map(Borrow::<Layer>::borrow).zip(outputs) {
            layer.enter_unsized(&x, y, cuda_stream)?;
            layer.check_strides(&x, y)?;
            overlap &= layer.ready().order(cuda_stream)?;
        }
        let class = LaunchPlan::row_class(x.rows);
        let launches = self.launches.get(class).and_then(Option::as_ref).filter(|_| overlap);
        let Some(launches) = launches else {
            return self.layers.iter().map(Borrow::<Layer>::borrow).zip(outputs).try_for_each(
                |(layer, y)| {
                    // SAFETY: the caller's promise.
                    unsafe {
                        layer.queue(
                            layer.launch_for(x.rows, x.dtype)?,
                            x,
                            *y,
                            workspace,
                            cuda_stream,
                        )
                    }
                },
            );
        };
        // SAFETY: the caller's promise; all layers are uploaded.
        unsafe { self.queue_side_by_side(launches, x, outputs, workspace, cuda_stream) }
    }

    /// Queues the launches of a group.
    ///
    /// The first one lets the second start when x is there; the others do not wait for x any more. Each ends after the one
    /// before it, so that whoever waits for the last has waited for all.
    ///
    /// # Safety
    /// As for [`LayerGroup::matmul_raw`]; all layers are uploaded.
    unsafe fn queue_side_by_side(
        &self,
        launches: &[Launch],
        x: Activations<u64>,
        outputs: &[Outputs<u64>],
        workspace: &Workspace,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        let needed = launches
            .iter()
            .fold(WorkspaceSize::default(), |size, launch| size.beside(launch.workspace));
        let gpu = cuda_stream.gpu();
        workspace.check(gpu, needed)?;
        let mut kernels = Vec::with_capacity(launches.len());
        for (layer, launch) in self.layers.iter().zip(launches) {
            kernels.push(layer.borrow().matmul_kernel(launch, x.dtype)?);
        }
        let mut before = WorkspaceSize::default();
        for (number, (layer, launch)) in self.layers.iter().zip(launches).enumerate() {
            let layer: &Layer = layer.borrow();
            let Form::Resident(resident) = layer.form() else { continue };
            let place = Place {
                partials: workspace.partials() + before.partials as u64,
                counters: workspace.counters() + before.counters as u64,
            };
            let role =
                if number == 0 { MatmulFlags::FIRST_OF_GROUP } else { MatmulFlags::IN_GROUP };
            let args = layer.lean_args(resident, launch, (x, outputs[number]), place, role)?;
            // SAFETY: lean kernels take these arguments, whose sizes have been checked. In a group they read x when the
            // launch before has seen it; partial sums have places of their own; the rest is the caller's promise.
            unsafe { kernels[number].launch_overlapping(launch.size, &args, cuda_stream, true)? };
            before = before.beside(launch.workspace);
        }
        Ok(())
    }

    fn check_count(&self, found: usize) -> Result<(), GpuError> {
        let expected = self.layers.len();
        if found == expected {
            Ok(())
        } else {
            Err(MatmulError::OutputCount { expected, found }.into())
        }
    }
}

/// Returns the launches of layers for `rows` rows of x, each on a part of the multiprocessors by its share of the weights.
/// Returns `None` if they would not run side by side.
fn side_by_side(layers: &[&Layer], rows: usize) -> Option<Vec<Launch>> {
    let [first, _, ..] = layers else { return None };
    let device = first.gpu().plan_device();
    let weights = |layer: &Layer| layer.rows() as f64 * layer.cols() as f64;
    let mut left = device.multiprocessors;
    let mut rest: f64 = layers.iter().map(|layer| weights(layer)).sum();
    let mut launches = Vec::with_capacity(layers.len());
    for layer in layers {
        let share = f64::from(left) * weights(layer) / rest;
        let multiprocessors = (share.round() as u32).clamp(1, left.max(1));
        (left, rest) = (left.saturating_sub(multiprocessors), rest - weights(layer));
        let plan = LaunchPlan::new(Device { multiprocessors, ..device }, layer.plan_shape(), rows)?;
        let takes_all = 8 * plan.octets as usize >= rows;
        let launch = Launch::new(plan, layer.plan_shape(), layer.coding())?;
        let is_lean = matches!(layer.form(), Form::Resident(_)) && launch.packed == 0;
        launches.push(Some(launch).filter(|_| is_lean && takes_all)?);
    }
    Some(launches)
}
