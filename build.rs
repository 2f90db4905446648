//! Says where the PTX to embed is: `include_str!(env!("FUSED_RANS_PTX"))`.
//!
//! It is the committed one, unless `FUSED_RANS_BUILD_PTX` asks to build it from `kernels-gpu`: with
//! `1` or `auto` by the compiler that the builder finds, else by the rustc at that path or the rustup
//! toolchain of that name.

use fused_rans_ptx_builder::{Arch, Error, PtxBuilder, Toolchain};
use std::{env, path::PathBuf, process::ExitCode};

const SETTING: &str = "FUSED_RANS_BUILD_PTX";
const COMMITTED: &str = "ptx/fused_rans_sm_80.ptx";
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
    let ptx = cargo_path("OUT_DIR").join("fused_rans.ptx");
    PtxBuilder::new(DEVICE_CRATE)
        .arch(Arch::Sm80)
        .toolchain(Toolchain::from_setting(setting))
        .copy_to(&ptx)
        .build()?;
    Ok(ptx)
}

/// A path that cargo hands to build scripts.
fn cargo_path(variable: &str) -> PathBuf {
    env::var_os(variable).expect("cargo sets it").into()
}
