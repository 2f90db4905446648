//! How a layer's multiplications are launched: planned once, when it is uploaded.

use super::super::kernels::LaunchSize;
use super::WorkspaceSize;
use crate::Float;
use crate::launch_plan::{Device, LaunchPlan, LayerShape};
use fused_rans_layout::{ActivationType, KernelId, WeightCoding};

/// A launch plan with its launch size and the size of its workspace.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    pub plan: LaunchPlan,
    pub size: LaunchSize,
    pub workspace: WorkspaceSize,
    /// Bytes of packed activations, at the start of the workspace; 0 if the kernel takes them as they are.
    pub packed: usize,
    /// Kernels for BF16 and F16 activations, where there are any.
    kernels: [Option<KernelId>; 2],
}

/// Most rows of x of each class of launches.
pub const ROW_CLASSES: [usize; 5] = [8, 16, 32, 64, 128];

/// The launches for up to 8, 16, 32, 64 and 128 rows of x: plans depend on nothing else. `None` where the device cannot
/// multiply with the layer.
#[derive(Clone, Copy, Debug)]
pub struct Launches([Option<Launch>; 5]);

impl Launches {
    pub fn new(device: Device, layer: LayerShape, coding: WeightCoding) -> Self {
        let launch = |rows| {
            let plan = LaunchPlan::new(device, layer, rows)?;
            Launch::new(plan, layer, coding)
        };
        Self(ROW_CLASSES.map(launch))
    }

    /// Returns the launch for `rows` rows of x.
    pub fn get(&self, rows: usize) -> Option<&Launch> {
        self.0[LaunchPlan::row_class(rows)].as_ref()
    }
}

impl Launch {
    /// Returns a launch; `None` if no kernel can be launched like this.
    pub fn new(plan: LaunchPlan, layer: LayerShape, coding: WeightCoding) -> Option<Self> {
        let shared_memory = plan.shared_memory(layer).filter(|_| plan.is_possible(layer))?;
        let workspace = WorkspaceSize {
            partials: plan.partial_bytes(layer)?,
            counters: plan.counters(layer)?.checked_mul(4)?,
        };
        let kernels = [ActivationType::Bf16, ActivationType::F16]
            .map(|activations| KernelId::matmul(coding, activations, plan.octets));
        let size = LaunchSize { blocks: plan.blocks, threads: plan.threads(layer), shared_memory };
        let packed = plan.packed_bytes(layer)?;
        Some(Self { plan, size, workspace, packed, kernels })
    }

    /// Returns the kernel for activations of this type; `None` if there is none.
    pub fn kernel(&self, activations: Float) -> Option<KernelId> {
        self.kernels[activation_type(activations)? as usize]
    }
}

/// Returns the kernels' name for a type of activations; `None` for F32.
pub fn activation_type(activations: Float) -> Option<ActivationType> {
    match activations {
        Float::Bf16 => Some(ActivationType::Bf16),
        Float::F16 => Some(ActivationType::F16),
        _ => None,
    }
}
