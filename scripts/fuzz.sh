#!/bin/bash
# Builds the fuzz targets and runs them, one per core at a time. Fails if any target finds something. Needs a nightly
# toolchain and a C++ compiler, but not cargo-fuzz. Keeps the inputs that a target has collected in the build folder; the
# next run starts from them.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     600 seconds each; by default all targets
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
shift || true
targets=("$@")
((${#targets[@]})) || targets=(table blob container inspect differential)

rustup run nightly rustc --version >/dev/null 2>&1 || { echo "skipped: no nightly toolchain"; exit 0; }

target=${CARGO_TARGET_DIR:-fuzz/target}
[ -z "${CARGO_TARGET_DIR:-}" ] || target=$target/fuzz
mkdir -p "$target"
target=$(cd "$target" && pwd)

# The flags of cargo-fuzz without the tracing of comparisons: it takes most of the time, and the seeds make it unnecessary.
# Only our own crates get them, because instrumenting the dependencies would take minutes.
flags='["-Zsanitizer=address", "--cfg=fuzzing", "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4", "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table"]'
config=(--config "profile.release.rustflags=$flags" --config 'profile.release.package."*".rustflags=[]')
for crate in host kernels layout; do
    config+=(--config "profile.release.package.fused-rans-$crate.rustflags=$flags")
done
CARGO_TARGET_DIR=$target cargo +nightly build -Zprofile-rustflags "${config[@]}" \
    --locked --release --manifest-path fuzz/Cargo.toml

# Freed memory is quarantined up to this size before it is reused: enough for all that one input allocates.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=16}

run() { # TARGET; fails if it finds something
    local log=$target/$1.log corpus=$target/corpus/$1 artifacts=$target/artifacts/$1/ status=0
    local seeds=("fuzz/corpus/$1") longest=8192
    case $1 in
        blob | container) seeds+=(tests/golden) ;;
        table) longest=512 ;;
        differential) longest=1024 ;;
    esac
    mkdir -p "$corpus" "$artifacts"
    "$target/release/$1" "$corpus" "${seeds[@]}" -max_total_time="$seconds" \
        -max_len=$longest -len_control=0 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$artifacts" >"$log" 2>&1 || status=$?
    if ((status)); then
        tail -n 40 "$log"
        echo "$1: FOUND something, in $artifacts" >&2
        return 1
    fi
    awk -v target="$1" '
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1); else if ($i == "ft:") ft = $(i + 1) }
        /^stat::number_of_executed_units/ { executions = $2 }
        /^stat::average_exec_per_sec/ { rate = $2 }
        /^stat::new_units_added/ { new = $2 }
        END {
            printf "%-12s %8d executions, %5d/s, coverage %d, features %d, %d new inputs, no finding\n",
                target, executions, rate, cov, ft, new
        }' "$log"
}

status=0 running=0
for name in "${targets[@]}"; do
    if ((running == $(nproc))); then
        wait -n || status=1
        running=$((running - 1))
    fi
    run "$name" &
    running=$((running + 1))
done
while ((running)); do
    wait -n || status=1
    running=$((running - 1))
done
exit $status
