"""Time of PyTorch's 4-bit kernel (tinygemm, groups of 128), to be run beside `cargo bench --bench matmul`.

    python3 benches/peers/int4_pytorch.py [N x K ...]

Weights rotate over so many copies that the L2 cache is cold; calls are captured in a CUDA graph, so that
launching them costs nothing. Prints the median of 50 replays, in microseconds a call.
"""

import statistics
import sys

import torch

GROUP, INNER_K_TILES, COLD_BYTES = 128, 8, 256 << 20


def packed(n, k):
    nibbles = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
    weights = torch.ops.aten._convert_weight_to_int4pack(nibbles, INNER_K_TILES)
    scales = torch.rand(k // GROUP, n, 2, dtype=torch.bfloat16, device="cuda")
    return weights, scales


def time(n, k, m):
    copies = [packed(n, k) for _ in range(COLD_BYTES // (n * k // 2) + 2)]
    x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")

    def run():
        for weights, scales in copies:
            torch.ops.aten._weight_int4pack_mm(x, weights, GROUP, scales)

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(50):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / len(copies))
    bits = 8 * sum(t.numel() * t.element_size() for t in copies[0]) / (n * k)
    return statistics.median(times), bits


shapes = [tuple(map(int, arg.split("x"))) for arg in sys.argv[1:]] or [(14336, 4096), (28672, 8192)]
print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
for n, k in shapes:
    for m in (1, 8, 16):
        us, bits = time(n, k, m)
        print(f"{n}x{k} m={m}: {us:.1f} us, {bits:.3f} bits a weight")
