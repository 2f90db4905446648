#!/bin/sh
# Makes a stand-in for the CUDA driver in DIR/lib64, so that the feature `cuda` builds, links and
# starts where there is no GPU: every driver call returns CUDA_ERROR_NO_DEVICE.
#
#   export $(scripts/cuda-stub.sh DIR)
#   cargo test --features cuda
#
# CUDA_LIBRARY_PATH is where the build script of cust_raw looks for lib64. LD_LIBRARY_PATH is for
# starting what was built; leave it unset where there is a driver.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1/lib64"
lib=$(cd "$1/lib64" && pwd)
cd "$(dirname "$0")/.."

manifest=$(cargo metadata --locked --format-version 1 --features cuda |
    grep -o '"manifest_path":"[^"]*/cust_raw-[^"]*"' | cut -d '"' -f 4 | head -n 1)
[ -n "$manifest" ] || { echo "$0: cust_raw is not among the dependencies" >&2; exit 1; }

{
    cat <<'C'
enum { NO_DEVICE = 100 };
int cuGetErrorName(int error, const char **text) { (void)error; *text = "CUDA_ERROR_NO_DEVICE"; return 0; }
int cuGetErrorString(int error, const char **text) { (void)error; *text = "stub of libcuda"; return 0; }
C
    sed -n 's/^ *pub fn \(cu[A-Za-z0-9_]*\).*/\1/p' "$(dirname "$manifest")/src/cuda.rs" |
        sort -u | grep -vxE 'cuGetError(Name|String)' |
        sed 's/.*/int &(void) { return NO_DEVICE; }/'
} | "${CC:-cc}" -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$lib/libcuda.so.1" -x c -
ln -sf libcuda.so.1 "$lib/libcuda.so"
echo "CUDA_LIBRARY_PATH=${lib%/lib64} LD_LIBRARY_PATH=$lib"
