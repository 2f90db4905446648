//! Sets `FUSED_RANS_PTX_SM80` and `FUSED_RANS_PTX_SM90` to the paths of the compressed PTX that the
//! library embeds, one for each set of kernels.
//!
//! By default these are the committed files. If `FUSED_RANS_BUILD_PTX` is set, the script builds the
//! PTX of both sets from `kernels-gpu`, which takes minutes. The value `1` or `auto` builds with the compiler that the
//! builder finds. Any other value is the path of a rustc, or the name of a rustup toolchain.
//!
//! `FUSED_RANS_PTX_TARGET_DIR` is the absolute path of the directory to build in. Set it to
//! `target/ptx-builder` to reuse a build of `build-ptx`.

use fused_rans_ptx_builder::{Error, KernelSet, PtxBuilder, Toolchain};
use std::{env, path::PathBuf, process::ExitCode};

const SETTING: &str = "FUSED_RANS_BUILD_PTX";
const TARGET_DIR: &str = "FUSED_RANS_PTX_TARGET_DIR";
const DEVICE_CRATE: &str = "kernels-gpu";
/// Files and folders that the PTX is built from. A change of any of them builds it again.
const SOURCES: [&str; 4] = [DEVICE_CRATE, "layout", "Cargo.toml", "Cargo.lock"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={SETTING}");
    for set in KernelSet::ALL {
        let ptx = match env::var(SETTING).as_deref() {
            Err(_) | Ok("" | "0") => Ok(committed(set)),
            Ok(setting) => build(set, setting),
        };
        let variable = format!("FUSED_RANS_PTX_{}", set.name().to_uppercase());
        match ptx {
            Ok(path) => println!("cargo::rustc-env={variable}={}", path.display()),
            Err(error) => {
                error.to_string().lines().for_each(|line| println!("cargo::error={line}"))
            }
        }
    }
    // Cargo fails the build because of `cargo::error`.
    ExitCode::SUCCESS
}

/// Returns the path of the committed PTX of `set`.
fn committed(set: KernelSet) -> PathBuf {
    let path = format!("ptx/{}.lzma", set.file_name());
    println!("cargo::rerun-if-changed={path}");
    cargo_path("CARGO_MANIFEST_DIR").join(path)
}

/// Builds the PTX of `set` with the compiler that `setting` names. Returns the path of the file.
fn build(set: KernelSet, setting: &str) -> Result<PathBuf, Error> {
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={TARGET_DIR}");
    let out = cargo_path("OUT_DIR");
    let ptx = out.join(set.file_name() + ".lzma");
    PtxBuilder::fused_rans(DEVICE_CRATE, set)
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
