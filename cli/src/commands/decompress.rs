//! The command `fused-rans decompress`.

use fused_rans::file::{self, Summary};

use crate::args::Decompress;
use crate::progress::Bar;
use crate::report::text::size;
use crate::terminal::{Failure, say};

/// Restores the input and prints its sizes.
pub(crate) fn run(args: &Decompress) -> Result<(), Failure> {
    let bar = Bar::new("restoring");
    let job = || file::decompress_model(&args.input, &args.output, &mut |d, t| bar.set(d, t));
    let Summary { stored_bytes, original_bytes, .. } = args.threads.run(job)??;
    drop(bar);
    let path = args.output.display();
    say(&format!("{path}: {} -> {}", size(stored_bytes), size(original_bytes)))
}
