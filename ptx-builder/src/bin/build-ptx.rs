//! Rebuilds the committed PTX of both sets of kernels from `kernels-gpu`, or checks that it is up to date.

use fused_rans_ptx_builder::{Error, Header, KernelSet, Ptx, PtxBuilder, Toolchain, read_ptx};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "\
Usage: build-ptx [--check | --text FILE] [--set sm80|sm90] [--compiler auto|RUSTC|TOOLCHAIN]

Builds kernels-gpu and writes the PTX of both sets of kernels: to ptx/fused_rans_sm_80.ptx.lzma and
ptx/fused_rans_sm_90a.ptx.lzma.
  --check          do not write these files: compare them with a new build, print the paths of the
                   new build's texts, and exit with 1 if they differ (the compiler's host may differ);
                   if another compiler built a file, print a warning and do not compare
  --text FILE      do not write these files: write the PTX as plain text to FILE; needs --set
  --set NAME       build this set only: sm80, for compute capability 8.0 and newer, or sm90, for
                   compute capability 9.0 only
  --compiler NAME  build with the rustc at this path or the rustup toolchain of this name; `auto`,
                   the default, takes Debian's rustc if it is new enough, else rustup's";

/// The command line.
struct Arguments {
    task: Task,
    /// The set of `--set`; `None` for both.
    set: Option<KernelSet>,
    toolchain: Toolchain,
}

/// The action that the command line asks for.
enum Task {
    /// Writes the committed files.
    Commit,
    /// Compares the committed files with a new build.
    Check,
    /// Writes the PTX as plain text to this file.
    Text(PathBuf),
}

fn main() -> ExitCode {
    let Some(arguments) = parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Reads the command line; returns `None` if it is invalid.
fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut task, mut set, mut toolchain) = (Task::Commit, None, Toolchain::Auto);
    while let Some(word) = words.next() {
        match (word.as_str(), &task) {
            ("--check", Task::Commit) => task = Task::Check,
            ("--text", Task::Commit) => task = Task::Text(words.next()?.into()),
            ("--set", _) => set = Some(KernelSet::from_name(&words.next()?)?),
            ("--compiler", _) => toolchain = Toolchain::from_setting(&words.next()?),
            _ => return None,
        }
    }
    // One file cannot take the text of both sets.
    let is_valid = set.is_some() || !matches!(task, Task::Text(_));
    is_valid.then_some(Arguments { task, set, toolchain })
}

/// Does the task for each set that the command line asks for. Does not stop at a file that does not
/// match, so that the output names all of them.
fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut is_current = true;
    for set in
        KernelSet::ALL.into_iter().filter(|&set| arguments.set.is_none_or(|only| only == set))
    {
        let builder = builder(set, arguments.toolchain.clone());
        match &arguments.task {
            Task::Commit => build(&builder, &committed(set))?,
            Task::Text(path) => build(&builder, path)?,
            Task::Check => is_current &= check(&builder, set)?,
        }
    }
    Ok(if is_current { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the PTX, writes it to `path`, and prints the path.
fn build(builder: &PtxBuilder, path: &Path) -> Result<(), Error> {
    builder.clone().copy_to(path).build()?;
    println!("{}", path.display());
    Ok(())
}

/// Builds the PTX of `set` and compares it with the committed file. Ignores the compiler's host. Returns
/// false if they differ.
fn check(builder: &PtxBuilder, set: KernelSet) -> Result<bool, Error> {
    let path = committed(set);
    let committed = read_ptx(&path)?;
    let copy = target().join(set.file_name());
    let built = builder.clone().copy_to(&copy).build()?;
    println!("built {}", copy.display());
    let (path, Header { arch, compiler }) = (path.display(), built.header());
    match Header::parse(&committed) {
        Some(header) if !header.compiler.generates_like(compiler) => {
            println!("warning: {path} was not checked: it was built by\n{}", header.compiler);
            println!("but this compiler is\n{compiler}");
            Ok(true)
        }
        Some(header) if header.arch == *arch && Header::split(&committed).1 == built.code() => {
            println!("{path} matches the sources");
            Ok(true)
        }
        _ => {
            eprintln!("error: {path} does not match the sources: {}", hint(&committed, &built));
            eprintln!(
                "To rebuild it, run: cargo run -p fused-rans-ptx-builder --bin build-ptx -- --set {}",
                set.name()
            );
            Ok(false)
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

/// Returns the builder of the committed PTX of `set`.
fn builder(set: KernelSet, toolchain: Toolchain) -> PtxBuilder {
    let builder = PtxBuilder::fused_rans(root().join("kernels-gpu"), set);
    builder.toolchain(toolchain).target_dir(target())
}

/// Returns the directory to build the device crate in.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root().join("target"), PathBuf::from).join("ptx-builder")
}

/// Returns the path of the committed PTX of `set`.
fn committed(set: KernelSet) -> PathBuf {
    root().join("ptx").join(set.file_name() + ".lzma")
}

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is a folder of the repository")
}
