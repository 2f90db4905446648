//! The command `fused-rans inspect`.

use fused_rans::file;

use crate::args::Inspect;
use crate::report::listing::report_table;
use crate::report::plot::Plot;
use crate::terminal::{Failure, say};

/// Prints a table or JSON of the input's tensors; draws the chart if one is asked for.
pub(crate) fn run(args: &Inspect) -> Result<(), Failure> {
    let plot = args.plot.as_ref().map(|out| Plot::create(out, &args.file)).transpose()?;
    let report = file::inspect(&args.file)?;
    if let Some(plot) = plot {
        plot.finish(&report)?;
    }
    if args.json {
        say(&serde_json::to_string(&report)?)
    } else {
        say(report_table(&report).to_string().trim_end())
    }
}
