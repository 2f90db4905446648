//! Command line: arguments, dispatch, errors.

mod commands;
mod progress;
mod table;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use regex::Regex;

/// What a command fails with. Its sources are printed after it.
type Failure = Box<dyn Error + Send + Sync>;

/// Perplexity of a language model on a text, and the moments that calibrate a quantizer.
#[derive(Debug, Parser)]
#[command(name = "fused-rans-quality", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert a Llama model in GGUF to a Hugging Face folder, in BF16
    Convert(Convert),
    /// Convert the Brown corpus to plain text: score.txt has the files with even numbers,
    /// calibrate.txt those with odd numbers
    Text(Text),
    /// Measure the perplexity of a model on a text
    Perplexity(Perplexity),
    /// Write the second moments of the inputs of every linear layer
    Moments(Moments),
    /// Measure what each weight format costs: bits, errors, perplexity
    Table(Table),
    /// Draw a table's perplexities over its bits, as SVG
    Chart(Chart),
    /// Print a table as Markdown
    Markdown(Markdown),
}

#[derive(Debug, Args)]
struct Convert {
    /// Model to convert
    #[arg(value_name = "IN.gguf")]
    input: PathBuf,
    /// Folder to write; must not exist
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
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What --json printed for another model: measure the difference, too
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
    /// Only the diagonals
    #[arg(long)]
    diagonal: bool,
    /// Of the inputs as they are, for errors of outputs; by default each is divided by its root mean square, so that all
    /// tokens count alike, for calibration
    #[arg(long)]
    as_they_are: bool,
}

#[derive(Debug, Args)]
struct Table {
    /// Folder with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "MODEL_FOLDER")]
    model: PathBuf,
    /// Texts to score, taken as one in this order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// What `moments` wrote, of another text: calibrates the formats that are
    #[arg(long, value_name = "MOMENTS.safetensors")]
    moments: PathBuf,
    /// Moments by which errors of outputs are measured; those of --moments by default
    #[arg(long, value_name = "MOMENTS.safetensors")]
    output_moments: Option<PathBuf>,
    /// Windows, spread evenly over the text
    #[arg(long, value_name = "N", default_value_t = 64)]
    windows: usize,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    length: usize,
    /// Only formats whose name matches, such as '^rate=4 spread$'; bf16 always, as the reference
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// File to write; replaced if it exists. Has every row that is finished
    #[arg(short, long, value_name = "RESULTS.csv")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Chart {
    /// What `table` wrote, of the same model and text
    #[arg(value_name = "RESULTS.csv", required = true)]
    results: Vec<PathBuf>,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "OUT.svg")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Markdown {
    /// What `table` wrote, of the same model and text
    #[arg(value_name = "RESULTS.csv", required = true)]
    results: Vec<PathBuf>,
}

/// A model and windows of a text.
#[derive(Debug, Args)]
struct Input {
    /// Folder with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "MODEL_FOLDER")]
    model: PathBuf,
    /// Texts, taken as one in this order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Windows, spread evenly over the text; all that it has by default
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    length: usize,
}

/// Runs the program.
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

/// Whether the reader of standard output had enough: the job itself was done.
fn is_broken_pipe(failure: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
