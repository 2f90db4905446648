//! Inputs that change while a job reads them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fused_rans::ErrorKind;
use fused_rans::file::{
    Calibration, CompressOptions, FileError, Progress, Summary, compress, decompress, verify,
    verify_against,
};

use super::job::{Job, clean};
use super::large::long_to_compress;
use crate::place::Place;
use support::craft::{Files, bf16, noise, plain, tensor};

fn file(name: &str) -> Vec<u8> {
    let tensors = [
        tensor(name, "BF16", &[64, 64], bf16(64 * 64)),
        tensor(&format!("{name} raw"), "F32", &[5], noise(20)),
    ];
    plain(&tensors, "", 0)
}

/// Appends a byte.
fn grow(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
}

/// Changes the modification time, but no byte.
fn rewrite(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
}

/// A job that reports its progress after every tensor.
type Call<'a> = &'a dyn Fn(Progress<'_>) -> Result<Summary, FileError>;

/// Checks that `job` fails if `path` grows or is rewritten in its middle.
fn detects(path: &Path, job: Call<'_>) {
    [grow, rewrite].into_iter().for_each(|change| detects_a(change, path, job));
}

/// Checks that `job` fails if `change` is made to `path` in its middle.
fn detects_a(change: fn(&Path), path: &Path, job: Call<'_>) {
    let before = fs::read(path).unwrap();
    let mut steps = 0;
    let fault = job(Progress::new(|_, _| {
        steps += 1;
        if steps == 1 {
            change(path);
        }
    }));
    let fault = fault.expect_err("the change is noticed");
    assert_eq!(fault.kind(), ErrorKind::Io);
    assert!(matches!(&fault, FileError::Changed { path: found } if found == path), "{fault}");
    fs::write(path, &before).unwrap();
}

#[test]
fn inputs_that_change_give_no_output() {
    let files = Files::new();
    let (input, packed) = (files.put("in", &file("w")), files.path("packed"));
    compress(&input, &packed, &CompressOptions::default(), Progress::silent()).unwrap();
    let out = files.put("out", b"old");
    detects(&input, &|progress| compress(&input, &out, &CompressOptions::default(), progress));
    detects(&packed, &|progress| decompress(&packed, &out, progress));
    detects(&packed, &|progress| verify(&packed, progress));
    for path in [&input, &packed] {
        detects(path, &|progress| verify_against(&packed, &input, progress));
    }
    let moments = tensor("w", "F32", &[64], 1f32.to_le_bytes().repeat(64));
    let moments = files.put("moments", &plain(&[moments], "", 0));
    detects(&moments, &|progress| {
        let rate = "rate=4".parse().unwrap();
        let options = CompressOptions::default().quantize(rate);
        let options = options.calibration(Calibration::open(&moments).unwrap());
        compress(&input, &out, &options, progress)
    });
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert_eq!(files.names(), ["in", "moments", "out", "packed"]);
}

#[test]
fn models_that_change_give_no_output() {
    let files = Files::new();
    let folder = |name: &str| -> PathBuf {
        fs::create_dir(files.path(name)).unwrap();
        files.path(name)
    };
    let (input, packed, out) = (folder("in"), folder("packed"), folder("out"));
    for name in ["a", "b", "c"] {
        fs::write(input.join(name).with_extension("safetensors"), file(name)).unwrap();
    }
    compress(&input, &packed, &CompressOptions::default(), Progress::silent()).unwrap();
    // The last shard stays uncompressed.
    fs::copy(input.join("c.safetensors"), packed.join("c.safetensors")).unwrap();
    let job: Call<'_> = &|progress| compress(&input, &out, &CompressOptions::default(), progress);
    detects(&input.join("a.safetensors"), job);
    // The last shard changes after it was planned and before it is compressed.
    detects_a(rewrite, &input.join("c.safetensors"), job);
    let first = packed.join("a.safetensors");
    detects(&first, &|progress| decompress(&packed, &out, progress));
    detects(&first, &|progress| verify(&packed, progress));
    for path in [&first, &input.join("a.safetensors")] {
        detects(path, &|progress| verify_against(&packed, &input, progress));
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    assert_eq!(files.names(), ["in", "out", "packed"]);
}

/// Renames another file over the input, as careful writers do. The opened file stays as it was.
#[test]
fn inputs_may_be_replaced() {
    let files = Files::new();
    let (input, output) = (files.put("in", &file("w")), files.path("out"));
    let replace = Progress::new(|_, _| {
        let other = files.put("other", &file("other"));
        fs::rename(other, &input).unwrap();
    });
    compress(&input, &output, &CompressOptions::default(), replace).unwrap();
    let old = files.put("old", &file("w"));
    verify_against(&output, old, Progress::silent()).unwrap();
}

/// A shortened file kills any program that has mapped it (SIGBUS). The output must not be touched.
#[test]
fn inputs_that_become_shorter_kill_the_program() {
    let place = Place::empty();
    long_to_compress(&place.path("in"));
    fs::write(place.path("out"), "old").unwrap();
    let job = Job::start(&place, &["compress", "in", "-o", "out", "--threads", "1"], "");
    File::options().write(true).open(place.path("in")).unwrap().set_len(4096).unwrap();
    assert_eq!(job.end().0.signal(), Some(7), "SIGBUS");
    assert_eq!(fs::read(place.path("out")).unwrap(), b"old");
    clean(&place);
    assert_eq!(place.names(), ["in", "out"]);
}
