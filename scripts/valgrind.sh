#!/bin/bash
# Runs the tests of the codecs and of the kernels' portable decode step under valgrind. Unlike AddressSanitizer, valgrind
# finds reads of uninitialized memory, and checks the precompiled standard library, too. It does not know AVX-512, so the
# code for AVX2 runs. Needs valgrind; takes some minutes.
#
#   scripts/valgrind.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# Only definite leaks are errors: the thread pool lives as long as the process, so its memory is reported as possibly lost.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9 --leak-check=full \
--show-leak-kinds=definite --errors-for-leak-kinds=definite --suppressions=$PWD/scripts/valgrind.supp"
cargo test --release --target x86_64-unknown-linux-gnu -p fused-rans-host -p fused-rans-layout -p fused-rans-kernels --lib
cargo test --release --target x86_64-unknown-linux-gnu -p fused-rans --test format --test kernels -- golden:: device::
