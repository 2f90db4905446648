//! The command `fused-rans demo`: the whole way on real weights.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use fused_rans::file::{self, CompressOptions, CompressedFile, Progress, Temporary, TensorReport};
use fused_rans::{Matrix, encode};

use crate::args::Threads;
use crate::report::table::{Align, Table};
use crate::report::text::{printable, shape, size};
#[cfg(feature = "cuda")]
use crate::terminal::chain;
use crate::terminal::{Failure, say};

/// Two linear layers of whisper-base. `data/README.md` names their source and license.
const WEIGHTS: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/data/whisper-base-sample.bf16.safetensors"
));

/// Runs of a timed job; the fastest one counts.
const RUNS: usize = 5;

/// Runs the demonstration and prints its lines, once all of it has succeeded.
pub(crate) fn run(threads: Threads) -> Result<(), Failure> {
    for line in threads.run(|| demonstrate(threads))?? {
        say(&line)?;
    }
    Ok(())
}

/// Compresses, verifies, restores and measures the weights in a temporary folder; returns the lines to print.
fn demonstrate(threads: Threads) -> Result<Vec<String>, Failure> {
    let parent = env::temp_dir();
    let directory = Temporary::create(&parent, |path| fs::create_dir(path));
    let ((), directory) = directory.map_err(at(&parent))?;
    let path = |name| directory.path().join(name);
    let (plain, packed, back) = (path("in"), path("out"), path("back"));
    fs::write(&plain, WEIGHTS).map_err(at(&plain))?;
    let options = CompressOptions::default();
    let summary = file::compress(&plain, &packed, &options, Progress::silent())?;
    file::verify_against(&packed, &plain, Progress::silent())?;
    file::decompress(&packed, &back, Progress::silent())?;
    if fs::read(&back).map_err(at(&back))? != WEIGHTS {
        return Err("the restored file differs from the original".into());
    }
    let mut lines = vec![
        format!(
            "Two linear layers of whisper-base (BF16), compressed without loss: {} -> {}.",
            size(summary.original_bytes),
            size(summary.stored_bytes)
        ),
        "Every checksum verified; the restored file is byte-identical to the original.".to_owned(),
        String::new(),
    ];
    let compressed = CompressedFile::open(&packed)?;
    let table = table(&compressed, &plain)?.to_string();
    lines.extend(table.lines().map(ToOwned::to_owned));
    let threads = match threads.threads {
        0 => "all CPU threads".to_owned(),
        1 => "1 CPU thread".to_owned(),
        threads => format!("{threads} CPU threads"),
    };
    lines.push(format!(
        "Sizes in bytes; MB/s of BF16 weights, on {threads}; entropy in bits per weight."
    ));
    lines.push(String::new());
    lines.push(gpu_line(&compressed)?);
    Ok(lines)
}

/// Adds the path to an error of the operating system.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| format!("{}: {error}", path.display()).into()
}

/// Measures the layers; returns a table with a row for each and one for the file.
fn table(compressed: &CompressedFile, plain: &Path) -> Result<Table, Failure> {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("layer", Left),
        ("shape", Left),
        ("original", Right),
        ("stored", Right),
        ("bits/weight", Right),
        ("entropy", Right),
        ("ratio", Right),
        ("encode MB/s", Right),
        ("decode MB/s", Right),
    ]);
    let report = file::inspect(compressed.path())?;
    for tensor in &report.tensors {
        let (bytes, encoding, decoding) = measure(compressed, tensor)?;
        table.row(vec![
            printable(&tensor.name),
            shape(&tensor.shape),
            bytes.to_string(),
            tensor.stored_bytes.to_string(),
            format!("{:.3}", tensor.bits_per_weight),
            format!("{:.3}", tensor.entropy_bits_per_weight),
            ratio(bytes, tensor.stored_bytes),
            rate(bytes, encoding),
            rate(bytes, decoding),
        ]);
    }
    let totals = report.totals;
    let original = fs::metadata(plain).map_err(at(plain))?.len();
    table.total(vec![
        "file".to_owned(),
        String::new(),
        original.to_string(),
        totals.stored_bytes.to_string(),
        format!("{:.3}", totals.bits_per_weight),
        format!("{:.3}", totals.entropy_bits_per_weight),
        ratio(original, totals.stored_bytes),
        String::new(),
        String::new(),
    ]);
    Ok(table)
}

/// Returns a layer's size in bytes before compression and its encoding and decoding times.
fn measure(
    compressed: &CompressedFile,
    tensor: &TensorReport,
) -> Result<(u64, Duration, Duration), Failure> {
    let blob = compressed.blob(&tensor.name)?;
    let (rows, cols) = (blob.rows(), blob.cols());
    let mut weights = vec![0; rows * cols * blob.dtype().byte_len()];
    let decoding = fastest(|| blob.decode(&mut weights))?;
    let matrix = Matrix::from_bytes(blob.dtype(), &weights, rows, cols)?;
    let encoding = fastest(|| match encode(matrix) {
        Ok(found) if found.as_bytes() == blob.as_bytes() => Ok(()),
        _ => Err("encoding the decoded layer gave a different blob"),
    })?;
    Ok((weights.len() as u64, encoding, decoding))
}

/// Returns the time of the fastest of [`RUNS`] runs.
fn fastest<E>(mut job: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        job()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// Formats a rate in MB/s.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn rate(bytes: u64, time: Duration) -> String {
    format!("{:.0}", bytes as f64 / time.as_secs_f64().max(1e-9) / 1e6)
}

/// Formats a compression ratio.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn ratio(original: u64, stored: u64) -> String {
    format!("{:.3}", original as f64 / stored.max(1) as f64)
}

/// Decodes the layers on the first GPU, if there is one; returns the line about it. A machine without a GPU or a driver is
/// no failure, because the CPU has done everything by then.
#[cfg(feature = "cuda")]
fn gpu_line(compressed: &CompressedFile) -> Result<String, Failure> {
    match fused_rans::gpu::open(0) {
        Ok(gpu) => decode_on_gpu(&gpu, compressed),
        Err(error) => {
            Ok(format!("GPU: not used, the CPU did all the work. Reason: {}.", chain(&error)))
        }
    }
}

/// Decodes every layer on `gpu` and compares the weights with the CPU's.
#[cfg(feature = "cuda")]
fn decode_on_gpu(
    gpu: &fused_rans::gpu::Gpu,
    compressed: &CompressedFile,
) -> Result<String, Failure> {
    let (mut device_bytes, mut weight_bytes) = (0, 0);
    for name in compressed.blob_names() {
        let blob = compressed.blob(name)?;
        let mut weights = vec![0; blob.decoded_byte_len()];
        blob.decode(&mut weights)?;
        let layer = gpu.upload(&blob)?;
        if layer.decode_to_bytes()? != weights {
            return Err(format!("layer {name}: the GPU decoded other weights than the CPU").into());
        }
        device_bytes += layer.device_byte_len() as u64;
        weight_bytes += weights.len() as u64;
    }
    Ok(format!(
        "GPU: {} decoded both layers to the same bits; they take {} of device memory instead of {}.",
        gpu.name()?,
        size(device_bytes),
        size(weight_bytes)
    ))
}

/// Says how to get a program that uses the GPU.
#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the GPU's may fail")]
fn gpu_line(_compressed: &CompressedFile) -> Result<String, Failure> {
    let line = "GPU: not used, this program was built without CUDA. Build it with `--features cuda` to decode on an \
                NVIDIA GPU.";
    Ok(line.to_owned())
}
