// The driver's own cost of a launch: the host's time for cuLaunchKernel of kernels that do nothing, in the ways that
// `Layer::matmul` could use it. `cargo bench --bench gpu` prints what a product takes on the same machine.
//
//   nvcc -arch=sm_90 -cubin -o launch.cubin launch.cu && nvcc -arch=sm_90 -o launch launch.cu -lcuda && ./launch launch.cubin
#include <cuda.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

struct Args { unsigned long long words[14]; };  // as long as MatmulArgs

extern "C" __global__ void one_word(unsigned long long) {}
extern "C" __global__ void structure(const __grid_constant__ Args args) {
    extern __shared__ int memory[];
    if (args.words[0]) memory[threadIdx.x] = 1;
}

static void check(CUresult result) {
    if (result) { std::printf("driver error %d\n", result); std::exit(1); }
}

int main(int, char **argv) {
    CUdevice device;
    CUcontext context;
    check(cuInit(0)); check(cuDeviceGet(&device, 0));
    check(cuDevicePrimaryCtxRetain(&context, device)); check(cuCtxSetCurrent(context));
    CUmodule module;
    CUfunction word, args;
    check(cuModuleLoad(&module, argv[1]));
    check(cuModuleGetFunction(&word, module, "one_word")); check(cuModuleGetFunction(&args, module, "structure"));
    const int shared = 200 << 10;
    check(cuFuncSetAttribute(args, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared));
    CUstream free_stream, blocking;
    check(cuStreamCreate(&free_stream, CU_STREAM_NON_BLOCKING)); check(cuStreamCreate(&blocking, 0));

    Args values = {};
    unsigned long long number = 0;
    size_t size = sizeof values;
    void *one[] = {&number}, *whole[] = {&values};
    void *packed[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &values, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
    CUlaunchConfig config = {132, 1, 1, 384, 1, 1, (unsigned)shared, free_stream, nullptr, 0};
    auto launch = [&](CUfunction f, unsigned bytes, CUstream stream, void **parameters, void **extra) {
        check(cuLaunchKernel(f, 132, 1, 1, 384, 1, 1, bytes, stream, parameters, extra));
    };
    std::vector<std::pair<const char *, std::function<void()>>> ways = {
        {"empty kernel, 8 bytes of arguments", [&] { launch(word, 0, free_stream, one, nullptr); }},
        {"112 bytes, 200 KB of shared memory", [&] { launch(args, shared, free_stream, whole, nullptr); }},
        {"the same, arguments as one buffer", [&] { launch(args, shared, free_stream, nullptr, packed); }},
        {"the same, cuLaunchKernelEx", [&] { check(cuLaunchKernelEx(&config, args, whole, nullptr)); }},
        {"the same, blocking CUDA stream", [&] { launch(args, shared, blocking, whole, nullptr); }},
        {"the same, legacy CUDA stream", [&] { launch(args, shared, nullptr, whole, nullptr); }},
        {"cuCtxSetCurrent alone", [&] { check(cuCtxSetCurrent(context)); }},
    };
    for (auto &[name, way] : ways) {
        const int queued = 500;
        std::vector<double> us;
        for (int batch = 0; batch < 50; batch++) {
            check(cuCtxSynchronize());
            auto start = std::chrono::steady_clock::now();
            for (int call = 0; call < queued; call++) way();
            std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
            us.push_back(time.count() / queued);
        }
        std::sort(us.begin(), us.end());
        std::printf("%-36s %5.2f us, fastest batch %.2f us\n", name, us[us.size() / 2], us[0]);
    }
    check(cuCtxSynchronize());
}
