//! A temporary directory to run the program in.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Path of real weights: two BF16 matrices of whisper-base.
pub const SAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/whisper-base-sample.bf16.safetensors");

/// A temporary directory; removed when dropped.
pub struct Place(TempDir);

impl Place {
    /// Creates an empty directory.
    pub fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Returns the path of `name` in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a command that runs the program in the directory. Its temporary files go there, too.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fused-rans"));
        command.args(args).current_dir(self.0.path()).env("TMPDIR", self.0.path());
        command
    }

    /// Runs the program and waits for it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program and checks that it succeeds without a warning; returns what it said: standard output, then
    /// standard error.
    pub fn ok(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(args);
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        let has_warned = stderr.lines().any(|line| line.starts_with("warning: "));
        assert!(status.success() && !has_warned, "{args:?}: {status} {stderr}");
        stdout + &stderr
    }

    /// Returns the sorted names of everything in the directory.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
