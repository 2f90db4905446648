//! Times of queued calls, by events on the device.

use super::BenchError;
use fused_rans::gpu::{CudaStream, DeviceBuffer, Event, Gpu, GpuError};
use std::rc::Rc;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds, in each of which both contenders run in turns.
    pub rounds: usize,
    /// Batches that each contender runs in a round.
    pub batches: usize,
    /// Calls of a batch.
    pub calls: usize,
}

impl Effort {
    /// For figures that are published: 60 batches of each.
    pub const FULL: Self = Self { rounds: 5, batches: 12, calls: 16 };
    /// For a look.
    pub const QUICK: Self = Self { rounds: 3, batches: 3, calls: 10 };
}

/// Microseconds of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Ours: the median of all batches.
    pub us: f64,
    /// The reference's: the best of its rounds' medians.
    pub reference_us: Option<f64>,
}

/// Queues a call; the number, which counts up, says which copy of the operands it takes.
pub type Call<'a> = dyn FnMut(usize) -> Result<(), BenchError> + 'a;

/// Bytes of the copy that a batch is queued behind.
const PLUG: usize = 256 << 20;
/// How often: together they take longer than queueing a batch does.
const PLUGS: usize = 2;

/// Measures batches of calls on a CUDA stream.
pub struct Timer {
    start: Event,
    end: Event,
    plug: (DeviceBuffer, DeviceBuffer),
    cuda_stream: Rc<CudaStream>,
}

impl Timer {
    /// A timer on `cuda_stream`.
    ///
    /// # Errors
    /// [`GpuError`] from the driver.
    pub fn new(gpu: &Gpu, cuda_stream: &Rc<CudaStream>) -> Result<Self, GpuError> {
        let plug = (gpu.alloc(PLUG)?, gpu.alloc(PLUG)?);
        let (start, end) = (gpu.create_event()?, gpu.create_event()?);
        Ok(Self { start, end, plug, cuda_stream: Rc::clone(cuda_stream) })
    }

    /// Runs both in turns, batch by batch, after a batch of each to warm up.
    ///
    /// # Errors
    /// Those of the calls, and [`GpuError`] from the driver.
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

    /// Microseconds of each of `calls` calls, the first of which has number `first`.
    ///
    /// They are queued while the device is busy with copies, so that it never waits for the host, and
    /// finds little of use in its cache.
    fn batch(
        &mut self,
        calls: usize,
        first: usize,
        call: &mut Call<'_>,
    ) -> Result<f64, BenchError> {
        let (from, to) = &mut self.plug;
        for _ in 0..PLUGS {
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

/// The middle one, or the mean of the two in the middle; `None` of nothing.
fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match times.len() {
        0 => None,
        n if n % 2 == 1 => Some(times[middle]),
        _ => Some(f64::midpoint(times[middle - 1], times[middle])),
    }
}

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
