//! The commands on files.

use std::fs;
use std::io::{self, Write};

use fused_rans::file::{self, Calibration, FileError, Options, RelativeError, Rules, Summary};
use serde_json::json;

use super::plot::Plot;
use super::progress::Bar;
use super::table::{error_table, printable, report_table, size};
use super::{Compress, Decompress, Failure, Format, Inspect, Verify, chain, tell};

/// Relative error beyond which a quantized tensor may be another one: with two bits a weight, normally distributed numbers come
/// to less.
const LARGE_ERROR: f64 = 0.5;

/// `fused-rans compress`
pub(super) fn compress(args: Compress) -> Result<(), Failure> {
    let (input, output, threads) = (args.input.clone(), args.output.clone(), args.threads);
    let options = options(args)?;
    let bar = Bar::new("compressing");
    let job = || file::compress_model(&input, &output, &options, &mut |d, t| bar.set(d, t));
    let summary = threads.run(job)??;
    drop(bar);
    warn(&summary);
    for name in file::Model::open(&input)?.left_out() {
        tell(&format!("left out: {}", name.display()));
    }
    let Summary { tensors, blobs, quantized, calibrated, original_bytes, stored_bytes, .. } =
        summary;
    let quantized = match (quantized, calibrated) {
        (0, _) => String::new(),
        (_, 0) => format!(", {quantized} of them quantized"),
        _ => format!(", {quantized} of them quantized, {calibrated} with calibration"),
    };
    say(&format!(
        "{}: {} -> {} ({blobs} of {tensors} tensors compressed{quantized}{})",
        output.display(),
        size(original_bytes),
        size(stored_bytes),
        percent(stored_bytes, original_bytes)
    ))
}

/// Says on standard error what did not become what was asked for.
fn warn(summary: &Summary) {
    for warning in &summary.warnings {
        tell(&format!("warning: {}", printable(&warning.to_string())));
    }
    let names = &summary.too_small;
    if !names.is_empty() {
        let tensors = if names.len() == 1 { "tensor" } else { "tensors" };
        let names_of = some(names);
        tell(&format!(
            "warning: {} {tensors} stayed lossless: {names_of} (too small for the format)",
            names.len()
        ));
    }
}

/// The first of these names, and how many there are more.
fn some(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| printable(name)).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What is to become of which tensor.
fn options(args: Compress) -> Result<Options, Failure> {
    let Compress { include, exclude, .. } = args;
    let options = Options::default().weights_per_symbol(args.weights_per_symbol);
    let mut options = options.quantize_embeddings(include.is_some()).share_rate(args.spread);
    if let Format::Quantized(quantizer) = args.format {
        options = options.quantize(quantizer);
    }
    if let Some(path) = args.rules {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let rules = Rules::parse(&text);
        options =
            options.rules(rules.map_err(|error| format!("{}: {}", path.display(), chain(&error)))?);
    }
    if let Some(path) = args.calibration {
        options = options.calibration(Calibration::open(path)?);
    }
    Ok(options.select(move |name| {
        include.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }))
}

/// `fused-rans decompress`
pub(super) fn decompress(args: &Decompress) -> Result<(), Failure> {
    let bar = Bar::new("restoring");
    let job = || file::decompress_model(&args.input, &args.output, &mut |d, t| bar.set(d, t));
    let Summary { stored_bytes, original_bytes, .. } = args.threads.run(job)??;
    drop(bar);
    let path = args.output.display();
    say(&format!("{path}: {} -> {}", size(stored_bytes), size(original_bytes)))
}

/// `fused-rans inspect`
pub(super) fn inspect(args: &Inspect) -> Result<(), Failure> {
    let plot = args.plot.as_ref().map(|out| Plot::create(out, &args.file)).transpose()?;
    let report = file::inspect_model(&args.file)?;
    if let Some(plot) = plot {
        plot.finish(&report)?;
    }
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
    let against = args.against.as_deref();
    let verified: Result<Summary, FileError> =
        args.threads.run(|| file::verify_model(&args.file, against, &mut progress))?;
    drop(bar);
    if let Ok(Summary { errors, .. }) = &verified {
        warn_of_errors(errors);
    }
    if args.json {
        let mut result = match &verified {
            Ok(summary) => json!({
                "ok": true,
                "tensors": summary.tensors,
                "compressed_tensors": summary.blobs,
                "quantized_tensors": summary.quantized,
                "errors": summary.errors,
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
    let Summary { tensors, blobs, quantized, errors, .. } = verified?;
    if !errors.is_empty() {
        say(error_table(&errors).to_string().trim_end())?;
    }
    let path = args.file.display();
    let equal = match (&args.against, quantized) {
        (Some(against), 0) => format!(", all equal to {}", against.display()),
        (Some(against), _) => {
            format!(", all but {quantized} quantized ones equal to {}", against.display())
        }
        (None, 0) => String::new(),
        (None, _) => format!(", {quantized} of them quantized"),
    };
    say(&format!("{path}: intact ({tensors} tensors, {blobs} of them compressed{equal})"))
}

/// Names on standard error the tensors that are hardly what they were compared with.
fn warn_of_errors(errors: &[RelativeError]) {
    for RelativeError { tensor, relative_error } in errors {
        if *relative_error > LARGE_ERROR {
            let tensor = printable(tensor);
            tell(&format!(
                "warning: {tensor}: a relative error of {relative_error:.3} is large; is this what was compressed?"
            ));
        }
    }
}

/// Prints a line on standard output.
pub(super) fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // That its reader has left is for the caller to judge.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        said => Ok(said?),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn percent(stored: u64, original: u64) -> String {
    if original == 0 {
        return String::new();
    }
    format!(", {:.1} % of the size", 100.0 * stored as f64 / original as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut_short() {
        let names: Vec<String> = (0..11).map(|n| format!("{n}\n")).collect();
        assert_eq!(some(&names[..2]), r"0\n, 1\n");
        assert_eq!(some(&names[..8]), r"0\n, 1\n, 2\n, 3\n, 4\n, 5\n, 6\n, 7\n");
        assert_eq!(some(&names), r"0\n, 1\n, 2\n, 3\n, 4\n, 5\n, 6\n, 7\n and 3 more");
    }
}
