//! What users can name does not change by accident: the public items of the published crates, as the toolchain's rustdoc
//! sees them, are those of `tests/api/`. `FUSED_RANS_REGENERATE=1` before the command writes them anew:
//!
//! `cargo test --release --test api -- --ignored`

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::{Builder, PublicApi};

const CRATES: [&str; 4] =
    ["fused-rans", "fused-rans-host", "fused-rans-layout", "fused-rans-ptx-builder"];

#[test]
#[ignore = "builds the documentation of all crates"]
fn the_public_api_is_the_recorded_one() {
    let regenerate = env::var_os("FUSED_RANS_REGENERATE").is_some_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api");
    let documented = document();
    for name in CRATES {
        let api = public_items(&documented, name);
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
fn public_items(documented: &Path, name: &str) -> String {
    let api: PublicApi =
        Builder::from_rustdoc_json(documented.join(format!("{}.json", name.replace('-', "_"))))
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .expect("`public-api` is the version that reads this");
    api.to_string()
}

/// Has rustdoc describe the crates, beside the documentation, whose build serves for this; returns the folder.
fn document() -> PathBuf {
    let work = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // What it writes is not stable, but of one version of the toolchain.
    let rustdoc = Path::new(env!("CARGO")).with_file_name("rustdoc");
    let wrapper = work.join("rustdoc.sh");
    let script = format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec '{}' \"$@\"\n", rustdoc.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["doc", "--locked", "--quiet", "--no-deps", "--lib", "--workspace"]);
    cargo.args(["--exclude", "fused-rans-quality", "--exclude", "fused-rans-test-support"]);
    cargo.args(["--all-features", "--target-dir"]);
    let target = work.parent().expect("the folder of builds");
    cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTDOC", wrapper);
    // What would come first, or lead elsewhere.
    cargo.env_remove("CARGO_ENCODED_RUSTDOCFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo.env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json --cap-lints=allow");
    let status = cargo.status();
    assert!(status.expect("cargo starts").success(), "rustdoc fails");
    target.join("doc")
}
