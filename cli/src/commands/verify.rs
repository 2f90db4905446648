//! The command `fused-rans verify`.

use fused_rans::file::{self, Progress, RelativeError, Summary};
use serde_json::{Value, json};

use super::outcome::say_json;
use crate::args::Verify;
use crate::progress::Bar;
use crate::report::listing::error_table;
use crate::report::text::{printable, printable_path};
use crate::terminal::{Failure, say, tell};

/// Relative error above which a warning asks whether a tensor was compared with the right one. Normally distributed weights
/// stay below it even at two bits per weight.
const LARGE_ERROR: f64 = 0.5;

/// Verifies the input and prints the result as text or JSON.
pub(crate) fn run(args: &Verify) -> Result<(), Failure> {
    let bar = Bar::new("verifying", args.quiet);
    let job = || {
        let progress = Progress::new(|done, total| bar.set(done, total));
        match &args.against {
            Some(against) => file::verify_against(&args.file, against, progress),
            None => file::verify(&args.file, progress),
        }
    };
    let verified = args.threads.run(job).and_then(|verified| Ok(verified?));
    drop(bar);
    if let Ok(Summary { errors, .. }) = &verified {
        warn_of_errors(errors);
    }
    if args.json {
        let against = args.against.as_ref().map(|path| path.to_string_lossy());
        let paths = json!({ "file": args.file.to_string_lossy(), "against": against });
        return say_json(verified, to_json, paths);
    }
    let Summary { tensors, blobs, quantized, errors, .. } = verified?;
    if args.quiet {
        return Ok(());
    }
    if !errors.is_empty() {
        say(error_table(&errors).to_string().trim_end())?;
    }
    let path = printable_path(&args.file);
    let equal = match (&args.against, quantized) {
        (Some(against), 0) => format!(", all equal to {}", printable_path(against)),
        (Some(against), _) => {
            format!(", all but {quantized} quantized ones equal to {}", printable_path(against))
        }
        (None, 0) => String::new(),
        (None, _) => format!(", {quantized} of them quantized"),
    };
    say(&format!("{path}: intact ({tensors} tensors, {blobs} of them compressed{equal})"))
}

fn to_json(summary: &Summary) -> Value {
    json!({
        "tensors": summary.tensors,
        "compressed_tensors": summary.blobs,
        "quantized_tensors": summary.quantized,
        "errors": summary.errors,
        "original_bytes": summary.original_bytes,
        "stored_bytes": summary.stored_bytes,
    })
}

/// Warns of tensors that are probably compared with another model's.
fn warn_of_errors(errors: &[RelativeError]) {
    for RelativeError { tensor, relative_error, .. } in errors {
        if *relative_error > LARGE_ERROR {
            let tensor = printable(tensor);
            tell(&format!(
                "warning: {tensor}: a relative error of {relative_error:.3} is large; is this what was compressed?"
            ));
        }
    }
}
