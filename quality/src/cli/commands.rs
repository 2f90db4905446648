//! The commands on models and texts.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use fused_rans_quality::corpus::brown;
use fused_rans_quality::measure::moments::{self, Kind, Weighting};
use fused_rans_quality::measure::perplexity::{self, Difference, Measurement};
use fused_rans_quality::model::gguf;
use fused_rans_quality::{Error, Llama, Tokens, Windows};
use serde::Serialize;

use super::progress::Bar;
use super::{Convert, Failure, Input, Moments, Perplexity, Text};

/// `fused-rans-quality convert`
pub(super) fn convert(args: &Convert) -> Result<(), Failure> {
    let mut bar = None;
    gguf::convert(&args.input, &args.output, &mut |done, total| {
        bar.get_or_insert_with(|| Bar::new("converting", total as u64)).set(done as u64);
    })?;
    drop(bar);
    say(&format!("{}: converted", args.output.display()))
}

/// `fused-rans-quality text`
pub(super) fn text(args: &Text) -> Result<(), Failure> {
    let [score, calibrate] = brown::split(&args.corpus, &args.output)?;
    let path = args.output.display();
    say(&format!("{path}: {score} documents in score.txt, {calibrate} in calibrate.txt"))
}

/// The output of `perplexity --json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    measurement: Measurement,
    texts: Vec<String>,
    seconds: f64,
    tokens_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

/// `fused-rans-quality perplexity`
pub(super) fn perplexity(args: &Perplexity) -> Result<(), Failure> {
    let (model, windows) = args.input.load()?;
    // Read it before measuring, so that a fault is reported at once.
    let reference = args.reference.as_ref().map(|path| Measurement::read(path, &windows));
    let reference = reference.transpose()?;
    let bar = Bar::new("measuring", windows.tokens.len() as u64);
    let start = Instant::now();
    let nll = perplexity::nll(&model, &windows, &mut |done| bar.set(done as u64))?;
    let time = start.elapsed();
    drop(bar);
    let measurement = Measurement::new(&args.input.model, &windows, nll);
    let difference = reference.map(|reference| Difference::new(&measurement.nll, &reference.nll));
    let report = Report {
        measurement,
        texts: args.input.text.iter().map(|path| path.display().to_string()).collect(),
        seconds: time.as_secs_f64(),
        tokens_per_second: rate(&windows, time),
        difference,
    };
    if args.json {
        return say(&serde_json::to_string(&report)?);
    }
    for line in report.lines() {
        say(&line)?;
    }
    Ok(())
}

impl Report {
    /// Returns the report as lines of text.
    fn lines(&self) -> Vec<String> {
        let Measurement {
            nll, length, context, tokens, mean_nll, standard_error, perplexity, ..
        } = &self.measurement;
        let mut lines: Vec<String> =
            nll.iter().enumerate().map(|(i, nll)| format!("window {i}: {nll:.6}")).collect();
        lines.push(format!(
            "{tokens} tokens scored in {} windows of {length}, the first {context} of each as context",
            nll.len()
        ));
        lines.push(format!("NLL {mean_nll:.6}{} nats per token", plus_minus(*standard_error)));
        lines.push(format!("perplexity {perplexity:.4}"));
        if let Some(Difference { mean_nll, standard_error, perplexity_ratio }) = self.difference {
            lines.push(format!(
                "against the reference: NLL {mean_nll:+.6}{}, perplexity x {perplexity_ratio:.6}",
                plus_minus(standard_error)
            ));
        }
        lines.push(format!("{:.0} tokens/s", self.tokens_per_second));
        lines
    }
}

/// Returns a text such as ` ± 0.01`; an empty one for `None`.
fn plus_minus(error: Option<f64>) -> String {
    error.map(|error| format!(" ± {error:.6}")).unwrap_or_default()
}

/// `fused-rans-quality moments`
pub(super) fn moments(args: &Moments) -> Result<(), Failure> {
    let (model, windows) = args.input.load()?;
    let kind = if args.diagonal { Kind::Diagonal } else { Kind::Matrix };
    let weighting = if args.unscaled { Weighting::Unscaled } else { Weighting::Equal };
    let bar = Bar::new("measuring", windows.tokens.len() as u64);
    let start = Instant::now();
    let progress = &mut |done| bar.set(done as u64);
    let moments = moments::moments(&model, &windows, kind, weighting, progress)?;
    let time = start.elapsed();
    drop(bar);
    let count = windows.tokens.iter().map(Vec::len).sum();
    moments::write(&args.output, &moments, &moments::shared(&model), count, weighting)?;
    say(&format!(
        "{}: {} tensors from {count} tokens, {:.0} tokens/s",
        args.output.display(),
        moments.len(),
        rate(&windows, time)
    ))
}

impl Input {
    /// Loads the model and the windows.
    fn load(&self) -> Result<(Llama, Windows), Error> {
        // The text first, since it is read faster: its faults are reported sooner.
        let windows = Tokens::read(&self.model, &self.text)?.windows(self.windows, self.length)?;
        Ok((Llama::load(&self.model)?, windows))
    }
}

/// Returns tokens per second, context included.
#[expect(clippy::cast_precision_loss, reason = "the figure is rounded for display")]
fn rate(windows: &Windows, time: Duration) -> f64 {
    let tokens: usize = windows.tokens.iter().map(Vec::len).sum();
    tokens as f64 / time.as_secs_f64().max(1e-9)
}

/// Prints a line on standard output.
pub(super) fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
