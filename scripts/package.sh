#!/bin/bash
# Packages every crate that gets published, unpacks the packages outside the repository, and there
#   - builds a fresh crate that depends on `fused-rans`, with the README's library example as its
#     program, and runs it;
#   - builds the packaged program, and runs its demonstration.
#
#   scripts/package.sh
#
# Packages uncommitted changes, too.
set -euo pipefail
cd "$(dirname "$0")/.."

ptx=ptx/fused_rans_sm_80.ptx.gz
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Not fused-rans-kernels: it is only for the device, and its PTX is in the package of fused-rans. Nor the tool that measures
# quality.
# Nothing is verified here, since the crates are built below.
rm -f "$target"/package/*.crate
cargo package --quiet --workspace --exclude fused-rans-kernels --exclude fused-rans-quality \
    --exclude fused-rans-test-support --allow-dirty --no-verify
for package in "$target"/package/*.crate; do
    # As new files: by the dates in a package, cargo would take an earlier run's build for this one's.
    tar -xmzf "$package" -C "$work"
    echo "$(basename "$package"): $(tar -tzf "$package" | wc -l) files, $(stat -c %s "$package") bytes"
done
package() { # CRATE: where it was unpacked
    echo "$work/$1"-[0-9]*
}
main=$(package fused-rans)
cmp "$ptx" "$main/$ptx"
for crate in fused-rans fused-rans-host fused-rans-layout fused-rans-ptx-builder; do
    for file in README.md LICENSE-MIT LICENSE-APACHE; do
        [ -s "$(package $crate)/$file" ] || { echo "$0: no $file in $crate" >&2; exit 1; }
    done
done

# The packages refer to each other by version; until they are published, the patches say where they are.
# Versions and profile of the repository, so that dependencies already built serve again.
{
    echo '[workspace]'
    echo 'resolver = "3"'
    echo "members = [\"$(basename "$main")\", \"fresh\"]"
    echo '[patch.crates-io]'
    for crate in fused-rans-host fused-rans-layout fused-rans-ptx-builder; do
        echo "$crate = { path = \"$(package $crate)\" }"
    done
    sed -n '/^\[profile.release\]/,/^$/p' Cargo.toml
} >"$work/Cargo.toml"
cp Cargo.lock rust-toolchain.toml "$work/"

mkdir -p "$work/fresh/src/bin"
# The README's first Rust block is a whole program.
awk '/^```/ { if (inside) exit; inside = /^```rust$/; next } inside' README.md >"$work/fresh/src/bin/example.rs"
cat >"$work/fresh/src/bin/kernels.rs" <<'RUST'
fn main() {
    let ptx = fused_rans::ptx();
    assert!(ptx.contains(".visible .entry"));
    println!("{} bytes of PTX are inside", ptx.len());
}
RUST
cat >"$work/fresh/Cargo.toml" <<'TOML'
[package]
name = "fresh"
version = "0.0.0"
edition = "2024"
publish = false
TOML

# In the same place, where dependencies are built already.
export CARGO_TARGET_DIR=$target
cd "$work/fresh"
cargo add --quiet --path "$main" fused-rans
cargo add --quiet half
cargo run --quiet --release --bin example
echo "the README's example builds and runs"
cargo run --quiet --release --bin kernels
cargo run --quiet --release -p fused-rans -- demo
