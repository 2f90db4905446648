//! Driver version, commit and file names, to say where figures come from.

use std::process::Command;
use std::{env, fs};

/// Returns the version of the NVIDIA driver, from the kernel module or `nvidia-smi`; `unknown` if neither has it.
#[must_use]
pub fn driver_version() -> String {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok();
    let version = text.as_deref().and_then(version_in);
    let smi = || output("nvidia-smi", &["--query-gpu=driver_version", "--format=csv,noheader"]);
    version.map(ToOwned::to_owned).or_else(smi).unwrap_or_else(|| "unknown".to_owned())
}

/// Returns the first word that consists of digits and dots.
fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find(|word| word.contains('.') && word.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

/// Returns the commit that is measured: the variable `FUSED_RANS_COMMIT`, else the repository's HEAD, else `unknown`.
#[must_use]
pub fn commit() -> String {
    let named = env::var("FUSED_RANS_COMMIT").ok().filter(|commit| !commit.is_empty());
    let head = || output("git", &["rev-parse", "--short", "HEAD"]);
    named.or_else(head).unwrap_or_else(|| "unknown".to_owned())
}

/// Runs a program; returns the first line that it prints, if it succeeds.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// Converts `name` to a part of a file name: `NVIDIA H100 80GB HBM3` becomes `nvidia-h100-80gb-hbm3`.
#[must_use]
pub fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let words: Vec<String> =
        words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_drivers_say() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release";
        assert_eq!(version_in(closed), Some("535.104.05"));
        assert_eq!(version_in(open), Some("580.159.04"));
        assert_eq!(version_in("no version here."), None);
    }

    #[test]
    fn names_of_files() {
        assert_eq!(slug("NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3");
        assert_eq!(slug("580.159.04"), "580.159.04");
        assert_eq!(slug("../a b"), "..-a-b");
    }
}
