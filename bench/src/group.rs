//! Layers that share activations: multiplied as a group, and one after the other.

use super::timing::{Call, Effort, Times};
use super::{BenchError, Session, Subject};
use fused_rans::Float;
use fused_rans::gpu::{GpuError, Graph, Layer, LayerGroup};

/// Products of each layer in a CUDA graph.
const REPEATS: usize = 48;

/// Layers that share activations.
pub struct Group {
    subjects: Vec<Subject>,
}

/// Result of measuring a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupMeasurement {
    /// Format of the weights.
    pub format: &'static str,
    /// Rows of x.
    pub m: usize,
    /// Microseconds of the group.
    pub us: f64,
    /// Microseconds of its layers, one after the other.
    pub one_by_one_us: Option<f64>,
}

impl Group {
    /// Returns a group of layers with the same number of columns.
    #[must_use]
    pub fn new(subjects: Vec<Subject>) -> Self {
        Self { subjects }
    }

    /// Verifies the outputs of each layer with `rows` rows of x. Then records products in two CUDA graphs, those of the group
    /// and those of its layers, and times both in turns.
    ///
    /// # Errors
    /// Fails as [`Subject::measure`] does.
    pub fn measure(
        &mut self,
        session: &mut Session,
        rows: usize,
        effort: Effort,
    ) -> Result<GroupMeasurement, BenchError> {
        for subject in &mut self.subjects {
            subject.check(rows)?;
        }
        let Some(first) = self.subjects.first() else {
            return Err(BenchError::Batch { rows, max_rows: 0 });
        };
        let (format, y_dtype) = (first.format(), first.x_dtype());
        let mut group = self.record_group(session, rows, y_dtype)?;
        let cuda_stream = session.cuda_stream();
        let mut layers = cuda_stream.capture(|_| {
            (0..REPEATS).try_for_each(|call| {
                self.subjects.iter_mut().try_for_each(|subject| subject.queue(call, rows, y_dtype))
            })
        })?;
        let launch = |graph: &mut Graph| {
            // SAFETY: layers, workspaces and operands live in `self`, and the timer waits for each batch.
            unsafe { graph.launch(&cuda_stream) }
        };
        let mut our_call = |_| Ok(launch(&mut group.0)?);
        let mut their_call = |_| Ok(launch(&mut layers)?);
        let their_call: &mut Call<'_> = &mut their_call;
        let (timer, _) = session.contest();
        let Times { us, reference_us } = timer.in_turns(effort, &mut our_call, Some(their_call))?;
        let each = |us: f64| us / REPEATS as f64;
        let one_by_one_us = reference_us.map(each);
        Ok(GroupMeasurement { format, m: rows, us: each(us), one_by_one_us })
    }

    /// Records the group's products. Returns the workspace, too, which the graph uses.
    fn record_group(
        &self,
        session: &Session,
        rows: usize,
        y_dtype: Float,
    ) -> Result<(Graph, fused_rans::gpu::Workspace), BenchError> {
        let layers =
            |call: usize| self.subjects.iter().map(move |subject| subject.layer(call)).collect();
        let groups = (0..REPEATS).map(|call| LayerGroup::<&Layer>::new(layers(call)));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let mut workspace = session.gpu().alloc_workspace(groups[0].workspace_size(rows)?)?;
        let x = self.subjects[0].raw_activations(rows);
        let y: Vec<_> = self.subjects.iter().map(|subject| subject.raw_outputs(y_dtype)).collect();
        groups[0].prepare(rows, x.dtype)?;
        let graph = session.cuda_stream().capture(|cuda_stream| {
            groups.iter().try_for_each(|group| {
                // SAFETY: the operands are the subjects', which outlive the graph; no two outputs are the same.
                unsafe { group.matmul_raw(x, &y, &mut workspace, cuda_stream) }
            })?;
            Ok::<_, GpuError>(())
        })?;
        Ok((graph, workspace))
    }
}
