//! The command-line program `fused-rans`: arguments, dispatch, errors.

mod bench_command;
mod commands;
mod demo;
mod plot;
mod progress;
#[cfg(target_os = "linux")]
mod signals;
mod table;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use fused_rans::quantize::{QuantizeError, Quantizer};
use fused_rans::{WeightsPerSymbol, file};
use regex::Regex;

/// Most threads that can be asked for.
const MAX_THREADS: u64 = 1024;

/// Most rows of x that can be asked for.
const MAX_BATCH: u64 = 1024;

/// What a command fails with. Its sources are printed after it.
type Failure = Box<dyn Error + Send + Sync>;

/// Weights of language models in fewer bits, without loss or with as much as you choose.
#[derive(Debug, Parser)]
#[command(name = "fused-rans", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compress a .safetensors file, or all of a model; what comes out are valid .safetensors files, too
    Compress(Compress),
    /// Restore what was compressed: byte for byte, if it was without loss
    Decompress(Decompress),
    /// List the tensors of a file or a model, compressed or not, their sizes and entropies
    Inspect(Inspect),
    /// Check every checksum of a compressed file or model and decode all of it
    Verify(Verify),
    /// Measure y = x W^T on a GPU, straight from the compressed layers of a file, against cuBLAS
    Bench(Bench),
    /// Compress, verify and restore real weights that come with the program
    Demo(Threads),
}

#[derive(Debug, Args)]
struct Compress {
    /// What to compress: a .safetensors file, a model's .safetensors.index.json, or its Hugging Face folder
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// File to write, replaced if it exists; of an index or a folder a folder, which must not exist or be empty
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// How to store the weights: `lossless`; or quantized, embeddings and norms left alone: `int8`, `int4`,
    /// `int4-zero-points`, `fp8`, `rate=R` with R from 2 to 7 bits a weight, everything counted
    #[arg(long, value_name = "FORMAT", default_value = "lossless", value_parser = format)]
    format: Format,
    /// Take the rate as an average, and give each layer so much of it that the sum of their relative errors is least
    #[arg(long)]
    spread: bool,
    /// Second moments of the layers' inputs, as a .safetensors file: rates then cost less quality
    #[arg(long, value_name = "MOMENTS.safetensors")]
    calibration: Option<PathBuf>,
    /// Rules for single layers, as a TOML file
    #[arg(long, value_name = "RULES.toml")]
    rules: Option<PathBuf>,
    /// How many weights share a symbol, of integers: 2 are smaller, 4 are multiplied faster on a GPU
    #[arg(long, value_name = "N", default_value = "2", value_parser = weights_per_symbol)]
    weights_per_symbol: WeightsPerSymbol,
    /// Compress only tensors whose name this pattern is found in; quantize embeddings, too, if it is
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    include: Option<Regex>,
    /// Leave tensors alone whose name this pattern is found in
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    exclude: Option<Regex>,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    /// Every bit comes back
    Lossless,
    Quantized(Quantizer),
}

/// `lossless`, or a quantizer
fn format(text: &str) -> Result<Format, String> {
    match text {
        "lossless" => Ok(Format::Lossless),
        _ => text.parse().map(Format::Quantized).map_err(|error| match error {
            QuantizeError::Unknown(_) => format!("{error}, `lossless`"),
            _ => error.to_string(),
        }),
    }
}

/// `2` or `4`
fn weights_per_symbol(text: &str) -> Result<WeightsPerSymbol, String> {
    let weights_per_symbol = text.parse().ok().and_then(WeightsPerSymbol::from_code);
    weights_per_symbol.ok_or_else(|| "neither 2 nor 4".to_owned())
}

#[derive(Debug, Args)]
struct Decompress {
    /// File, index or folder to restore from
    #[arg(value_name = "COMPRESSED")]
    input: PathBuf,
    /// File to write, replaced if it exists; of an index or a folder a folder, which must not exist or be empty
    #[arg(short, long, value_name = "BACK")]
    output: PathBuf,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Debug, Args)]
struct Inspect {
    /// File, index or folder to list
    #[arg(value_name = "MODEL")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also draw the bits per weight of all layers, and their entropies; the file is replaced if it exists
    #[arg(long, value_name = "OUT.svg", value_parser = PathBufValueParser::new().try_map(plot::svg_path))]
    plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Verify {
    /// Compressed file, index or folder to check
    #[arg(value_name = "COMPRESSED")]
    file: PathBuf,
    /// Also compare every tensor with those of this one; of quantized ones, tell the errors
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Debug, Args)]
struct Bench {
    /// File whose layers to measure: a compressed one, or a plain one, which is compressed in memory
    file: PathBuf,
    /// Rows of x, up to 1024, in one multiplication each
    #[arg(long, value_name = "M,...", value_delimiter = ',', default_value = "1,8,16",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BATCH))]
    batch: Vec<usize>,
    /// Number of the GPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
struct Threads {
    /// Threads to use, up to 1024; 0 for one a core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = thread_count())]
    threads: usize,
}

fn thread_count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=MAX_THREADS)
}

impl Threads {
    /// Runs `job` on a pool of this many threads.
    fn run<T: Send>(self, job: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        Ok(file::on_threads(self.threads, job)?)
    }
}

/// Runs the program.
fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_broken_pipe(&*failure) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&format!("error: {}", chain(&*failure)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    signals::handle()?;
    match command {
        Command::Compress(args) => commands::compress(args),
        Command::Decompress(args) => commands::decompress(&args),
        Command::Inspect(args) => commands::inspect(&args),
        Command::Verify(args) => commands::verify(&args),
        Command::Bench(args) => bench_command::run(&args),
        Command::Demo(threads) => demo::run(threads),
    }
}

/// Prints a line on standard error. Where that cannot be done there is nobody to be told.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// An error and its sources in one line.
fn chain(failure: &(dyn Error + 'static)) -> String {
    let mut line = failure.to_string();
    let mut source = failure.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// Whether the reader of standard output had enough: the job itself was done. Outputs of the
/// library are files, whose faults come as `FileError`.
fn is_broken_pipe(failure: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
