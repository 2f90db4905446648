#!/bin/bash
# Runs the codecs, and the device's decode step as compiled for the CPU, under AddressSanitizer, with
# overflows and the preconditions of unchecked operations checked as well. Needs a nightly toolchain.
#
#   scripts/asan.sh
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
export RUSTFLAGS="-Zsanitizer=address -Zub-checks=yes -Coverflow-checks=yes"
# With a target named, build scripts and macros stay without the sanitizer. The standard library is
# the distributed one: nothing is checked inside what it has compiled in advance. Documentation
# tests are left out: RUSTFLAGS do not reach them.
cargo +nightly test --release --target x86_64-unknown-linux-gnu \
    -p fused-rans -p fused-rans-host -p fused-rans-kernels -p fused-rans-layout \
    --lib
cargo +nightly test --release --target x86_64-unknown-linux-gnu -p fused-rans --test codec --test format --test kernels \
    -- lossless:: golden:: corruption:: mutants:: device::
