//! Every dependency has a license that `deny.toml` allows and comes from crates.io.
//!
//! `cargo deny` reads the same file. It also checks security advisories, which it downloads.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
#[ignore = "fetches the dependencies of all platforms"]
fn licenses_and_sources_are_allowed() {
    let rules: toml::Table = include_str!("../../deny.toml").parse().unwrap();
    let allowed: Vec<Licensee> = rules["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|license| Licensee::parse(license.as_str().unwrap()).unwrap())
        .collect();
    let mut used = BTreeSet::new();
    for package in packages() {
        let name = &package["name"];
        let source = package["source"].as_str();
        assert!(source.is_none_or(|source| source == CRATES_IO), "{name} comes from {source:?}");
        let license = package["license"].as_str().unwrap_or_else(|| panic!("{name}: no license"));
        let license = Expression::parse_mode(license, ParseMode::LAX).unwrap();
        let mut suffices = |wanted: &spdx::LicenseReq| {
            let found = allowed.iter().find(|license| license.satisfies(wanted));
            used.extend(found.map(ToString::to_string));
            found.is_some()
        };
        assert!(license.evaluate(|wanted| suffices(wanted)), "{name}: {license}");
    }
    assert_eq!(used.len(), allowed.len(), "of the allowed licenses only {used:?} are needed");
}

/// Returns all packages that the workspace depends on, with every feature and for every platform.
fn packages() -> Vec<Value> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--locked", "--format-version=1", "--all-features"]);
    let output = metadata.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}
