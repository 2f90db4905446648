//! Times queued calls by events on the device.

use super::BenchError;
use fused_rans::gpu::{CudaStream, DeviceBuffer, Event, Gpu, GpuError};
use std::rc::Rc;

/// How often calls are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Number of rounds. In each, ours and the reference run in turns.
    pub rounds: usize,
    /// Number of batches that each of them runs in a round.
    pub batches: usize,
    /// Number of calls in a batch.
    pub calls: usize,
}

impl Effort {
    /// For figures to publish: 60 batches each.
    pub const FULL: Self = Self { rounds: 5, batches: 12, calls: 16 };
    /// For calls that take milliseconds each.
    pub const LONG_CALLS: Self = Self { rounds: 5, batches: 6, calls: 2 };
    /// For a quick look, not for figures.
    pub const QUICK: Self = Self { rounds: 3, batches: 3, calls: 10 };
}

/// Microseconds per call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Median of all our batches.
    pub us: f64,
    /// Best of the reference's medians, one per round; `None` if there was no reference.
    pub reference_us: Option<f64>,
}

/// Queues a call. The number counts up; use it to choose the copy of the operands, so that caches stay cold.
pub type Call<'a> = dyn FnMut(usize) -> Result<(), BenchError> + 'a;

/// Bytes of a copy that a batch is queued behind.
const DELAY_BYTES: usize = 256 << 20;
/// Number of these copies. Together they take longer than queueing a batch.
const DELAY_COPIES: usize = 2;

/// Measures batches of calls on a CUDA stream.
pub struct Timer {
    start: Event,
    end: Event,
    /// Source and destination of the copies that delay a batch.
    delay: (DeviceBuffer, DeviceBuffer),
    cuda_stream: Rc<CudaStream>,
}

impl Timer {
    /// Creates a timer for calls on `cuda_stream`.
    ///
    /// # Errors
    /// [`GpuError`] from the driver.
    pub fn new(gpu: &Gpu, cuda_stream: &Rc<CudaStream>) -> Result<Self, GpuError> {
        let delay = (gpu.alloc(DELAY_BYTES)?, gpu.alloc(DELAY_BYTES)?);
        let (start, end) = (gpu.create_event()?, gpu.create_event()?);
        Ok(Self { start, end, delay, cuda_stream: Rc::clone(cuda_stream) })
    }

    /// Runs `ours` and `reference` in turns, batch by batch, after a batch of each to warm up.
    ///
    /// # Errors
    /// Errors of the calls, and [`GpuError`] from the driver.
    pub fn in_turns(
        &mut self,
        effort: Effort,
        ours: &mut Call<'_>,
        mut reference: Option<&mut Call<'_>>,
    ) -> Result<Times, BenchError> {
        let Effort { rounds, batches, calls } = effort;
        self.batch(calls, 0, ours)?;
        if let Some(reference) = &mut reference {
            self.batch(calls, 0, *reference)?;
        }
        let (mut all, mut best) = (Vec::new(), None);
        for round in 0..rounds {
            let mut theirs = Vec::new();
            for batch in round * batches..(round + 1) * batches {
                let first = (1 + batch) * calls;
                all.push(self.batch(calls, first, ours)?);
                if let Some(reference) = &mut reference {
                    theirs.push(self.batch(calls, first, *reference)?);
                }
            }
            best = smaller(best, median(&mut theirs));
        }
        Ok(Times { us: median(&mut all).unwrap_or(f64::NAN), reference_us: best })
    }

    /// Runs a batch of `calls` calls, numbered from `first`; returns the microseconds per call.
    ///
    /// The calls are queued while the device is busy with copies. So the device never waits for the host, and the copies
    /// have flushed its cache.
    fn batch(
        &mut self,
        calls: usize,
        first: usize,
        call: &mut Call<'_>,
    ) -> Result<f64, BenchError> {
        let (from, to) = &mut self.delay;
        for _ in 0..DELAY_COPIES {
            self.cuda_stream.copy(from.as_slice(), to.as_mut_slice())?;
        }
        self.start.record(&self.cuda_stream)?;
        (first..first + calls).try_for_each(call)?;
        self.end.record(&self.cuda_stream)?;
        self.end.synchronize()?;
        let ms = self.end.elapsed_ms(&self.start)?;
        Ok(f64::from(ms) * 1e3 / calls as f64)
    }
}

/// Returns the median, or `None` if there are no times.
fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match times.len() {
        0 => None,
        n if n % 2 == 1 => Some(times[middle]),
        _ => Some(f64::midpoint(times[middle - 1], times[middle])),
    }
}

/// Returns the smaller one of two optional times.
fn smaller(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(smaller(None, Some(2.0)), Some(2.0));
        assert_eq!(smaller(Some(1.0), Some(2.0)), Some(1.0));
        assert_eq!(smaller(Some(1.0), None), Some(1.0));
    }

    #[test]
    fn published_figures_are_of_enough_batches() {
        let Effort { rounds, batches, calls } = Effort::FULL;
        assert!(rounds >= 3 && rounds * batches >= 50 && (10..=20).contains(&calls));
    }
}
