//! The command line: arguments, dispatch, error messages.

mod commands;
mod progress;
mod table;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use regex::Regex;

/// The error of a command. It is printed together with its sources.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures the perplexity of a language model on a text, and moments that calibrate quantizers
#[derive(Debug, Parser)]
#[command(name = "fused-rans-quality", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert a Llama model from GGUF to a Hugging Face folder, in BF16
    Convert(Convert),
    /// Convert the Brown corpus to plain text: score.txt has the files with even numbers,
    /// calibrate.txt those with odd numbers
    Text(Text),
    /// Measure the perplexity of a model on a text
    Perplexity(Perplexity),
    /// Write the second moments of the inputs of every linear layer
    Moments(Moments),
    /// Measure bits, errors and perplexity of each weight format
    Table(Table),
    /// Draw the increase of perplexity over stored bits, as SVG
    Chart(Chart),
    /// Print results as a Markdown table
    Markdown(Markdown),
}

#[derive(Debug, Args)]
struct Convert {
    /// Model to convert
    #[arg(value_name = "IN.gguf")]
    input: PathBuf,
    /// Folder to create; must not exist
    #[arg(value_name = "OUT_FOLDER")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Text {
    /// Folder with the corpus' files ca01 to cr09
    #[arg(value_name = "CORPUS_FOLDER")]
    corpus: PathBuf,
    /// Folder to write score.txt and calibrate.txt to
    #[arg(value_name = "OUT_FOLDER")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Perplexity {
    #[command(flatten)]
    input: Input,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Output of --json for another model, to compare with
    #[arg(long, value_name = "FILE.json")]
    reference: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Moments {
    #[command(flatten)]
    input: Input,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "MOMENTS.safetensors")]
    output: PathBuf,
    /// Store the diagonals only
    #[arg(long)]
    diagonal: bool,
    /// Do not scale inputs. Use this for moments that measure errors of outputs. By default each input is divided by its
    /// root mean square, so that all tokens have the same weight, as calibration needs it
    #[arg(long)]
    unscaled: bool,
}

#[derive(Debug, Args)]
struct Table {
    /// Folder with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "MODEL_FOLDER")]
    model: PathBuf,
    /// Texts to score, concatenated in this order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Moments of another text, which calibrate quantizers: output of `moments`
    #[arg(long, value_name = "MOMENTS.safetensors")]
    moments: PathBuf,
    /// Moments that measure errors of outputs, output of `moments --unscaled`; by default those of --moments
    #[arg(long, value_name = "MOMENTS.safetensors")]
    output_moments: Option<PathBuf>,
    /// Number of windows, evenly distributed over the text
    #[arg(long, value_name = "N", default_value_t = 64)]
    windows: usize,
    /// Number of tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    length: usize,
    /// Measure only formats whose name matches, such as '^rate=4 spread$', and the reference bf16
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// File to write; replaced if it exists. Contains all finished rows
    #[arg(short, long, value_name = "RESULTS.csv")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Chart {
    /// Outputs of `table` for the same model and text
    #[arg(value_name = "RESULTS.csv", required = true)]
    results: Vec<PathBuf>,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "OUT.svg")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Markdown {
    /// Outputs of `table` for the same model and text
    #[arg(value_name = "RESULTS.csv", required = true)]
    results: Vec<PathBuf>,
}

/// Arguments for a model and windows of a text.
#[derive(Debug, Args)]
struct Input {
    /// Folder with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "MODEL_FOLDER")]
    model: PathBuf,
    /// Texts, concatenated in this order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Number of windows, evenly distributed over the text; by default as many as it has
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Number of tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    length: usize,
}

/// Runs the program; returns its exit status.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Convert(args) => commands::convert(&args),
        Command::Text(args) => commands::text(&args),
        Command::Perplexity(args) => commands::perplexity(&args),
        Command::Moments(args) => commands::moments(&args),
        Command::Table(args) => table::table(&args),
        Command::Chart(args) => table::chart(&args),
        Command::Markdown(args) => table::markdown(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_broken_pipe(&*failure) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// Returns an error and its sources in one line.
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

/// Returns whether the reader closed standard output. That is no failure of the job.
fn is_broken_pipe(failure: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
