//! What the commands that write a model say in the end.

use std::fs;
use std::path::{Path, PathBuf};

use fused_rans::file::{Kept, Summary};
use serde_json::{Value, json};

use crate::args::Talk;
use crate::report::kept::kept_lines;
use crate::report::text::{printable, printable_path, size};
use crate::terminal::{Failure, chain, say, tell};

/// Size in bytes from which a copied file is listed: tokenizers are smaller.
const LARGE_COPY: u64 = 100_000_000;

/// Reports on a job from the first of `paths` to the second: in JSON on standard output, or in lines on standard error.
/// `warnings` are the command's own, `status` makes the last line.
pub(super) fn report(
    done: Result<Summary, Failure>,
    paths: [&PathBuf; 2],
    talk: Talk,
    warnings: &[String],
    status: impl FnOnce(&Summary) -> String,
) -> Result<(), Failure> {
    let [input, output] = paths;
    if talk.json {
        let paths = json!({ "input": input.to_string_lossy(), "output": output.to_string_lossy() });
        return say_json(done, |summary| to_json(summary, warnings), paths);
    }
    let summary = done?;
    for warning in warning_texts(&summary, warnings) {
        tell(&format!("warning: {}", printable(&warning)));
    }
    for line in kept_lines(&summary, talk.verbose) {
        if !talk.quiet || line.starts_with("warning: ") {
            tell(&line);
        }
    }
    if !talk.quiet {
        file_lines(&summary, input, talk.verbose).iter().for_each(|line| tell(line));
        tell(&status(&summary));
    }
    Ok(())
}

/// Prints the result of a job as one line of JSON: the entries of `to_json`, or the error, with `ok`; and the entries of
/// `paths`. Returns the error of a failed job, so that it reaches the exit status even if nothing can be printed.
pub(super) fn say_json(
    done: Result<Summary, Failure>,
    to_json: impl FnOnce(&Summary) -> Value,
    paths: Value,
) -> Result<(), Failure> {
    let mut result = match &done {
        Ok(summary) => to_json(summary),
        Err(error) => json!({ "error": chain(&**error) }),
    };
    result["ok"] = done.is_ok().into();
    if let (Value::Object(result), Value::Object(paths)) = (&mut result, paths) {
        result.extend(paths);
    }
    let said = say(&result.to_string());
    done?;
    said
}

/// Returns the texts of all warnings, the job's and the command's.
fn warning_texts(summary: &Summary, warnings: &[String]) -> Vec<String> {
    let mut texts: Vec<String> = summary.warnings.iter().map(ToString::to_string).collect();
    texts.extend(warnings.iter().cloned());
    if summary.blobs == 0 && !summary.kept.is_empty() {
        texts.push("nothing is compressed".to_owned());
    }
    texts
}

/// Returns the lines on the files of a folder that were left out or copied; of these only large ones, unless `all`.
fn file_lines(summary: &Summary, input: &Path, all: bool) -> Vec<String> {
    let left_out =
        summary.left_out.iter().map(|name| format!("left out: {}", printable_path(name)));
    // Beside the index, if the model was opened by that.
    let root = if input.is_dir() { input } else { input.parent().unwrap_or(Path::new("")) };
    let copied = summary.copied.iter().filter_map(|name| {
        let bytes = fs::metadata(root.join(name)).map_or(0, |status| status.len());
        (all || bytes >= LARGE_COPY)
            .then(|| format!("copied: {} ({})", printable_path(name), size(bytes)))
    });
    left_out.chain(copied).collect()
}

fn to_json(summary: &Summary, warnings: &[String]) -> Value {
    let texts = |paths: &[PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    let kept = |kept: &Kept| {
        let Kept { tensor, weights, bytes, reason, rule, .. } = kept;
        json!({ "tensor": tensor, "weights": weights, "bytes": bytes, "reason": reason.to_string(), "rule": rule })
    };
    json!({
        "tensors": summary.tensors,
        "compressed_tensors": summary.blobs,
        "quantized_tensors": summary.quantized,
        "calibrated_tensors": summary.calibrated,
        "original_bytes": summary.original_bytes,
        "stored_bytes": summary.stored_bytes,
        "kept": summary.kept.iter().map(kept).collect::<Vec<_>>(),
        "warnings": warning_texts(summary, warnings),
        "copied": texts(&summary.copied),
        "left_out": texts(&summary.left_out),
    })
}
