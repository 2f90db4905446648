//! Shows progress on a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on standard error, shown only on a terminal. Dropping it clears it.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Makes a bar that counts to `total`.
    pub(super) fn new(what: impl Into<Cow<'static, str>>, total: u64) -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} {eta}")
            .expect("the template is valid");
        Self(bar.with_style(style.progress_chars("=> ")).with_message(what))
    }

    /// Sets the finished amount.
    pub(super) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
