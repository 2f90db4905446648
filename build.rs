//! Sets `FUSED_RANS_PTX` to the path of the compressed PTX that the library embeds.
//!
//! By default this is the committed file. If `FUSED_RANS_BUILD_PTX` is set, the script builds the PTX
//! from `kernels-gpu`, which takes minutes. The value `1` or `auto` builds with the compiler that the
//! builder finds. Any other value is the path of a rustc, or the name of a rustup toolchain.
//!
//! `FUSED_RANS_PTX_TARGET_DIR` is the absolute path of the directory to build in. Set it to
//! `target/ptx-builder` to reuse a build of `build-ptx`.

use fused_rans_ptx_builder::{Error, PtxBuilder, Toolchain};
use std::{env, path::PathBuf, process::ExitCode};

const SETTING: &str = "FUSED_RANS_BUILD_PTX";
const TARGET_DIR: &str = "FUSED_RANS_PTX_TARGET_DIR";
const COMMITTED: &str = "ptx/fused_rans_sm_80.ptx.gz";
const DEVICE_CRATE: &str = "kernels-gpu";
/// Files and folders that the PTX is built from. A change of any of them builds it again.
const SOURCES: [&str; 4] = [DEVICE_CRATE, "layout", "Cargo.toml", "Cargo.lock"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={SETTING}");
    let ptx = match env::var(SETTING).as_deref() {
        Err(_) | Ok("" | "0") => Ok(committed()),
        Ok(setting) => build(setting),
    };
    match ptx {
        Ok(path) => println!("cargo::rustc-env=FUSED_RANS_PTX={}", path.display()),
        Err(error) => error.to_string().lines().for_each(|line| println!("cargo::error={line}")),
    }
    // Cargo fails the build because of `cargo::error`.
    ExitCode::SUCCESS
}

/// Returns the path of the committed PTX.
fn committed() -> PathBuf {
    println!("cargo::rerun-if-changed={COMMITTED}");
    cargo_path("CARGO_MANIFEST_DIR").join(COMMITTED)
}

/// Builds the PTX with the compiler that `setting` names. Returns the path of the file.
fn build(setting: &str) -> Result<PathBuf, Error> {
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={TARGET_DIR}");
    let out = cargo_path("OUT_DIR");
    let ptx = out.join("fused_rans.ptx.gz");
    PtxBuilder::fused_rans(DEVICE_CRATE)
        .toolchain(Toolchain::from_setting(setting))
        .target_dir(env::var_os(TARGET_DIR).map_or_else(|| out.join("ptx-builder"), PathBuf::from))
        .copy_to(&ptx)
        .build()?;
    Ok(ptx)
}

/// Returns a path that cargo passes to build scripts.
fn cargo_path(variable: &str) -> PathBuf {
    env::var_os(variable).expect("cargo sets this variable for build scripts").into()
}
