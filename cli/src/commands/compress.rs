//! The command `fused-rans compress`.

use std::fs;

use fused_rans::file::{self, Calibration, CompressOptions, Progress, Rules, Summary};

use crate::args::{Compress, Format};
use crate::progress::Bar;
use crate::report::text::{percent, printable, size};
use crate::terminal::{Failure, chain, say, tell};

/// Compresses the input and prints its sizes.
pub(crate) fn run(args: Compress) -> Result<(), Failure> {
    let (input, output, threads) = (args.input.clone(), args.output.clone(), args.threads);
    let options = options(args)?;
    let bar = Bar::new("compressing");
    let job = || {
        let progress = Progress::new(|done, total| bar.set(done, total));
        file::compress(&input, &output, &options, progress)
    };
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

/// Prints a warning for every request without effect, and one for all matrices too small for the format.
fn warn(summary: &Summary) {
    for warning in &summary.warnings {
        tell(&format!("warning: {}", printable(&warning.to_string())));
    }
    let names = &summary.too_small;
    if !names.is_empty() {
        let tensors = if names.len() == 1 { "tensor" } else { "tensors" };
        let listed = listing(names);
        tell(&format!(
            "warning: {} {tensors} stayed lossless: {listed} (too small for the format)",
            names.len()
        ));
    }
}

/// Lists the first of `names` and counts the rest.
fn listing(names: &[String]) -> String {
    const MAX_LISTED: usize = 8;
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| printable(name)).collect();
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Translates the arguments to options of the library. Reads the files with rules and moments.
fn options(args: Compress) -> Result<CompressOptions, Failure> {
    let Compress { include, exclude, .. } = args;
    let options = CompressOptions::default().weights_per_symbol(args.weights_per_symbol);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut_short() {
        let names: Vec<String> = (0..11).map(|n| format!("{n}\n")).collect();
        assert_eq!(listing(&names[..2]), r"0\n, 1\n");
        assert_eq!(listing(&names[..8]), r"0\n, 1\n, 2\n, 3\n, 4\n, 5\n, 6\n, 7\n");
        assert_eq!(listing(&names), r"0\n, 1\n, 2\n, 3\n, 4\n, 5\n, 6\n, 7\n and 3 more");
    }
}
