//! A directory to run the program in.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

pub const SAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/whisper-base-sample.bf16.safetensors");

pub struct Place(TempDir);

impl Place {
    /// An empty directory.
    pub fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fused-rans"));
        command.args(args).current_dir(self.0.path()).env("TMPDIR", self.0.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program, which must succeed in silence on standard error; returns what it prints.
    pub fn ok(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success() && stderr.is_empty(), "{args:?}: {status} {stderr}");
        String::from_utf8(stdout).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
