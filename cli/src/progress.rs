//! How far a job is: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::text::{share, size};
use crate::terminal::tell;

/// Least time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Longest time without a line, while anything is done.
const SILENCE: Duration = Duration::from_secs(60);

/// A job that is this fraction further is worth a line.
const STEPS: u64 = 20;

/// Shows on standard error how far a job is. Where that is a terminal: a bar, removed when dropped. Elsewhere: a line
/// every ten seconds if the job is a twentieth further, and one a minute else.
pub(crate) enum Bar {
    Terminal(ProgressBar),
    Lines(Mutex<Lines>),
    Nothing,
}

/// The lines of a job without a terminal.
pub(crate) struct Lines {
    what: &'static str,
    start: Instant,
    last: Instant,
    last_done: u64,
}

impl Bar {
    /// Creates a bar that counts bytes, or nothing where the caller wants quiet.
    pub(crate) fn new(what: &'static str, quiet: bool) -> Self {
        if quiet {
            return Self::Nothing;
        }
        if !stderr().is_terminal() {
            let now = Instant::now();
            return Self::Lines(Mutex::new(Lines { what, start: now, last: now, last_done: 0 }));
        }
        Self::with(
            what,
            "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        )
    }

    /// Creates a bar that counts items; nothing without a terminal.
    #[cfg(feature = "cuda")]
    pub(crate) fn of_items(what: &'static str) -> Self {
        match stderr().is_terminal() {
            true => Self::with(what, "{msg} [{wide_bar}] {pos}/{len} {eta}"),
            false => Self::Nothing,
        }
    }

    fn with(what: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        Self::Terminal(bar.with_style(style.progress_chars("=> ")).with_message(what))
    }

    /// Shows that `done` of `total` bytes or items are finished.
    pub(crate) fn set(&self, done: u64, total: u64) {
        match self {
            Self::Nothing => {}
            Self::Terminal(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(line) = lines.next(done, total, Instant::now()) {
                    tell(&line);
                }
            }
        }
    }
}

impl Lines {
    /// Returns the line to print now, if it is time for one.
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    fn next(&mut self, done: u64, total: u64, now: Instant) -> Option<String> {
        let since = now.duration_since(self.last);
        let is_further = done.saturating_sub(self.last_done) >= total / STEPS;
        if done >= total || since < PAUSE || (since < SILENCE && !is_further) {
            return None;
        }
        (self.last, self.last_done) = (now, done);
        let speed = done as f64 / now.duration_since(self.start).as_secs_f64() / 1e6;
        let (what, percent) = (self.what, share(done, total));
        Some(format!("{what}: {percent}, {} of {}, {speed:.0} MB/s", size(done), size(total)))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_every_ten_seconds_at_most() {
        let start = Instant::now();
        let mut lines = Lines { what: "compressing", start, last: start, last_done: 0 };
        let mut next =
            |seconds, done| lines.next(done, 1_000_000_000, start + Duration::from_secs(seconds));
        assert_eq!(next(9, 500_000_000), None);
        let line = "compressing: 50.0 %, 500.00 MB of 1.00 GB, 50 MB/s";
        assert_eq!(next(10, 500_000_000).as_deref(), Some(line));
        assert_eq!(next(19, 900_000_000), None);
        assert_eq!(next(30, 510_000_000), None);
        assert!(next(70, 510_000_000).is_some());
        assert_eq!(next(200, 1_000_000_000), None);
    }
}
