//! Rebuilds the committed PTX from `kernels-gpu`, or checks that it is up to date.

use fused_rans_ptx_builder::{Error, Header, Ptx, PtxBuilder, Toolchain, read_ptx};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "\
Usage: build-ptx [--check | --text FILE] [--compiler auto|RUSTC|TOOLCHAIN]

Builds kernels-gpu and writes the PTX to ptx/fused_rans_sm_80.ptx.gz.
  --check          do not write that file: compare it with a new build, print the path of the new
                   build's text, and exit with 1 if they differ (the compiler's host may differ);
                   if another compiler built the file, print a warning and do not compare
  --text FILE      do not write that file: write the PTX as plain text to FILE
  --compiler NAME  build with the rustc at this path or the rustup toolchain of this name; `auto`,
                   the default, takes Debian's rustc if it is new enough, else rustup's";

/// File name of the PTX as plain text. The compressed file's name is the same with `.gz` appended.
const NAME: &str = "fused_rans_sm_80.ptx";

/// The action that the command line asks for.
enum Task {
    /// Writes the committed file.
    Commit,
    /// Compares the committed file with a new build.
    Check,
    /// Writes the PTX as plain text to this file.
    Text(PathBuf),
}

fn main() -> ExitCode {
    let Some((task, toolchain)) = parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match task {
        Task::Commit => build(toolchain, &committed()),
        Task::Check => check(toolchain),
        Task::Text(path) => build(toolchain, &path),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Reads the command line's arguments; returns `None` if they are invalid.
fn parse(mut words: impl Iterator<Item = String>) -> Option<(Task, Toolchain)> {
    let (mut task, mut toolchain) = (Task::Commit, Toolchain::Auto);
    while let Some(word) = words.next() {
        match (word.as_str(), &task) {
            ("--check", Task::Commit) => task = Task::Check,
            ("--text", Task::Commit) => task = Task::Text(words.next()?.into()),
            ("--compiler", _) => toolchain = Toolchain::from_setting(&words.next()?),
            _ => return None,
        }
    }
    Some((task, toolchain))
}

/// Builds the PTX, writes it to `path`, and prints the path.
fn build(toolchain: Toolchain, path: &Path) -> Result<ExitCode, Error> {
    builder(toolchain).copy_to(path).build()?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the PTX and compares it with the committed file. Ignores the compiler's host.
fn check(toolchain: Toolchain) -> Result<ExitCode, Error> {
    let committed = read_ptx(committed())?;
    let copy = target().join(NAME);
    let built = builder(toolchain).copy_to(&copy).build()?;
    println!("built {}", copy.display());
    let Header { arch, compiler } = built.header();
    match Header::parse(&committed) {
        Some(header) if !header.compiler.generates_like(compiler) => {
            println!(
                "warning: the committed PTX was not checked: it was built by\n{}",
                header.compiler
            );
            println!("but this compiler is\n{compiler}");
            Ok(ExitCode::SUCCESS)
        }
        Some(header) if header.arch == *arch && Header::split(&committed).1 == built.code() => {
            println!("the committed PTX matches the sources");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!(
                "error: the committed PTX does not match the sources: {}",
                hint(&committed, &built)
            );
            eprintln!("To rebuild it, run: cargo run -p fused-rans-ptx-builder --bin build-ptx");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Describes the first difference of two PTX texts. Ignores the compiler's host.
fn hint(committed: &str, built: &Ptx) -> String {
    let (mut old, mut new) = (committed.lines(), built.as_str().lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (Some(old), Some(_)) if old.starts_with("// host: ") => {}
            (old, new) if old != new => {
                let (old, new) = (old.unwrap_or("(end)"), new.unwrap_or("(end)"));
                return format!("line {number}:\n- {old}\n+ {new}");
            }
            _ => {}
        }
    }
    "only line endings differ".to_owned()
}

/// Returns the builder of the committed PTX.
fn builder(toolchain: Toolchain) -> PtxBuilder {
    PtxBuilder::fused_rans(root().join("kernels-gpu")).toolchain(toolchain).target_dir(target())
}

/// Returns the directory to build the device crate in.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root().join("target"), PathBuf::from).join("ptx-builder")
}

/// Returns the path of the committed PTX.
fn committed() -> PathBuf {
    root().join("ptx").join(format!("{NAME}.gz"))
}

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is a folder of the repository")
}
