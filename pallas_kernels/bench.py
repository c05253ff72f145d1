"""Packed products against dense ones on this device, in one run.

    python -m pallas_kernels.bench [--shapes=model|large|beyond_cache|all] [--rows=1,16,64] [--repeats=7]
                                   [--bitnet=FOLDER] [--out=FILE.json]

Each figure is the median time of one product in a chain of up to 16. *Cold*: over different matrices, as many as exceed
the cache together; where 16 do not, the figure is marked ~, as the matrices are different but may be cached. *Warm*:
over one matrix again and again. A chain of ours is one compiled program, so no product pays for a call of its own.
Before each product the activations are quantised, as in a model, because XLA fuses that into the product where it can.

Packed bandwidth counts the bytes of the codes alone. What it is compared with is measured in the same run: the
bandwidth of a copy, and the rate of a dense int8 product of three equal sides. So are PyTorch, GemLite and Microsoft
BitNet's kernel where they are installed (``peers.py``). Rows are printed, and the file written, as they come.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels import Packed, backends, layout, packed_matmul, peers

SHAPES = {  # N, K
    "model": [(1280, 768), (768, 768), (4608, 768), (768, 2304), (1024, 1024)],
    "large": [(2560, 2560), (3840, 2560), (13824, 2560), (2560, 6912), (3200, 3200), (20480, 3200)],
    "beyond_cache": [(32768, 8192), (65536, 8192)],
}
ROWS = (1, 4, 16, 64, 256, 2048)
MAX_CHAIN = 16  # products of a cold chain, at most
CACHE_BYTES = {"cpu": 32 << 20, "gpu": 128 << 20}  # bytes that the packed matrices of a cold chain exceed together
INT8_SIDE = {"cpu": 2048, "gpu": 8192}  # of the dense product whose rate stands for the int8 peak
DENSE_TYPES = {"bf16": jnp.bfloat16, "f32": jnp.float32}

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line a product, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="model", choices=[*SHAPES, "all"])
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--bitnet", type=pathlib.Path, help="the gpu folder of Microsoft's BitNet, its library built")
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args(arguments)
    copied, peak = copy_bandwidth(given.repeats), int8_rate(given.repeats)
    print(f"{machine()['device']} · copy {copied / 1e9:.1f} GB/s · int8 {peak / 1e12:.2f} T operations/s")
    print(
        f"{'N×K':>13} {'M':>5} {'product':>11} {'cold µs':>10} {'warm µs':>9} {'GB/s':>7} {'of copy':>8} "
        f"{'of int8':>8} {'× bf16':>7} {'× f32':>7} {'× torch':>7}",
        flush=True,
    )
    result: dict[str, Any] = {
        "where": machine(), "copy_bytes_per_s": copied, "int8_operations_per_s": peak, "rows": [], "absent": {}
    }  # fmt: skip
    for n, k in shapes_of(given.shapes):
        for m in map(int, given.rows.split(",")):
            rows, absent = measure_shape(n, k, m, given.repeats, given.bitnet)
            for row in rows:
                row |= {"of_copy": row["packed_bytes"] / row["cold_s"] / copied if row["packed_bytes"] else None}
                row |= {"of_int8": 2 * m * n * k / row["cold_s"] / peak}
                print(table_line(row), flush=True)
            for name, reason in absent.items():
                if result["absent"].get(name) != reason:
                    print(f"{f'{n}×{k}':>13} {m:5} {name:>11}  {reason}", flush=True)
            result["rows"] += rows
            result["absent"] |= absent
            if given.out:
                given.out.write_text(json.dumps(result, indent=1) + "\n")


def shapes_of(group: str) -> list[tuple[int, int]]:
    """N and K of a group of shapes, or of all. Raises ValueError for a group that does not exist."""
    if group not in (*SHAPES, "all"):
        raise ValueError(f"group {group!r} is not one of {', '.join(SHAPES)}, all")
    return [shape for name, members in SHAPES.items() if group in (name, "all") for shape in members]


def machine() -> dict[str, Any]:
    """What the figures depend on: device, processor, cores, threads, versions, commit."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": int(os.environ.get("PJRT_NPROC", 0)),  # of XLA's CPU pool; 0: as it likes
        "jax": jax.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    """Its name, as the system tells it."""
    for text in _lines_of_file("/proc/cpuinfo"):
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines_of_file(path: str) -> list[str]:
    """Its lines, none where it cannot be read."""
    try:
        return pathlib.Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    """The commit of the checkout, with ``+`` when it was edited; ``unknown`` outside one."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    here = pathlib.Path(__file__).parent
    try:
        told = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.strip() or "unknown"


def copy_bandwidth(repeats: int) -> float:
    """Bytes a second of a copy of 256 MB, read and written bytes together."""
    source = jnp.ones((64 << 20,), jnp.float32)
    add = jax.jit(lambda a: a + 1)
    return 2 * source.nbytes / median_seconds(lambda: add(source), repeats)


def int8_rate(repeats: int) -> float:
    """Operations a second (two for each product of numbers) of a large dense int8 product with int32 sums."""
    side = INT8_SIDE.get(jax.devices()[0].platform, INT8_SIDE["cpu"])
    a = jnp.ones((side, side), jnp.int8)
    dot = jax.jit(lambda a: jax.lax.dot_general(a, a, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32))
    return 2 * side**3 / median_seconds(lambda: dot(a), repeats)


def measure_shape(
    n: int, k: int, m: int, repeats: int, bitnet: pathlib.Path | None = None
) -> tuple[list[Row], dict[str, str]]:
    """One row for each product of M activations with an N × K matrix, and the peers that are absent with the reason."""
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (m, k)).astype(np.int8)
    cache = CACHE_BYTES.get(jax.devices()[0].platform, CACHE_BYTES["cpu"])
    copies = min(MAX_CHAIN, cache // (n * k // 4) + 1)
    packed = [random_packed(rng, n, k) for _ in range(copies)]
    times: dict[str, tuple[float, float]] = {}
    for name, (product, form) in _products().items():
        matrices = [form(p) for p in packed]
        cold, warm = (chain(product, x, chained) for chained in (matrices, matrices[:1] * copies))
        times[name] = (median_seconds(cold, repeats) / copies, median_seconds(warm, repeats) / copies)
    absent: dict[str, str] = {}
    codes = [np.asarray(layout.unpack(p)) for p in packed]
    for name, found in peers.measure_peers(x, codes, repeats, bitnet):
        if isinstance(found, str):
            absent[name] = found
        else:
            times[name] = found
    torch = times.get("torch bf16", (None, None))[0]
    return [
        {
            "n": n, "k": k, "m": m, "product": name, "cold_s": cold, "warm_s": warm, "copies": copies,
            "beyond_cache": copies * n * k // 4 > cache,
            "packed_bytes": n * k // 4 if name.startswith("packed") else None,
            "over_bf16": times["bf16"][0] / cold, "over_f32": times["f32"][0] / cold,
            "over_torch": torch / cold if torch else None,
        }
        for name, (cold, warm) in times.items()
    ], absent  # fmt: skip


def _products() -> dict[str, tuple[Callable[..., Any], Callable[[Packed], Any]]]:
    """Name → product, and the function that makes its operand from a packed matrix.

    Dense products, then every available backend.
    """
    products: dict[str, tuple[Callable[..., Any], Callable[[Packed], Any]]] = {
        name: (dense_product(dtype), functools.partial(dense_codes, dtype=dtype)) for name, dtype in DENSE_TYPES.items()
    }
    for name, state in backends().items():
        if state == "available" and name != "reference":
            products[f"packed {name}"] = (packed_product(name), lambda p: p)
    return products


def code_product_seconds(product: Callable[..., Any], m: int, n: int, k: int, repeats: int = 5) -> float:
    """Median seconds of a backend's bare product over eight different matrices."""
    rng = np.random.default_rng(0)
    matrices = [random_packed(rng, n, k) for _ in range(8)]
    x = rng.integers(-127, 128, (m, matrices[0].codes.shape[1] * 4)).astype(np.int8)
    bare = lambda x, delta, w: product(x, w.codes).astype(jnp.float32) * delta[:, None]
    return median_seconds(chain(bare, x, matrices), repeats) / len(matrices)


def dense_product(dtype: Any) -> Callable[[Any, Any, Any], Any]:
    """The product with a dense matrix of that type."""

    def product(x: Any, delta: Any, w: Any) -> Any:
        acc = jax.lax.dot_general(x.astype(dtype), w, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        return acc * delta[:, None]

    return product


def packed_product(backend: str) -> Callable[[Any, Any, Any], Any]:
    """The product with a packed matrix by that backend."""
    return lambda x, delta, w: packed_matmul(x, w, x_scale=delta, backend=backend)


def random_packed(rng: np.random.Generator, n: int, k: int) -> Packed:
    """A matrix of random codes, packed without the checks of ``pack``."""
    shape = layout.round_up(n, layout.TILE_ROWS), layout.round_up(k, layout.BLOCK_K) // 4
    bits = rng.integers(0, 256, shape, np.uint8)
    high = bits & np.uint8(0xAA)
    codes = high | bits & ~(high >> 1) & np.uint8(0x55)  # no code 3: its low bit goes
    return Packed(codes=jnp.asarray(codes), scale=jnp.ones((n,), jnp.float32), residual={}, shape=(n, k))


def dense_codes(packed: Packed, dtype: Any) -> Any:
    """The same integers, dense."""
    return layout.unpack(packed).astype(dtype)


def chain(product: Callable[..., Any], x: np.ndarray, matrices: list[Any]) -> Callable[[], Any]:
    """One compiled call of ``chained(product)`` on the activations and every matrix in turn."""
    run, floats = chained(product), jnp.asarray(x, jnp.float32)
    return lambda: run(floats, matrices)


def chained(product: Callable[..., Any]) -> Any:
    """A jitted function of activations f32 [M, K] and a list of matrices, which multiplies them one after the other.

    They are quantised anew before each product, and depend on the result before (which changes nothing), so that XLA
    can neither share nor reorder the work.
    """

    @jax.jit
    def run(x: Any, matrices: list[Any]) -> Any:
        delta = jnp.ones(x.shape[:1], jnp.float32)
        for w in matrices:
            y = product(jnp.clip(jnp.round(x), -127, 127).astype(jnp.int8), delta, w)
            x = x + 0 * y[:, :1]
        return y

    return run


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall seconds of a call, after one to compile."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def table_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    size, packed = f"{row['n']}×{row['k']}", row["packed_bytes"]
    speed = f"{packed / row['cold_s'] / 1e9:7.1f} {100 * row['of_copy']:7.1f}%" if packed else " " * 16
    mark = " " if row["beyond_cache"] else "~"
    torch = f"{row['over_torch']:7.2f}" if row["over_torch"] else ""
    return (
        f"{size:>13} {row['m']:5} {row['product']:>11} {mark}{1e6 * row['cold_s']:9.1f} {1e6 * row['warm_s']:9.1f} "
        f"{speed} {100 * row['of_int8']:7.1f}% {row['over_bf16']:7.2f} {row['over_f32']:7.2f} {torch}"
    ).rstrip()


if __name__ == "__main__":
    main()
