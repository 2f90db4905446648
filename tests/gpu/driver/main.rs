//! Tests faults of the driver without a device: every call fails with many codes, once or from then on; device memory
//! has every size; the driver is missing or lacks a function. The driver is the fake in `libcuda`. This program starts
//! itself again on the fake, with the tests of [`on_the_fake`].
#![cfg(all(feature = "cuda", target_os = "linux"))]

mod bench;
mod fake;
mod on_the_fake;
mod scenario;

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Time limit, far longer than the tests take, so that only a hang exceeds it.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn no_fault_of_the_driver_does_harm() {
    let directory = tempfile::tempdir().unwrap();
    fake::build(directory.path(), None);
    let log = directory.path().join("log");
    let mut command = on_fake(directory.path());
    command.args(["--test-threads=1", "on_the_fake"]);
    let append = || File::options().create(true).append(true).open(&log).unwrap();
    command.stdout(append()).stderr(append());
    let status = wait(command.spawn().unwrap());
    let log = fs::read_to_string(log).unwrap();
    println!("{log}");
    assert!(status.success(), "{status}");
    assert!(log.contains("9 passed"), "they ran");
}

/// Returns a command that runs ignored tests, which are still to be named, on the fake driver in `directory`.
fn on_fake(directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture"]);
    command.env("LD_LIBRARY_PATH", directory).env(fake::WANTED, "");
    command
}

#[test]
fn a_driver_without_overlapping_launches_does_everything() {
    let directory = tempfile::tempdir().unwrap();
    fake::build(directory.path(), Some("cuLaunchKernelEx"));
    let mut command = on_fake(directory.path());
    command.env(fake::OLD, "");
    command.args(["--exact", "on_the_fake::without_faults_everything_is_done_and_given_back"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

/// Runs a test of [`without_driver`] in a process whose loader looks in `directory` first.
fn run_in_child(name: &str, directory: &Path, expected: &str) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "--exact", name]);
    command.env("LD_LIBRARY_PATH", directory).env(EXPECTED, expected);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

/// Environment variable of processes that run a test of [`without_driver`]: a text that the error must contain.
const EXPECTED: &str = "FUSED_RANS_EXPECTED_ERROR";

#[test]
fn a_library_that_is_no_driver_is_an_error_that_names_what_is_missing() {
    for missing in ["cuInit", "cuMemAlloc_v2", "cuGraphLaunch"] {
        let directory = tempfile::tempdir().unwrap();
        fake::build(directory.path(), Some(missing));
        run_in_child("without_driver::opening_says_what_is_missing", directory.path(), missing);
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("libcuda.so.1"), "no library").unwrap();
    let name = "without_driver::opening_says_what_is_missing";
    run_in_child(name, directory.path(), "no CUDA driver");
}

mod without_driver {
    use super::EXPECTED;
    use fused_rans::gpu::{self, GpuError};

    #[test]
    #[ignore = "needs a library that is no driver"]
    fn opening_says_what_is_missing() {
        let Ok(expected) = std::env::var(EXPECTED) else { return };
        for _ in 0..2 {
            let error = gpu::open(0).expect_err("there is no driver");
            let missing =
                matches!(&error, GpuError::MissingFunction { function } if *function == expected);
            assert!(missing || matches!(error, GpuError::NoDriver { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(&expected) && text.contains("install"), "{text}");
            assert!(text.contains("the CPU decoder needs none"), "{text}");
        }
        assert_eq!(gpu::device_count(), 0);
    }
}

fn wait(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
