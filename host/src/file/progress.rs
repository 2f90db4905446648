//! How far a job is.

use std::fmt;

/// Receives how far a job is, after every tensor: the bytes done, and the bytes in total.
///
/// Tensors that share an average rate are read twice, and count twice. Otherwise the total is
/// [`Model::tensor_bytes`](crate::file::Model::tensor_bytes).
///
/// ```
/// use fused_rans_host::file::Progress;
///
/// let progress = Progress::new(|done, total| eprintln!("{done} of {total} bytes"));
/// ```
pub struct Progress<'a> {
    report: Box<dyn FnMut(u64, u64) + 'a>,
    done: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    /// Creates a progress that reports nothing. Use it for jobs without a display.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_, _| {})
    }

    /// Creates a progress that calls `report` with the number of bytes done and the total. Use it to show the progress
    /// of a job. `report` runs on the thread that called the job, between two tensors.
    #[must_use]
    pub fn new(report: impl FnMut(u64, u64) + 'a) -> Self {
        Self { report: Box::new(report), done: 0, total: 0 }
    }

    /// Adds `bytes` to the total.
    pub(in crate::file) fn add_to_total(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Adds `bytes` to those done, and reports.
    pub(in crate::file) fn add(&mut self, bytes: u64) {
        // A file that another program has changed may have more than was expected.
        self.done = (self.done + bytes).min(self.total);
        (self.report)(self.done, self.total);
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report: _, done, total } = self;
        f.debug_struct("Progress").field("done", done).field("total", total).finish_non_exhaustive()
    }
}
