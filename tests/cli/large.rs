//! Compresses, verifies and restores a file of ten gigabytes; prints speed and memory.
//!
//! Needs 30 GB of disk in `TMPDIR` and some minutes, so it runs only on request:
//! `cargo test --release --test cli large -- --ignored --nocapture`

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::place::Place;
use half::bf16;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Normal};

const SIDE: usize = 16_384;
/// Number of tensors of half a gigabyte each.
const TENSORS: usize = 20;
const TENSOR_BYTES: usize = 2 * SIDE * SIDE;
/// Largest anonymous memory of the program, in bytes.
const MAX_ANONYMOUS: usize = 2_000_000_000;

#[test]
#[ignore = "takes 30 GB of disk and some minutes"]
fn ten_gigabytes_come_back() {
    let place = Place::empty();
    write_model(&place.path("model.safetensors"));
    let bytes = fs::metadata(place.path("model.safetensors")).unwrap().len();
    assert!(bytes > 10_000_000_000);
    run(&place, &["compress", "model.safetensors", "-o", "model.fr"], bytes);
    run(&place, &["verify", "model.fr"], bytes);
    run(&place, &["decompress", "model.fr", "-o", "restored.safetensors"], bytes);
    let stored = fs::metadata(place.path("model.fr")).unwrap().len();
    println!("stored: {:.1} % of {bytes} bytes", 100.0 * stored as f64 / bytes as f64);
    assert!(same(&place.path("model.safetensors"), &place.path("restored.safetensors")));
}

/// Writes tensors of normally distributed weights. All are cut from one sequence, at different offsets, which is enough
/// because tensors are coded one by one.
fn write_model(path: &Path) {
    let normal = Normal::new(0.0f32, 0.02).unwrap();
    let mut random = SmallRng::seed_from_u64(10);
    let weights: Vec<u8> = (0..SIDE * 1024 + 1000 * TENSORS)
        .flat_map(|_| bf16::from_f32(normal.sample(&mut random)).to_le_bytes())
        .collect();
    let entries: Vec<String> = (0..TENSORS)
        .map(|i| {
            let (start, end) = (i * TENSOR_BYTES, (i + 1) * TENSOR_BYTES);
            let name = format!("layers.{i:02}.weight");
            format!(r#""{name}":{{"dtype":"BF16","shape":[{SIDE},{SIDE}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for tensor in 0..TENSORS {
        for _ in 0..SIDE / 1024 {
            file.write_all(&weights[2000 * tensor..][..2 * SIDE * 1024]).unwrap();
        }
    }
    file.flush().unwrap();
}

/// Runs the program on `bytes` bytes of weights; prints its speed and its memory.
fn run(place: &Place, args: &[&str], bytes: u64) {
    let start = Instant::now();
    let mut child = place.command(args).stdout(Stdio::null()).spawn().unwrap();
    let anonymous = watch(&mut child);
    let seconds = start.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success(), "{args:?}");
    let (rate, memory) = (bytes as f64 / seconds / 1e6, anonymous as f64 / 1e6);
    println!("{}: {seconds:.0} s, {rate:.0} MB/s, {memory:.0} MB of anonymous memory", args[0]);
    assert!(anonymous < MAX_ANONYMOUS);
}

/// Waits for the process to end; returns its largest anonymous memory in bytes, sampled 20 times per second.
fn watch(child: &mut Child) -> usize {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        most = most.max(1024 * kilobytes.unwrap_or(0));
        thread::sleep(Duration::from_millis(50));
    }
    most
}

/// Returns whether two files hold the same bytes.
fn same(a: &Path, b: &Path) -> bool {
    let mut files = [a, b].map(|path| File::open(path).unwrap());
    let mut parts = [vec![0; 1 << 24], vec![0; 1 << 24]];
    loop {
        let [a, b] = [0, 1].map(|i| fill(&mut files[i], &mut parts[i]));
        if a != b || parts[0][..a] != parts[1][..b] {
            return false;
        }
        if a == 0 {
            return true;
        }
    }
}

/// Fills `part` from the file as far as there are bytes; returns their number.
fn fill(file: &mut File, part: &mut [u8]) -> usize {
    let mut bytes = 0;
    while bytes < part.len() {
        match file.read(&mut part[bytes..]).unwrap() {
            0 => break,
            more => bytes += more,
        }
    }
    bytes
}
