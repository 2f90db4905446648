//! The command `fused-rans compress`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fused_rans::file::{self, Calibration, CompressOptions, Progress, Rules, Summary};
use regex::Regex;

use super::outcome;
use crate::args::{Compress, Format};
use crate::progress::Bar;
use crate::report::text::{percent, printable_path, size};
use crate::terminal::{Failure, chain};

/// Compresses the input and says what became of it.
pub(crate) fn run(args: Compress) -> Result<(), Failure> {
    let (input, output) = (args.input.clone(), args.output.clone());
    let (talk, threads) = (args.talk, args.threads);
    let patterns = Patterns::new(&args);
    let done = options(args, &patterns).and_then(|options| {
        let bar = Bar::new("compressing", talk.quiet);
        let job = || {
            let progress = Progress::new(|done, total| bar.set(done, total));
            file::compress(&input, &output, &options, progress)
        };
        Ok(threads.run(job)??)
    });
    let status = |summary: &Summary| {
        let Summary { tensors, blobs, quantized, calibrated, .. } = *summary;
        let quantized = match (quantized, calibrated) {
            (0, _) => String::new(),
            (_, 0) => format!(", {quantized} of them quantized"),
            _ => format!(", {quantized} of them quantized, {calibrated} with calibration"),
        };
        format!(
            "{}: {} -> {} ({blobs} of {tensors} tensors compressed{quantized}{})",
            printable_path(&output),
            size(summary.original_bytes),
            size(summary.stored_bytes),
            percent(summary.stored_bytes, summary.original_bytes)
        )
    };
    outcome::report(done, [&input, &output], talk, &patterns.warnings(), status)
}

/// The patterns that select tensors. They note whether they ever matched.
#[derive(Clone)]
struct Patterns {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
}

#[derive(Clone)]
struct Pattern {
    regex: Regex,
    has_matched: Arc<AtomicBool>,
}

impl Patterns {
    fn new(args: &Compress) -> Self {
        let pattern = |regex: &Option<Regex>| {
            let regex = regex.clone()?;
            Some(Pattern { regex, has_matched: Arc::default() })
        };
        Self { include: pattern(&args.include), exclude: pattern(&args.exclude) }
    }

    /// Returns whether the tensor `name` is selected.
    fn select(&self, name: &str) -> bool {
        // Both are asked, so that both note a match.
        let includes = self.include.as_ref().is_none_or(|pattern| pattern.is_match(name));
        let excludes = self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name));
        includes && !excludes
    }

    /// Returns a warning for each pattern that has matched no tensor.
    fn warnings(&self) -> Vec<String> {
        let patterns = [("--include", &self.include), ("--exclude", &self.exclude)];
        let idle = patterns.into_iter().filter_map(|(option, pattern)| {
            let pattern = pattern.as_ref()?;
            let idle = !pattern.has_matched.load(Ordering::Relaxed);
            idle.then(|| format!("{option} {}: no tensor has this in its name", pattern.regex))
        });
        idle.collect()
    }
}

impl Pattern {
    fn is_match(&self, name: &str) -> bool {
        let is_match = self.regex.is_match(name);
        self.has_matched.fetch_or(is_match, Ordering::Relaxed);
        is_match
    }
}

/// Translates the arguments to options of the library. Reads the files with rules and moments.
fn options(args: Compress, patterns: &Patterns) -> Result<CompressOptions, Failure> {
    let options = CompressOptions::default().weights_per_symbol(args.weights_per_symbol);
    let mut options = options.quantize_embeddings(args.include.is_some()).share_rate(args.spread);
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
    let patterns = patterns.clone();
    Ok(options.select(move |name| patterns.select(name)))
}
