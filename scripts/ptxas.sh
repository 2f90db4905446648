#!/bin/sh
# Assembles the PTX for every architecture that it supports: PTX for sm_90a for that one only, because it runs on no
# other. For each file, prints a table of the resources that each kernel takes:
# registers / bytes of static shared memory / bytes of stack / bytes of spills.
# Fails if ptxas fails, or if a kernel spills more than its limit.
#
#   scripts/ptxas.sh [PTX...]
#
# PTX is a file of plain text, or a compressed one whose name ends in .lzma. By default these are the committed files.
# Runs the ptxas at the path $PTXAS, else that of PyPI's nvidia-cuda-nvcc, installed under target/. Needs no GPU.
set -eu

version=13.0.88
common_archs="80 86 89 90 100 120"
# Kernels that may spill. A line is a pattern of names, the limit in bytes of stores plus bytes of loads, and the limit
# in bytes of stack, both per thread. The first line that fits applies; no other kernel may spill.
#
# For sm_80 and later these are the kernels for 32 and 64 rows of x. Their sums alone take half of the registers, so
# with some formats and architectures ptxas spills a few values outside the main loop.
common_limits='^matmul_.*_m(32|64)$ 96 24'
# For sm_90a a block of the lean kernels has up to 16 warps, and they fill the 128 registers that this leaves a thread.
# With the formats named here ptxas lacks a few more. More rows of x have more sums, so they spill more. The wide kernels,
# for 64 and 128 rows, spill nothing.
sm_90a_limits='^matmul_(i8_r0|i4|f16)_b?f16_m8$ 52 24
^matmul_(i8_r0|i4|i4_x4|f16|f16_plain|bf16_plain)_b?f16_m16$ 152 40
^matmul_.*_m32$ 560 140'

root=$(dirname "$0")/..
[ $# -gt 0 ] || set -- "$root/ptx/fused_rans_sm_80.ptx.lzma" "$root/ptx/fused_rans_sm_90a.ptx.lzma"
for ptx; do
    [ -r "$ptx" ] || { echo "$0: cannot read $ptx" >&2; exit 2; }
done

cache=${CARGO_TARGET_DIR:-$root/target}/cuda-nvcc-$version
ptxas=${PTXAS:-$cache/nvidia/cu13/bin/ptxas}
if [ -z "${PTXAS:-}" ] && [ ! -f "$ptxas" ]; then
    # --target needs no virtual environment, and is allowed even if the system manages Python.
    python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore \
        --target "$cache" "nvidia-cuda-nvcc==$version"
fi
[ -x "$ptxas" ] || chmod +x "$ptxas"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Assembles the file $1 and prints its table. The output of ptxas goes to a directory that is named after $2.
check() {
    work_here=$work/$2
    mkdir -p "$work_here/logs"
    case $1 in
    *.lzma) xz -dc "$1" >"$work_here/text" || return 1 ;;
    *) cp "$1" "$work_here/text" ;;
    esac
    case $(grep -m 1 '^\.target ' "$work_here/text") in
    *sm_90a*) archs=90a limits=$sm_90a_limits ;;
    *) archs=$common_archs limits=$common_limits ;;
    esac
    assembled=0
    echo "$archs" | tr ' ' '\n' | xargs -P "$(nproc)" -I ARCH sh -c \
        '"$1" -v -arch=sm_ARCH -o /dev/null "$2/text" >"$2/logs/ARCH" 2>&1 || exit 1' sh "$ptxas" "$work_here" ||
        assembled=1
    grep -hE '(error|fatal|warning) *:' "$work_here"/logs/* | sort -u >&2 || true
    (cd "$work_here/logs" && table "$archs" "$limits") || return 1
    return $assembled
}

# Prints the table of the output of ptxas for the architectures $1, which is in files that are named after them. Checks
# the limits $2.
table() {
    # shellcheck disable=SC2086
    LIMITS=$2 awk -v archs="$1" '
        function number(before,   text) {
            text = $0
            return match(text, "[0-9]+ " before) ? substr(text, RSTART, RLENGTH) + 0 : 0
        }
        # Sets the limits of a kernel.
        function find_limits(kernel,   i, part) {
            max_spill = max_stack = 0
            for (i = 1; i <= rules; i++) {
                split(rule[i], part, " ")
                if (kernel ~ part[1]) { max_spill = part[2]; max_stack = part[3]; return }
            }
        }
        BEGIN { rules = split(ENVIRON["LIMITS"], rule, "\n") }
        # Adds spills of a called function to the kernel that is reported before it.
        /Compiling entry function/ { split($0, part, "\047"); kernel = part[2]; cell = kernel SUBSEP FILENAME
            if (!(kernel in seen)) { seen[kernel]; order[++kernels] = kernel; if (length(kernel) > width) width = length(kernel) } }
        /bytes stack frame/ { stack[cell] += number("bytes stack frame")
            spill[cell] += number("bytes spill stores") + number("bytes spill loads") }
        /Used [0-9]+ registers/ { registers[cell] = number("registers"); shared[cell] = number("bytes smem") }
        END {
            if (!kernels) { print "no kernels" | "cat >&2"; exit 1 }
            count = split(archs, arch, " ")
            printf "%-*s", width, "kernel"
            for (a = 1; a <= count; a++) printf "  %14s", "sm_" arch[a]
            print ""
            for (k = 1; k <= kernels; k++) {
                printf "%-*s", width, order[k]
                find_limits(order[k])
                for (a = 1; a <= count; a++) {
                    cell = order[k] SUBSEP arch[a]
                    printf "  %14s", (cell in registers) ? registers[cell] "/" shared[cell] + 0 "/" stack[cell] "/" spill[cell] : "-"
                    # A kernel without spills may have arrays on its stack.
                    if (spill[cell] > max_spill + 0 || max_spill > 0 && stack[cell] > max_stack + 0)
                        failures = failures sprintf("%s spills too much on sm_%s: %d bytes, %d of stack\n",
                            order[k], arch[a], spill[cell], stack[cell])
                }
                print ""
            }
            if (failures) { printf "%s", failures | "cat >&2"; exit 1 }
        }' $1
}

status=0
number=0
for ptx; do
    [ $number -eq 0 ] || echo
    number=$((number + 1))
    check "$ptx" $number || status=1
done
exit $status
