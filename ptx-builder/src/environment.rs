//! Environment variables of the cargo that builds the device crate.

use std::{env, ffi::OsStr, path::Path, process::Command};

/// Cargo's variables that the inner cargo inherits, because a user sets them for every build. A name
/// that ends in `_` is a prefix. All other `CARGO_` variables belong to the outer build.
const KEPT: [&str; 5] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_"];

/// Variables that the inner cargo does not inherit. An outer cargo, clippy or rustup sets them, or the
/// user sets them for the host. In a build script, `LD_LIBRARY_PATH` names the outer compiler's
/// libraries.
const REMOVED: [&str; 14] = [
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// Returns a command that runs in `directory`, without the variables of an outer build.
pub(crate) fn clean_command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_outer_build(name)) {
        command.env_remove(name);
    }
    command
}

/// Returns whether an outer build may have set the variable `name`.
fn belongs_to_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let kept = KEPT.iter().any(|kept| name.starts_with(kept));
    REMOVED.contains(&name) || (name == "CARGO" || name.starts_with("CARGO_")) && !kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_the_outer_build_and_keeps_the_network() {
        for name in ["CARGO", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
            assert!(belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_MAKEFLAGS", "CARGO_PROFILE_RELEASE_DEBUG", "RUSTC", "RUSTFLAGS"] {
            assert!(belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
        for name in
            ["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "HTTPS_PROXY"]
        {
            assert!(!belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
    }
}
