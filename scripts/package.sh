#!/bin/bash
# Packages every crate that is published and unpacks the packages outside the repository. There it
#   - builds and runs a fresh crate that depends on `fused-rans`, whose program is the README's first Rust block;
#   - builds the fresh crate with the feature `cuda` and the package of `fused-rans-bench`, and prints the size of the
#     PTX of both sets of kernels;
#   - builds the packaged program and runs its demonstration.
#
#   scripts/package.sh
#
# Fails if a package is larger than crates.io accepts. Includes uncommitted changes.
set -euo pipefail
cd "$(dirname "$0")/.."

ptx=(ptx/fused_rans_sm_80.ptx.lzma ptx/fused_rans_sm_90a.ptx.lzma)
max_package_bytes=10485760 # the limit of crates.io
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fused-rans-kernels is not published, because the package of fused-rans contains its PTX. fused-rans-quality and the
# tests' crate are tools of the repository. `--no-verify`, because the packages are built below.
rm -f "$target"/package/*.crate
cargo package --quiet --workspace --exclude fused-rans-kernels --exclude fused-rans-quality \
    --exclude fused-rans-test-support --allow-dirty --no-verify
for package in "$target"/package/*.crate; do
    # -m dates the files now. With the dates in the package, cargo would reuse an earlier run's build.
    tar -xmzf "$package" -C "$work"
    bytes=$(stat -c %s "$package")
    echo "$(basename "$package"): $(tar -tzf "$package" | wc -l) files, $bytes bytes"
    ((bytes <= max_package_bytes)) || { echo "$0: too large for crates.io: $package" >&2; exit 1; }
done
package() { # CRATE: prints the folder of the unpacked package
    echo "$work/$1"-[0-9]*
}
crates=(fused-rans fused-rans-bench fused-rans-cli fused-rans-host fused-rans-layout fused-rans-ptx-builder)
main=$(package fused-rans)
program=$(package fused-rans-cli)
for file in "${ptx[@]}"; do
    cmp "$file" "$main/$file"
done
for crate in "${crates[@]}"; do
    for file in README.md LICENSE-MIT LICENSE-APACHE; do
        [ -s "$(package "$crate")/$file" ] || { echo "$0: no $file in $crate" >&2; exit 1; }
    done
done

# The packages depend on each other by version. The patches replace these versions by the unpacked folders, because the
# versions may not be published yet. The repository's lock file and profile let cargo reuse dependencies already built.
{
    echo '[workspace]'
    echo 'resolver = "3"'
    echo "members = [\"$(basename "$main")\", \"$(basename "$program")\", \"fresh\"]"
    echo '[patch.crates-io]'
    for crate in "${crates[@]}"; do
        echo "$crate = { path = \"$(package "$crate")\" }"
    done
    sed -n '/^\[profile.release\]/,/^$/p' Cargo.toml
} >"$work/Cargo.toml"
cp Cargo.lock rust-toolchain.toml "$work/"

mkdir -p "$work/fresh/src/bin"
# The README's first ```rust block is a whole program.
awk '/^```/ { if (inside) exit; inside = /^```rust$/; next } inside' README.md >"$work/fresh/src/bin/example.rs"
cat >"$work/fresh/src/bin/kernels.rs" <<'RUST'
use fused_rans::gpu::KernelSet;

fn main() {
    for set in [KernelSet::Sm80, KernelSet::Sm90] {
        let ptx = fused_rans::ptx(set);
        assert!(ptx.contains(".visible .entry"));
        println!("the package contains {} bytes of PTX of the set {set:?}", ptx.len());
    }
}
RUST
cat >"$work/fresh/Cargo.toml" <<'TOML'
[package]
name = "fresh"
version = "0.0.0"
edition = "2024"
publish = false
TOML

# Builds in the repository's target directory, which contains the dependencies.
export CARGO_TARGET_DIR=$target
cd "$work/fresh"
cargo add --quiet --path "$main" fused-rans
cargo add --quiet half
cargo run --quiet --release --bin example
echo "the README's example builds and runs"
cargo add --quiet --path "$main" --features cuda fused-rans
cargo add --quiet --path "$(package fused-rans-bench)" --features cuda fused-rans-bench
cargo run --quiet --release --bin kernels
cargo run --quiet --release -p fused-rans-cli -- demo
