//! The linear layers of a token, one after the other.

use super::timing::{Call, Effort, Times};
use super::{BenchError, Reference, Session, Subject};
use fused_rans::Float;
use fused_rans::gpu::{CudaStream, GpuError, Graph};

/// What a token multiplies: every decoder layer of a model, with the same few products in each.
pub struct Token {
    products: Vec<Subject>,
    decoder_layers: usize,
}

/// Result of measuring a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenMeasurement {
    /// Format of the weights.
    pub format: &'static str,
    /// Rows of x: tokens of as many sequences.
    pub m: usize,
    /// Microseconds of all products, the median over batches.
    pub us: f64,
    /// Microseconds of the reference's; `None` if the dense weights did not fit into device memory.
    pub reference_us: Option<f64>,
}

impl TokenMeasurement {
    /// Returns the reference's time over ours.
    #[must_use]
    pub fn speedup(&self) -> Option<f64> {
        self.reference_us.map(|reference| reference / self.us)
    }
}

impl Token {
    /// Returns the token of a model with `decoder_layers` decoder layers, each of which multiplies with `products`. Layers
    /// rotate over the copies of each product's weights.
    #[must_use]
    pub fn new(products: Vec<Subject>, decoder_layers: usize) -> Self {
        Self { products, decoder_layers }
    }

    /// Verifies all outputs with `rows` rows of x. Then records all products in a CUDA graph, ours and the reference's in one
    /// each, and times both in turns.
    ///
    /// # Errors
    /// Fails as [`Subject::measure`] does.
    pub fn measure(
        &mut self,
        session: &mut Session,
        rows: usize,
        effort: Effort,
    ) -> Result<TokenMeasurement, BenchError> {
        let mut has_reference = true;
        for product in &mut self.products {
            product.check(rows)?;
            has_reference &= product.reference_error(session, rows)?.is_some();
        }
        let Some(first) = self.products.first() else {
            return Err(BenchError::Batch { rows, max_rows: 0 });
        };
        let (format, x_dtype) = (first.format(), first.x_dtype());
        let cuda_stream = session.cuda_stream();
        let (timer, reference) = session.contest();
        let y_dtype = reference.timed_outputs(x_dtype);
        let mut ours =
            self.record(&cuda_stream, |product, layer| Ok(product.queue(layer, rows, y_dtype)?))?;
        let mut theirs = match has_reference {
            true => Some(self.record_reference(&cuda_stream, reference, rows, y_dtype)?),
            false => None,
        };
        let launch = |graph: &mut Graph| {
            // SAFETY: layers, workspaces and operands live in `self`, and the timer waits for each batch.
            unsafe { graph.launch(&cuda_stream) }
        };
        let mut our_call = |_| Ok(launch(&mut ours)?);
        let mut their_call = |_| Ok(theirs.as_mut().map_or(Ok(()), launch)?);
        let their_call: &mut Call<'_> = &mut their_call;
        let Times { us, reference_us } =
            timer.in_turns(effort, &mut our_call, has_reference.then_some(their_call))?;
        Ok(TokenMeasurement { format, m: rows, us, reference_us })
    }

    /// Records the reference's products. Queues each once before, because a library may load kernels then.
    fn record_reference(
        &mut self,
        cuda_stream: &CudaStream,
        reference: &Reference,
        rows: usize,
        y_dtype: Float,
    ) -> Result<Graph, BenchError> {
        for product in &mut self.products {
            product.queue_reference(reference, 0, rows, y_dtype)?;
        }
        cuda_stream.synchronize()?;
        self.record(cuda_stream, |product, layer| {
            product.queue_reference(reference, layer, rows, y_dtype)
        })
    }

    /// Records what `queue` queues for each product of each decoder layer.
    fn record(
        &mut self,
        cuda_stream: &CudaStream,
        mut queue: impl FnMut(&mut Subject, usize) -> Result<(), BenchError>,
    ) -> Result<Graph, BenchError> {
        let mut failed = None;
        let graph = cuda_stream.capture(|_| {
            for layer in 0..self.decoder_layers {
                for product in &mut self.products {
                    match queue(product, layer) {
                        Ok(()) => {}
                        Err(BenchError::Gpu(error)) => return Err(error),
                        Err(error) => {
                            failed = Some(error);
                            return Ok(());
                        }
                    }
                }
            }
            Ok::<_, GpuError>(())
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(graph?),
        }
    }
}
