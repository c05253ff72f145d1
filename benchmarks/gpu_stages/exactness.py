"""Stage 1: every backend gives the integers of the oracle, bit for bit, on shapes that lie badly.

One row of activations and one more than a tile, N and K that are padded along both, sums at the edge of f32, residual
tiers of 4 and of 8 bits; random and extreme values, each product thrice, as a race would not always show.
"""

import concurrent.futures
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_stages import ahead
from benchmarks.gpu_stages.record import Box, Record, Told
from pallas_kernels import Packed, Residual, matmul, pack, packed_matmul

LIBRARY = ("xla", "bf16", "f32")  # backends of plain XLA, which share a process
SHAPES = ((768, 768), (81, 700), (1, 1), (17, 257), (4608, 768), (1279, 769), (48, 43_777), (768, 2304))  # N, K
ROWS = (1, 9, 64, 17, 2, 8, 16, 200)  # in order of worth
TOY_SHAPES, TOY_ROWS = ((81, 700),), (1, 9)
GIVE_UP = 8  # checks that raise before the rest is left: after a fault of the card all of them do

Case = tuple[str, int, int, int, bool]  # backend, M, N, K, residual tiers


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Checks the backends of the part. Raises SystemExit with a sentence where one is not exact."""
    cases = list(cases_of(part, told))
    raised, wrong = 0, []
    with concurrent.futures.ThreadPoolExecutor(ahead.max_workers(told.card["pool_bytes"])) as pool:
        futures = {case: pool.submit(check, case, box) for case in cases}
        for case, future in futures.items():
            found = future.result()
            if found is None:
                continue
            record.row(**dict(zip(("backend", "m", "n", "k", "residual"), case, strict=True)), **found)
            wrong += [case] if not found["exact"] else []
            raised += "error" in found
            if raised == GIVE_UP:
                box.seconds = 0.0  # `check` reads it
        left_out = sum(future.result() is None for future in futures.values())
    if left_out:
        record.cut(f"{left_out} of {len(cases)} checks of {part}")
    if wrong:
        raise SystemExit(f"{part}: {len(wrong)} of {len(cases)} checks differ from the oracle, the first: {wrong[0]}")


def cases_of(part: str, told: Told) -> Iterator[Case]:
    """The checks of a part's backends, in order of worth."""
    names = LIBRARY if part == "library" else (part,)
    shapes, rows = (TOY_SHAPES, TOY_ROWS) if told.rehearse else (SHAPES, ROWS)
    for m, (n, k), residual, name in itertools.product(rows, shapes, (False, True), names):
        if m <= matmul.MOST_ROWS.get(name, m) and (not residual or n >= 16) and m * n * k <= 5e8:
            yield name, m, n, k, residual


def check(case: Case, box: Box) -> dict[str, Any] | None:
    """Whether accumulator and scaled result are the oracle's; None where no time is left."""
    if not box.left() or not box.seconds:
        return None
    backend, m, n, k, residual = case
    packed = matrix(n, k, residual)
    try:
        by = functools.partial(packed_matmul, packed=packed, backend=backend)
        both = jax.jit(lambda x, d: (by(x, x_scale=d, out_dtype=jnp.int32), by(x, x_scale=d)))
        differ = 0
        for x, delta in activations(m, k):
            want = packed_matmul(x, packed, x_scale=delta, backend="reference", out_dtype=jnp.int32)
            scaled = np.asarray(want, np.float32) * (np.asarray(packed.scale)[None] * delta[:, None])
            for acc, result in (both(x, delta) for _ in range(3)):
                differ += int((np.asarray(acc) != np.asarray(want)).sum() + (np.asarray(result) != scaled).sum())
    except Exception as error:  # a compiler or the card, in many types
        return {"exact": False, "error": ahead.first_line(error)}
    return {"exact": differ == 0, "differ": differ}


def matrix(n: int, k: int, residual: bool) -> Packed:
    """A random matrix whose first row is all ones and last row all −1; every third block promoted, tiers in turn."""
    rng = np.random.default_rng(n * k)
    codes = rng.integers(-1, 2, (n, k)).astype(np.int8)
    codes[-1], codes[0] = -1, 1
    scale = rng.uniform(0.01, 2, n).astype(np.float32)
    if not residual:
        return pack(codes, scale)
    block = np.arange(0, n // 16, 3)
    m = np.where(np.arange(block.size) % 2, 4, 32)
    limit = np.where(m == 4, 7, 127)[:, None, None]
    values = np.clip(rng.integers(-127, 128, (block.size, 16, k)), -limit, limit).astype(np.int8)
    values[:, 0] = limit[:, 0]
    return pack(codes, scale, residual=Residual(values=values, block=block, m=m))


def activations(m: int, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random ones, and rows of nothing but 127 and −127 in turn; with scales δ."""
    rng = np.random.default_rng(m * k)
    delta = rng.uniform(0.1, 3, m).astype(np.float32)
    yield rng.integers(-127, 128, (m, k)).astype(np.int8), delta
    yield np.repeat(np.where(np.arange(m) % 2, -127, 127).astype(np.int8)[:, None], k, axis=1), delta
