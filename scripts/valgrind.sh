#!/bin/bash
# Runs the codecs and the device's decode step as compiled for the CPU under valgrind, which unlike AddressSanitizer
# sees reads of memory that was never written, and what the standard library has compiled in advance.
# It has no AVX-512: the paths for AVX2 run. Needs valgrind; takes some minutes.
#
#   scripts/valgrind.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The thread pool lives as long as the process, so what only may be lost is none of our errors.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9 --leak-check=full \
--show-leak-kinds=definite --errors-for-leak-kinds=definite --suppressions=$PWD/scripts/valgrind.supp"
cargo test --release --target x86_64-unknown-linux-gnu -p fused-rans-host -p fused-rans-layout -p fused-rans-kernels --lib
cargo test --release --target x86_64-unknown-linux-gnu -p fused-rans --test format --test kernels -- golden:: device::
