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

/// Lines of `cargo tree` that a program with `fused-rans` as its only dependency may have, its own included: with default
/// features, and without. A dependency of a dependency counts like one of ours.
const BUDGETS: [(&[&str], usize); 2] = [(&[], 40), (&["--no-default-features"], 25)];

#[test]
#[ignore = "resolves dependencies anew"]
fn the_library_brings_few_crates() {
    for (flags, budget) in BUDGETS {
        let program = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let mut cargo = Command::new(env!("CARGO"));
            let output = cargo.args(args).current_dir(program.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["init", "--quiet", "--name", "program", "--vcs", "none"]);
        let add = ["add", "--quiet", "--path", env!("CARGO_MANIFEST_DIR"), "fused-rans"];
        run(&[&add[..], flags].concat());
        let tree = run(&["tree", "--quiet", "--edges", "normal", "--prefix", "none"]);
        let crates: BTreeSet<&str> = tree.lines().collect();
        println!("{flags:?}: {} of {budget}", crates.len());
        assert!(crates.len() <= budget, "{flags:?}: {} of {budget}\n{tree}", crates.len());
        assert!(crates.iter().any(|line| line.starts_with("fused-rans-host")), "{tree}");
    }
}
