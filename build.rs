//! Says where the compressed PTX to embed is: `include_bytes!(env!("FUSED_RANS_PTX"))`.
//!
//! It is the committed one, unless `FUSED_RANS_BUILD_PTX` asks to build it from `kernels-gpu`: with
//! `1` or `auto` by the compiler that the builder finds, else by the rustc at that path or the rustup
//! toolchain of that name. That takes minutes; `FUSED_RANS_PTX_TARGET_DIR` is a directory to build it
//! in (an absolute path), and the one of `build-ptx`, `target/ptx-builder`, holds what that has built.

use fused_rans_ptx_builder::{Error, PtxBuilder, Toolchain};
use std::{env, path::PathBuf, process::ExitCode};

const SETTING: &str = "FUSED_RANS_BUILD_PTX";
const TARGET_DIR: &str = "FUSED_RANS_PTX_TARGET_DIR";
const COMMITTED: &str = "ptx/fused_rans_sm_80.ptx.gz";
const DEVICE_CRATE: &str = "kernels-gpu";
/// What the PTX is built from, beside the locked dependencies.
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
    // cargo stops at `cargo::error`.
    ExitCode::SUCCESS
}

fn committed() -> PathBuf {
    println!("cargo::rerun-if-changed={COMMITTED}");
    cargo_path("CARGO_MANIFEST_DIR").join(COMMITTED)
}

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

/// A path that cargo hands to build scripts.
fn cargo_path(variable: &str) -> PathBuf {
    env::var_os(variable).expect("cargo sets it").into()
}
