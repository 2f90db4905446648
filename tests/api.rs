//! What users can name does not change by accident: the public items of the published crates, as rustdoc
//! sees them, are those of `tests/api/`, where `nightly.txt` says which rustdoc that was.
//! `FUSED_RANS_REGENERATE=1` before the command writes them anew:
//!
//! `env $(scripts/cuda-stub.sh target/cuda-stub) cargo test --release --test api -- --ignored`

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::{Builder, PublicApi};

const CRATES: [&str; 4] =
    ["fused-rans", "fused-rans-host", "fused-rans-layout", "fused-rans-ptx-builder"];

#[test]
#[ignore = "needs a nightly toolchain, and libcuda or its stub"]
fn the_public_api_is_the_recorded_one() {
    let regenerate = env::var_os("FUSED_RANS_REGENERATE").is_some_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api");
    if regenerate {
        let nightly =
            Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
        fs::write(folder.join("nightly.txt"), nightly.unwrap().stdout).unwrap();
    }
    for name in CRATES {
        let api = public_items(name);
        let path = folder.join(format!("{name}.txt"));
        if regenerate {
            fs::write(&path, &api).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap();
        let [gone, new] = [(&recorded, &api), (&api, &recorded)].map(|(from, other)| {
            let other: Vec<_> = other.lines().collect();
            from.lines().filter(|line| !other.contains(line)).collect::<Vec<_>>().join("\n")
        });
        assert!(api == recorded, "{name}\n-- gone:\n{gone}\n-- new:\n{new}");
    }
}

/// The public items of a crate with all of its features, a line each.
fn public_items(name: &str) -> String {
    let json = document(name);
    let api: PublicApi = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .expect("the nightly toolchain is one that `public-api` reads");
    api.to_string()
}

/// Has rustdoc describe a crate, beside the other builds; returns the file.
fn document(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api");
    let mut rustdoc = Command::new("rustup");
    rustdoc.args(["run", "nightly", "cargo", "rustdoc", "--locked", "--quiet", "--lib"]);
    rustdoc.args(["--all-features", "-p", name, "--target-dir"]).arg(&target);
    rustdoc.args(["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"]);
    // Not the compiler of the toolchain that runs this test.
    for variable in ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTDOCFLAGS", "CARGO"] {
        rustdoc.env_remove(variable);
    }
    let status = rustdoc.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.expect("rustup starts").success(), "rustdoc fails for {name}");
    target.join("doc").join(format!("{}.json", name.replace('-', "_")))
}
