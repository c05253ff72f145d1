"""Other people's products, measured beside ours where they are installed: PyTorch, GemLite, Microsoft BitNet.

None of them is required: each is imported when it is asked for, and a sentence says why one is absent. Times are those
of the device: on a GPU a chain of products is captured in a CUDA graph first, so that Python's launches do not count.
"""

import ctypes
import functools
import importlib
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_BITNET_SHAPES = {  # N, K; the kernel is compiled for these, for one row of activations
    (2560, 2560), (3840, 2560), (13824, 2560), (2560, 6912), (3200, 3200), (4800, 3200), (3200, 10240), (20480, 3200),
}  # fmt: skip

Call = Callable[[], Any]


class Absent(Exception):
    """A peer that cannot be measured here; the message says why."""


def measure_peers(
    x: np.ndarray, matrices: list[np.ndarray], repeats: int, bitnet: pathlib.Path | None
) -> Iterator[tuple[str, tuple[float, float] | str]]:
    """Every peer's name with its seconds a product, cold (over all matrices) and warm (over one), or why not.

    x is int8 [M, K], the matrices int8 [N, K] of −1, 0, 1. Each peer's first result is compared with NumPy's; one that
    differs by more than its rounding to bf16 is reported as wrong and not timed.
    """
    for name, prepare in (("torch bf16", torch_bf16), ("gemlite", gemlite), ("bitnet", bitnet_from(bitnet))):
        try:
            calls = prepare(x, matrices)
            _check_result(calls[0], x, matrices[0])
            warm = _median_seconds(calls[:1] * len(calls), repeats)
            yield name, (_median_seconds(calls, repeats) / len(calls), warm / len(calls))
        except Absent as reason:
            yield name, str(reason)


def torch_bf16(x: np.ndarray, matrices: list[np.ndarray]) -> list[Call]:
    """PyTorch's own bf16 product, by cuBLAS on a GPU."""
    torch = _torch()
    put = lambda a: torch.from_numpy(np.array(a)).to(device=_device(torch), dtype=torch.bfloat16)
    activations = put(x)
    return [functools.partial(torch.matmul, activations, put(w).T) for w in matrices]


def gemlite(x: np.ndarray, matrices: list[np.ndarray]) -> list[Call]:
    """GemLite's A8W158_INT_dynamic: 2-bit weights, int8 activations that it quantises itself (counted in its time)."""
    torch = _torch()
    try:
        processor = importlib.import_module("gemlite.helper").A8W158_INT_dynamic
    except (ImportError, AttributeError) as error:
        raise Absent(f"not installed ({error})") from None
    if not torch.cuda.is_available():
        raise Absent("needs an NVIDIA GPU")
    make = processor(device="cuda:0", dtype=torch.bfloat16).from_weights
    one, activations = torch.ones(1), torch.from_numpy(x).to("cuda", torch.bfloat16)
    layers = [make(torch.from_numpy(w).to("cuda", torch.bfloat16), one) for w in matrices]
    return [functools.partial(layer, activations) for layer in layers]


def bitnet_from(folder: pathlib.Path | None) -> Callable[[np.ndarray, list[np.ndarray]], list[Call]]:
    """Microsoft BitNet's int8 × int2 kernel from its ``gpu`` folder, with ``bitnet_kernels/libbitnet.so`` built."""

    def prepare(x: np.ndarray, matrices: list[np.ndarray]) -> list[Call]:
        if folder is None:
            raise Absent("not installed (--bitnet names its gpu folder)")
        torch = _torch()
        if x.shape[0] != 1 or matrices[0].shape not in _BITNET_SHAPES:
            raise Absent("has no kernel for this shape")
        if not torch.cuda.is_available():
            raise Absent("needs an NVIDIA GPU")
        library = folder / "bitnet_kernels" / "libbitnet.so"
        try:
            product = ctypes.CDLL(str(library)).bitlinear_int8xint2
        except OSError as error:
            raise Absent(f"cannot be loaded ({error})") from None
        sys.path.insert(0, str(folder))
        packing = importlib.import_module("pack_weight").convert_weight_int8_to_int2
        return [_bitnet_call(torch, product, x, packing(torch.from_numpy(w)).to("cuda"), w.shape) for w in matrices]

    return prepare


def _bitnet_call(torch: Any, product: Any, x: np.ndarray, packed: Any, shape: tuple[int, int]) -> Call:
    """One product by BitNet's library."""
    n, k = shape
    activations = torch.from_numpy(x).to("cuda")
    out = torch.empty((1, n), dtype=torch.bfloat16, device="cuda")
    ones = torch.ones(6, dtype=torch.bfloat16, device="cuda")  # scales of the activations and of the weights

    def call() -> Any:
        pointers = (ctypes.c_void_p(a.data_ptr()) for a in (activations, packed, out, ones, ones))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        product(*pointers, *map(ctypes.c_int, (1, n, k)), stream)
        return out

    return call


def _torch() -> Any:
    """The module. Raises ``Absent``."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise Absent("not installed (PyTorch)") from None


def _device(torch: Any) -> str:
    """Where PyTorch is to compute."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_result(call: Call, x: np.ndarray, w: np.ndarray) -> None:
    """Raises ``Absent`` for a result further from NumPy's than bf16 or another quantisation of x would bring it."""
    found = call().float().cpu().numpy()
    want = x.astype(np.float32) @ w.T.astype(np.float32)  # exact: integers below 2²⁴
    if not np.abs(found - want).max() <= 0.02 * np.abs(want).max():
        raise Absent(f"is wrong: off by up to {np.abs(found - want).max():.1f} of {np.abs(want).max():.1f}")


def _median_seconds(calls: list[Call], repeats: int) -> float:
    """Median seconds of all calls, one after the other."""
    torch = _torch()
    on_gpu = _device(torch) == "cuda"
    run: Call = lambda: [call() for call in calls]
    run = _as_cuda_graph(torch, run) if on_gpu else run
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _as_cuda_graph(torch: Any, run: Call) -> Call:
    """The calls as one CUDA graph; PyTorch wants them run on a side stream first, which also tunes GemLite."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
