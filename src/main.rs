//! The command-line program `fused-rans`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
