//! Lines on standard output and standard error.

use std::error::Error;
use std::io::{self, Write};

/// Error of a command. The program prints it with [`chain`].
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Prints a line on standard output.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // Returns a broken pipe as it is: the caller decides whether it is a failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        said => Ok(said?),
    }
}

/// Prints a line on standard error. Ignores errors, because there is no other place to report them.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Returns an error and its sources in one line.
pub(crate) fn chain(failure: &(dyn Error + 'static)) -> String {
    let mut line = failure.to_string();
    let mut source = failure.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
