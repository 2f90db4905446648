//! The command `fused-rans decompress`.

use fused_rans::file::{self, Progress, Summary};

use super::outcome;
use crate::args::Decompress;
use crate::progress::Bar;
use crate::report::text::{printable_path, size};
use crate::terminal::Failure;

/// Restores the input and says what became of it.
pub(crate) fn run(args: &Decompress) -> Result<(), Failure> {
    let bar = Bar::new("restoring", args.talk.quiet);
    let job = || {
        let progress = Progress::new(|done, total| bar.set(done, total));
        file::decompress(&args.input, &args.output, progress)
    };
    let done = args.threads.run(job).and_then(|done| Ok(done?));
    drop(bar);
    let status = |summary: &Summary| {
        let path = printable_path(&args.output);
        format!("{path}: {} -> {}", size(summary.stored_bytes), size(summary.original_bytes))
    };
    outcome::report(done, [&args.input, &args.output], args.talk, &[], status)
}
