//! The commands on files.

use std::io::{self, Write};

use fused_rans_host::file::{self, FileError, Options, Summary};
use serde_json::json;

use super::progress::Bar;
use super::table::{report_table, size};
use super::{Compress, Decompress, Failure, Format, Inspect, Verify, chain};

/// `fused-rans compress`
pub(super) fn compress(args: Compress) -> Result<(), Failure> {
    let Compress { input, output, format: Format::Lossless, include, exclude, threads, .. } = args;
    let options = Options::default().packing(args.weights_per_symbol).select(move |name| {
        include.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
    });
    let bar = Bar::new("compressing");
    let summary =
        threads.run(|| file::compress(&input, &output, &options, &mut |d, t| bar.set(d, t)))??;
    drop(bar);
    let Summary { tensors, blobs, original_bytes, stored_bytes } = summary;
    say(&format!(
        "{}: {} -> {} ({} of {tensors} tensors compressed{})",
        output.display(),
        size(original_bytes),
        size(stored_bytes),
        blobs,
        percent(stored_bytes, original_bytes)
    ))
}

/// `fused-rans decompress`
pub(super) fn decompress(args: &Decompress) -> Result<(), Failure> {
    let bar = Bar::new("restoring");
    let job = || file::decompress(&args.input, &args.output, &mut |d, t| bar.set(d, t));
    let Summary { stored_bytes, original_bytes, .. } = args.threads.run(job)??;
    drop(bar);
    let path = args.output.display();
    say(&format!("{path}: {} -> {}", size(stored_bytes), size(original_bytes)))
}

/// `fused-rans inspect`
pub(super) fn inspect(args: &Inspect) -> Result<(), Failure> {
    let report = file::inspect(&args.file)?;
    if args.json {
        say(&serde_json::to_string(&report)?)
    } else {
        say(report_table(&report).to_string().trim_end())
    }
}

/// `fused-rans verify`
pub(super) fn verify(args: &Verify) -> Result<(), Failure> {
    let bar = Bar::new("verifying");
    let mut progress = |done, total| bar.set(done, total);
    let verified: Result<Summary, FileError> = args.threads.run(|| match &args.against {
        Some(against) => file::verify_against(&args.file, against, &mut progress),
        None => file::verify(&args.file, &mut progress),
    })?;
    drop(bar);
    if args.json {
        let mut result = match &verified {
            Ok(summary) => json!({
                "ok": true,
                "tensors": summary.tensors,
                "compressed_tensors": summary.blobs,
                "original_bytes": summary.original_bytes,
                "stored_bytes": summary.stored_bytes,
            }),
            Err(error) => json!({ "ok": false, "error": chain(error) }),
        };
        result["file"] = args.file.to_string_lossy().into();
        result["against"] = args.against.as_ref().map(|path| path.to_string_lossy()).into();
        // A failure must reach the exit status even if nobody reads the output.
        let said = say(&result.to_string());
        verified?;
        return said;
    }
    let Summary { tensors, blobs, .. } = verified?;
    let path = args.file.display();
    let equal = match &args.against {
        Some(against) => format!(", all equal to {}", against.display()),
        None => String::new(),
    };
    say(&format!("{path}: intact ({tensors} tensors, {blobs} of them compressed{equal})"))
}

/// Prints a line on standard output.
pub(super) fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn percent(stored: u64, original: u64) -> String {
    if original == 0 {
        return String::new();
    }
    format!(", {:.1} % of the size", 100.0 * stored as f64 / original as f64)
}
