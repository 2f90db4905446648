//! Checks that the public API does not change by accident. Compares the public items of the published crates, according
//! to the toolchain's rustdoc, with the lists in `tests/api/`. With `FUSED_RANS_REGENERATE=1`, writes the lists instead:
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

/// Returns the public items of a crate with all of its features, one per line.
fn public_items(documented: &Path, name: &str) -> String {
    let api: PublicApi =
        Builder::from_rustdoc_json(documented.join(format!("{}.json", name.replace('-', "_"))))
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .expect("`public-api` reads the JSON of this toolchain");
    api.to_string()
}

/// Runs rustdoc on the crates to describe them as JSON. Returns the folder of the files. Shares the target directory
/// with the documentation, so that dependencies are built once.
fn document() -> PathBuf {
    let work = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // The JSON format is unstable and belongs to one version of the toolchain, so this takes the toolchain's rustdoc.
    let rustdoc = Path::new(env!("CARGO")).with_file_name("rustdoc");
    let wrapper = work.join("rustdoc.sh");
    let script = format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec '{}' \"$@\"\n", rustdoc.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["doc", "--locked", "--quiet", "--no-deps", "--lib", "--workspace"]);
    cargo.args(["--exclude", "fused-rans-quality", "--exclude", "fused-rans-test-support"]);
    // Not the feature `cust`, whose dependency wants a toolkit.
    cargo.args(["--features", "file,quantize,cuda", "--target-dir"]);
    let target = work.parent().expect("the folder of builds");
    cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTDOC", wrapper);
    // The first variable would override RUSTDOCFLAGS; the second would change the output folder.
    cargo.env_remove("CARGO_ENCODED_RUSTDOCFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo.env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json --cap-lints=allow");
    let status = cargo.status();
    assert!(status.expect("cargo starts").success(), "rustdoc fails");
    target.join("doc")
}
