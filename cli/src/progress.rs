//! A progress bar.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on standard error. Hidden unless standard error is a terminal; removed when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Creates a bar that counts bytes.
    pub(crate) fn new(what: &'static str) -> Self {
        Self::with(
            what,
            "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        )
    }

    /// Creates a bar that counts items.
    #[cfg(feature = "cuda")]
    pub(crate) fn of_items(what: &'static str) -> Self {
        Self::with(what, "{msg} [{wide_bar}] {pos}/{len} {eta}")
    }

    fn with(what: &'static str, template: &str) -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        Self(bar.with_style(style.progress_chars("=> ")).with_message(what))
    }

    /// Shows that `done` of `total` bytes or items are finished.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
