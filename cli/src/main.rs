//! The command-line program `fused-rans`.

mod args;
mod commands;
mod progress;
mod report;
#[cfg(target_os = "linux")]
mod signals;
mod terminal;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use report::text::printable;
use terminal::{Failure, chain, tell};

/// Runs the program.
fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_broken_pipe(&*failure) => ExitCode::SUCCESS,
        Err(failure) => {
            // Names and paths may contain anything.
            tell(&format!("error: {}", printable(&chain(&*failure))));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    signals::handle()?;
    match command {
        Command::Compress(args) => commands::compress::run(args),
        Command::Decompress(args) => commands::decompress::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Demo(threads) => commands::demo::run(threads),
    }
}

/// Returns whether the reader of standard output has closed it. That is no failure, because the job itself is done by
/// then. Broken pipes elsewhere cannot be meant: the library writes files only and wraps their errors in `FileError`.
fn is_broken_pipe(failure: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
