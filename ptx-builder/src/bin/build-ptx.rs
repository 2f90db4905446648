//! Rebuilds the committed PTX from `kernels-gpu`, or checks it.

use fused_rans_ptx_builder::{Error, Header, Ptx, PtxBuilder, Toolchain, read_ptx};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "\
Usage: build-ptx [--check | --text FILE] [--compiler auto|RUSTC|TOOLCHAIN]

Builds kernels-gpu to ptx/fused_rans_sm_80.ptx.gz, with Debian's rustc, rustup's, or the one given.
  --check      leave the file as it is, and print where the text just built lies: exit with 1 if
               they differ in more than the compiler's host; if another compiler made the file, only
               say so
  --text FILE  leave the file as it is, and write the text just built to FILE";

/// The name of the PTX as text; compressed, it has `.gz` behind it.
const NAME: &str = "fused_rans_sm_80.ptx";

/// What to do with the PTX just built.
enum Task {
    Commit,
    Check,
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

fn build(toolchain: Toolchain, path: &Path) -> Result<ExitCode, Error> {
    builder(toolchain).copy_to(path).build()?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn check(toolchain: Toolchain) -> Result<ExitCode, Error> {
    let committed = read_ptx(committed())?;
    let copy = target().join(NAME);
    let built = builder(toolchain).copy_to(&copy).build()?;
    println!("built {}", copy.display());
    let Header { arch, compiler } = built.header();
    match Header::parse(&committed) {
        Some(header) if !header.compiler.generates_like(compiler) => {
            println!("warning: not checked; the committed PTX was built by\n{}", header.compiler);
            println!("and this compiler is\n{compiler}");
            Ok(ExitCode::SUCCESS)
        }
        Some(header) if header.arch == *arch && Header::split(&committed).1 == built.code() => {
            println!("the committed PTX is what the sources give");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!(
                "error: the committed PTX is not what the sources give; {}",
                hint(&committed, &built)
            );
            eprintln!("Rebuild it: cargo run -p fused-rans-ptx-builder --bin build-ptx");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Where two texts first differ, but for the compiler's host.
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
    "line endings differ".to_owned()
}

fn builder(toolchain: Toolchain) -> PtxBuilder {
    PtxBuilder::fused_rans(root().join("kernels-gpu")).toolchain(toolchain).target_dir(target())
}

/// Where the device crate is built.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root().join("target"), PathBuf::from).join("ptx-builder")
}

fn committed() -> PathBuf {
    root().join("ptx").join(format!("{NAME}.gz"))
}

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}
