#!/bin/sh
# Profiles a fused product with Nsight Compute: what the kernel executes for each weight, and how busy the device's parts
# are. Needs a GPU, ncu, and the right to read performance counters.
#
#   scripts/profile.sh [SHAPE [FORMAT [ROWS]]]       such as 28672x4096 bf16 8, which is the default
#
# Runs the benchmark at the path $BENCH, else builds it (cargo bench --features cuda --bench matmul).
set -eu

shape=${1:-28672x4096} format=${2:-bf16} rows=${3:-8}
if [ -z "${BENCH:-}" ]; then
    BENCH=$(cargo bench --features cuda --bench matmul --no-run --message-format json |
        sed -n 's/.*"name":"matmul".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
fi
[ -x "$BENCH" ] || { echo "$0: no benchmark at '$BENCH'; set BENCH to its path" >&2; exit 2; }

metrics=gpu__time_duration.sum,smsp__inst_executed.sum
metrics=$metrics,smsp__inst_issued.avg.pct_of_peak_sustained_active
metrics=$metrics,sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active
metrics=$metrics,l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed
metrics=$metrics,dram__throughput.avg.pct_of_peak_sustained_elapsed

# The clock stays as it is under load. The first launches of the kernel are warm-up.
ncu --clock-control none --kernel-name "regex:^matmul_" --launch-skip 8 --launch-count 1 --csv --print-units base \
    --metrics "$metrics" "$BENCH" --test --shapes "$shape" --formats "$format" --batch "$rows" |
    awk -F '","' -v shape="$shape" '
        NF > 10 && $(NF - 2) in names { number = $NF; gsub(/[",]/, "", number); value[$(NF - 2)] = number; kernel = $5 }
        BEGIN {
            names["gpu__time_duration.sum"] = names["smsp__inst_executed.sum"] = 1
            names["smsp__inst_issued.avg.pct_of_peak_sustained_active"] = 1
            names["sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active"] = 1
            names["l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed"] = 1
            names["dram__throughput.avg.pct_of_peak_sustained_elapsed"] = 1
        }
        END {
            if (!kernel) { print "no kernel was profiled: is ncu allowed to read the counters?" > "/dev/stderr"; exit 1 }
            split(shape, sides, "x")
            weights = sides[1] * sides[2]
            printf "%s, %s\n", kernel, shape
            printf "time              %10.1f us\n", value["gpu__time_duration.sum"] / 1e3
            printf "instructions      %10.2f a weight and lane\n", value["smsp__inst_executed.sum"] * 32 / weights
            printf "issue slots       %10.1f %%\n", value["smsp__inst_issued.avg.pct_of_peak_sustained_active"]
            printf "ALU               %10.1f %%\n", value["sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active"]
            printf "shared memory     %10.1f %%\n", \
                value["l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed"]
            printf "DRAM              %10.1f %%\n", value["dram__throughput.avg.pct_of_peak_sustained_elapsed"]
        }'
