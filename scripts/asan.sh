#!/bin/bash
# Runs the tests of the codecs and of the kernels' portable decode step under AddressSanitizer. Also checks integer overflows
# and the preconditions of unchecked operations. Needs a nightly toolchain.
#
#   scripts/asan.sh
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
export RUSTFLAGS="-Zsanitizer=address -Zub-checks=yes -Coverflow-checks=yes"
# `--target` keeps build scripts and macros free of the sanitizer. The precompiled standard library is not checked.
# Documentation tests are left out, because RUSTFLAGS do not reach them.
cargo +nightly test --release --target x86_64-unknown-linux-gnu \
    -p fused-rans -p fused-rans-host -p fused-rans-kernels -p fused-rans-layout \
    --lib
cargo +nightly test --release --target x86_64-unknown-linux-gnu -p fused-rans --test codec --test format --test kernels \
    -- lossless:: golden:: corruption:: mutants:: device::
