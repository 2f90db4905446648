//! The command-line program `fused-rans-quality`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
