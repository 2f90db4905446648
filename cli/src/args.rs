//! The command line: commands, options and what their values may be.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use fused_rans::quantize::{QuantizeError, Quantizer};
use fused_rans::{WeightsPerSymbol, file};
use regex::Regex;

use crate::terminal::Failure;

/// Most threads that can be asked for.
const MAX_THREADS: u64 = 1024;

/// Most rows of x that can be asked for.
const MAX_BATCH: u64 = 1024;

/// Weights of language models in fewer bits, without loss or with as much as you choose.
#[derive(Debug, Parser)]
#[command(name = "fused-rans", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
pub(crate) struct Compress {
    /// What to compress: a .safetensors file, a model's .safetensors.index.json, or its Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) input: PathBuf,
    /// File to write, replaced if it exists; of an index or a folder a folder, which must not exist or be empty
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// How to store the weights: `lossless`; or quantized, embeddings and norms left alone: `int8`, `int4`,
    /// `int4-zero-points`, `fp8`, `rate=R` with R from 2 to 7 bits a weight, everything counted
    #[arg(long, value_name = "FORMAT", default_value = "lossless", value_parser = format)]
    pub(crate) format: Format,
    /// Take the rate as an average, and give each layer so much of it that the sum of their relative errors is least
    #[arg(long)]
    pub(crate) spread: bool,
    /// Second moments of the layers' inputs, as a .safetensors file: rates then cost less quality
    #[arg(long, value_name = "MOMENTS.safetensors")]
    pub(crate) calibration: Option<PathBuf>,
    /// Rules for single layers, as a TOML file
    #[arg(long, value_name = "RULES.toml")]
    pub(crate) rules: Option<PathBuf>,
    /// How many weights share a symbol, of integers: 2 are smaller, 4 are multiplied faster on a GPU
    #[arg(long, value_name = "N", default_value = "2", value_parser = weights_per_symbol)]
    pub(crate) weights_per_symbol: WeightsPerSymbol,
    /// Compress only tensors whose name this pattern is found in; quantize embeddings, too, if it is
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub(crate) include: Option<Regex>,
    /// Leave tensors alone whose name this pattern is found in
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub(crate) exclude: Option<Regex>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
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
pub(crate) struct Decompress {
    /// File, index or folder to restore from
    #[arg(value_name = "COMPRESSED")]
    pub(crate) input: PathBuf,
    /// File to write, replaced if it exists; of an index or a folder a folder, which must not exist or be empty
    #[arg(short, long, value_name = "BACK")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// File, index or folder to list
    #[arg(value_name = "MODEL")]
    pub(crate) file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also draw the bits per weight of all layers, and their entropies; the file is replaced if it exists
    #[arg(long, value_name = "OUT.svg", value_parser = PathBufValueParser::new().try_map(svg_path))]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Compressed file, index or folder to check
    #[arg(value_name = "COMPRESSED")]
    pub(crate) file: PathBuf,
    /// Also compare every tensor with those of this one; of quantized ones, tell the errors
    #[arg(long, value_name = "MODEL")]
    pub(crate) against: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// File whose layers to measure: a compressed one, or a plain one, which is compressed in memory
    pub(crate) file: PathBuf,
    /// Rows of x, up to 1024, in one multiplication each
    #[arg(long, value_name = "M,...", value_delimiter = ',', default_value = "1,8,16",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BATCH))]
    pub(crate) batch: Vec<usize>,
    /// Number of the GPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Threads {
    /// Threads to use, up to 1024; 0 for one a core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = thread_count())]
    pub(crate) threads: usize,
}

fn thread_count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=MAX_THREADS)
}

impl Threads {
    /// Runs `job` on a pool of this many threads.
    pub(crate) fn run<T: Send>(self, job: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        Ok(file::on_threads(self.threads, job)?)
    }
}

/// A path that ends in `.svg`, so that no slip puts a chart in the place of weights.
fn svg_path(path: PathBuf) -> Result<PathBuf, &'static str> {
    let is_svg = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(path) } else { Err("the name does not end in .svg") }
}
