//! The demonstration on real weights.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use fused_rans::file::{self, CompressedFile, Temporary, TensorReport};
use fused_rans::{Matrix, encode};

use crate::args::Threads;
use crate::report::table::{Align, Table};
use crate::report::text::{printable, shape, size};
use crate::terminal::{Failure, say};

/// Two linear layers of whisper-base; `data/README.md` has source and licence.
const WEIGHTS: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/data/whisper-base-sample.bf16.safetensors"
));

/// Repetitions of which the fastest counts.
const REPETITIONS: usize = 5;

/// `fused-rans demo`
pub(crate) fn run(threads: Threads) -> Result<(), Failure> {
    for line in threads.run(|| demonstrate(threads))?? {
        say(&line)?;
    }
    Ok(())
}

/// Does the work in a temporary directory; returns what to print.
fn demonstrate(threads: Threads) -> Result<Vec<String>, Failure> {
    let parent = env::temp_dir();
    let directory = Temporary::create(&parent, |path| fs::create_dir(path));
    let ((), directory) = directory.map_err(at(&parent))?;
    let path = |name| directory.path().join(name);
    let (plain, packed, back) = (path("in"), path("out"), path("back"));
    fs::write(&plain, WEIGHTS).map_err(at(&plain))?;
    let silent = &mut |_, _| {};
    let summary = file::compress(&plain, &packed, &file::Options::default(), silent)?;
    file::verify_against(&packed, &plain, silent)?;
    file::decompress(&packed, &back, silent)?;
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
        0 => "all".to_owned(),
        threads => threads.to_string(),
    };
    lines
        .push(format!("MB/s of BF16 weights, CPU threads: {threads}; entropy in bits per weight."));
    lines.push(String::new());
    lines.push(gpu_line(&compressed)?);
    Ok(lines)
}

/// Says which file it was that the operating system refused.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| format!("{}: {error}", path.display()).into()
}

/// A row a layer, and one for the file.
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

/// Bytes of a layer, and the times that encoding and decoding it take.
fn measure(
    compressed: &CompressedFile,
    tensor: &TensorReport,
) -> Result<(u64, Duration, Duration), Failure> {
    let blob = compressed.blob(&tensor.name)?;
    let (rows, cols) = (blob.rows(), blob.cols());
    let mut weights = vec![0; rows * cols * blob.dtype().bytes()];
    let decoding = fastest(|| blob.decode(&mut weights))?;
    let matrix = Matrix::new(blob.dtype(), rows, cols, &weights)?;
    let encoding = fastest(|| match encode(matrix) {
        Some(bytes) if bytes == blob.bytes() => Ok(()),
        _ => Err("encoding the decoded layer gave another blob"),
    })?;
    Ok((weights.len() as u64, encoding, decoding))
}

/// Time of the fastest of some runs.
fn fastest<E>(mut job: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut best = Duration::MAX;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        job()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn rate(bytes: u64, time: Duration) -> String {
    format!("{:.0}", bytes as f64 / time.as_secs_f64().max(1e-9) / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn ratio(original: u64, stored: u64) -> String {
    format!("{:.3}", original as f64 / stored.max(1) as f64)
}

/// What the GPU makes of the compressed layers.
#[cfg(feature = "cuda")]
fn gpu_line(compressed: &CompressedFile) -> Result<String, Failure> {
    match fused_rans::gpu::open(0) {
        Ok(gpu) => decode_on_gpu(&gpu, compressed),
        Err(error) => Ok(format!("GPU: not used, everything ran on the CPU: {error}")),
    }
}

/// Decodes every layer on a device and compares it with the CPU's.
#[cfg(feature = "cuda")]
fn decode_on_gpu(
    gpu: &fused_rans::gpu::Gpu,
    compressed: &CompressedFile,
) -> Result<String, Failure> {
    let (mut layers, mut device_bytes, mut weight_bytes) = (0, 0, 0);
    for name in compressed.blob_names() {
        let blob = compressed.blob(name)?;
        let mut weights = vec![0; blob.weight_bytes()];
        blob.decode(&mut weights)?;
        let layer = gpu.upload(&blob)?;
        if layer.decode_to_host()? != weights {
            return Err(format!("layer {name} decoded to other weights").into());
        }
        layers += 1;
        device_bytes += layer.device_bytes() as u64;
        weight_bytes += weights.len() as u64;
    }
    Ok(format!(
        "GPU: {} decoded all {layers} layers to the same bits, from {} of device memory instead of {}.",
        gpu.name()?,
        size(device_bytes),
        size(weight_bytes)
    ))
}

/// How to get a GPU into the demonstration.
#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the GPU's may fail")]
fn gpu_line(_compressed: &CompressedFile) -> Result<String, Failure> {
    Ok("GPU: not built in; build with `--features cuda` to decode on an NVIDIA GPU.".to_owned())
}
