//! The command `fused-rans decompress`.

use fused_rans::file::{self, Progress, Summary};

use crate::args::Decompress;
use crate::progress::Bar;
use crate::report::text::size;
use crate::terminal::{Failure, say};

/// Restores the input and prints its sizes.
pub(crate) fn run(args: &Decompress) -> Result<(), Failure> {
    let bar = Bar::new("restoring");
    let job = || {
        let progress = Progress::new(|done, total| bar.set(done, total));
        file::decompress(&args.input, &args.output, progress)
    };
    let Summary { stored_bytes, original_bytes, .. } = args.threads.run(job)??;
    drop(bar);
    let path = args.output.display();
    say(&format!("{path}: {} -> {}", size(stored_bytes), size(original_bytes)))
}
