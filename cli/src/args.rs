//! Command-line arguments: commands, their options, and the checks of option values.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use fused_rans::quantize::{QuantizeError, Quantizer};
use fused_rans::{WeightsPerSymbol, file};
use regex::Regex;

use crate::terminal::Failure;

/// Largest value of `--threads`.
const MAX_THREADS: u64 = 1024;

/// Largest value in `--batch`.
const MAX_BATCH: u64 = 1024;

/// Columns of a help page on a wide terminal.
const HELP_COLUMNS: usize = 100;

/// Examples at the end of `fused-rans --help`.
const EXAMPLES: &str = "\
Examples:
  fused-rans compress model.safetensors -o small.safetensors
  fused-rans verify small.safetensors --against model.safetensors
  fused-rans decompress small.safetensors -o back.safetensors
  fused-rans compress Llama/ -o Llama-4bit/ --format rate=4
  fused-rans inspect Llama-4bit/ --plot layers.svg

`fused-rans COMMAND --help` explains the options of a command.";

/// Compress the weights of language models, without loss or to the bits per weight that you choose
#[derive(Debug, Parser)]
#[command(name = "fused-rans", version, max_term_width = HELP_COLUMNS, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compress a .safetensors file or a whole model
    ///
    /// The output is a valid .safetensors file, or a folder of them, that other tools can open. By default nothing is
    /// lost: `fused-rans decompress` restores every byte. Use --format to quantize linear layers to fewer bits.
    Compress(Compress),
    /// Restore a compressed file or model
    ///
    /// Files that were compressed without loss come back byte for byte. Quantized tensors come back as dequantized
    /// weights in the original dtype.
    Decompress(Decompress),
    /// List tensors with their sizes, bits per weight and entropies
    ///
    /// Takes compressed and uncompressed models.
    Inspect(Inspect),
    /// Check every checksum and decode every tensor
    ///
    /// Fails at the first damaged tensor and names it. Use --against to compare the result with the original model.
    Verify(Verify),
    /// Measure products with compressed layers on a GPU
    ///
    /// Measures y = x W^T straight from the compressed weights W. Every output is verified first; then the product is
    /// timed in turns with cuBLAS, if that is installed. Needs an NVIDIA GPU and a program that was built with the
    /// feature `cuda`.
    Bench(Bench),
    /// Compress, verify and restore real weights that come with the program
    ///
    /// Use it to see whether the program works on this machine and how fast it is. Works in a temporary folder.
    Demo(Threads),
}

#[derive(Debug, Args)]
pub(crate) struct Compress {
    /// Model to compress: a .safetensors file, a .safetensors.index.json file or a folder
    ///
    /// Of a folder, everything is taken that a program needs to load the model: its .safetensors files, those in folders
    /// inside of it, tokenizer, configuration and so on. What is left out is listed.
    #[arg(value_name = "MODEL", value_parser = path())]
    pub(crate) input: PathBuf,
    /// Write the compressed file here, or the folder if MODEL is an index or a folder
    ///
    /// An existing file is replaced. A folder must be empty or not exist.
    #[arg(short, long, value_name = "OUT", value_parser = path())]
    pub(crate) output: PathBuf,
    /// Store weights as `lossless`, `int8`, `fp8`, `int4`, `int4-zero-points` or `rate=R`
    ///
    /// `lossless`: every bit is restored.
    /// `int8`, `fp8`: 8-bit numbers, one scale per row.
    /// `int4`, `int4-zero-points`: 4-bit integers, one scale per 128 weights.
    /// `rate=R`: integers, one scale per row, R bits per weight in total (2 to 7). Use it
    /// for the best quality at a given size.
    ///
    /// All but `lossless` quantize linear layers only. Embeddings, norms and biases stay lossless
    /// unless --include or a rule names them; routers, code books and parameters of state-space
    /// models unless a rule does; scales of weights that are quantized already stay so always.
    #[arg(long, value_name = "FORMAT", default_value = "lossless", value_parser = format, verbatim_doc_comment)]
    pub(crate) format: Format,
    /// With --format rate=R, let R be the average of all layers
    ///
    /// Layers that are hard to quantize get more bits, others get fewer, so that the sum of the layers' relative errors
    /// is least. The gain depends on the model and the rate: measure before you rely on it.
    #[arg(long)]
    pub(crate) spread: bool,
    /// With --format rate=R, use these second moments of the layers' inputs to lose less quality
    ///
    /// Each weight then makes up for the rounding errors of the weights before it. `docs/quality.md` says how to collect
    /// moments.
    #[arg(long, value_name = "MOMENTS.safetensors")]
    pub(crate) calibration: Option<PathBuf>,
    /// Override the format of single layers by the rules in this file
    ///
    /// Each `[[layer]]` table has a `name`, a regular expression that is searched for in tensor names, and any of the
    /// keys `format` (a --format value, or `raw` for no compression), `weight` (importance with --spread), `raw_bits`
    /// and `weights_per_symbol`. For each key, the last matching rule counts.
    #[arg(long, value_name = "RULES.toml")]
    pub(crate) rules: Option<PathBuf>,
    /// Code 2 or 4 integer weights per symbol: 2 for smaller files, 4 for faster products on a GPU
    #[arg(long, value_name = "N", default_value = "2", value_parser = weights_per_symbol)]
    pub(crate) weights_per_symbol: WeightsPerSymbol,
    /// Compress only tensors in whose name this pattern is found
    ///
    /// The other tensors keep their bytes. A quantizer also quantizes embeddings, norms and biases that match.
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub(crate) include: Option<Regex>,
    /// Do not compress tensors in whose name this pattern is found
    ///
    /// Overrides --include.
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub(crate) exclude: Option<Regex>,
    #[command(flatten)]
    pub(crate) talk: Talk,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// What a job says beside its errors and warnings. All of it goes to standard error, but for JSON.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Talk {
    /// Say nothing but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// List every tensor and file that was left as it was or left out, and every file that was copied
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print one line of JSON on standard output instead of text; use it in scripts
    #[arg(long)]
    pub(crate) json: bool,
}

/// Value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Lossless,
    Quantized(Quantizer),
}

/// Parses `lossless` or the name of a quantizer.
fn format(text: &str) -> Result<Format, String> {
    match text {
        "lossless" => Ok(Format::Lossless),
        _ => text.parse().map(Format::Quantized).map_err(|error| match error {
            QuantizeError::UnknownQuantizer(_) => {
                "use `lossless`, `int8`, `int4`, `int4-zero-points`, `fp8`, or `rate=R` with R from 2 to 7".to_owned()
            }
            _ => error.to_string(),
        }),
    }
}

/// Parses `2` or `4`.
fn weights_per_symbol(text: &str) -> Result<WeightsPerSymbol, String> {
    let weights_per_symbol = text.parse().ok().and_then(WeightsPerSymbol::from_code);
    weights_per_symbol.ok_or_else(|| "use 2 or 4".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Decompress {
    /// Compressed file, index or folder
    #[arg(value_name = "COMPRESSED", value_parser = path())]
    pub(crate) input: PathBuf,
    /// Write the restored file here, or the folder if COMPRESSED is an index or a folder
    ///
    /// An existing file is replaced. A folder must be empty or not exist.
    #[arg(short, long, value_name = "BACK", value_parser = path())]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) talk: Talk,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// File, index or folder, compressed or not
    #[arg(value_name = "MODEL", value_parser = path())]
    pub(crate) file: PathBuf,
    /// Print one line of JSON instead of a table; use it in scripts
    #[arg(long)]
    pub(crate) json: bool,
    /// Also draw the bits per weight and the entropy of every layer to this file
    ///
    /// An existing file is replaced.
    #[arg(long, value_name = "OUT.svg", value_parser = PathBufValueParser::new().try_map(svg_path))]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Compressed file, index or folder
    #[arg(value_name = "COMPRESSED", value_parser = path())]
    pub(crate) file: PathBuf,
    /// Also compare every tensor with this original model
    ///
    /// Lossless tensors must be equal, bit for bit. For quantized tensors, prints the relative error.
    #[arg(long, value_name = "MODEL", value_parser = path())]
    pub(crate) against: Option<PathBuf>,
    /// Say nothing but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print one line of JSON instead of text; use it in scripts
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// File whose layers to measure; the layers of an uncompressed file are compressed in memory
    pub(crate) file: PathBuf,
    /// Measure with these numbers of rows of x, each from 1 to 1024
    #[arg(long, value_name = "M,...", value_delimiter = ',', default_value = "1,8,16",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BATCH))]
    pub(crate) batch: Vec<usize>,
    /// Use the GPU of this number; 0 is the first one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: u32,
    /// Print one line of JSON instead of a table; use it in scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Threads {
    /// Use this many threads, up to 1024; 0 means one per core
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

/// Parses paths, but for `-`: files are mapped into memory and written at two places, which a pipe cannot do.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err(
            "standard input and output cannot be used; name a file, or `./-` for a file called `-`",
        ),
        false => Ok(path),
    })
}

/// Accepts only paths that end in `.svg`, so that a slip cannot replace weights by a chart.
fn svg_path(path: PathBuf) -> Result<PathBuf, &'static str> {
    let is_svg = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(path) } else { Err("the file name must end in .svg") }
}
