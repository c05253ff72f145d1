"""Stage 2: one product of M activations with an N × K matrix, by every backend and by cuBLAS in bf16 (``jnp.dot``).

Chains of products of one compiled program, as in ``pallas_kernels.bench``, are put into the card's queue one behind
the other. *Cold*: over as many different matrices as hold twice its L2. *Warm*: over one. ``host_s`` is what a product
costs when the program does next to nothing: where that is near a time, the host was measured and not the card.
"""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_stages import ahead, card
from benchmarks.gpu_stages.record import Box, Record, Told
from pallas_kernels import Packed, bench, layout, matmul, packed_matmul

# Of azr_100m (its four matrices), and two beyond every L2; in order of worth.
SHAPES = ((4608, 768), (32_768, 8_192), (1280, 768), (768, 2304), (768, 768), (65_536, 8_192))
ROWS = (1, 64, 2_048, 16, 256)
TOY_SHAPES, TOY_ROWS, TOY_CUT = ((48, 512),), (1, 16), (2, 2)
CHAIN = 32  # products of a program, at most
COMPILING = 0.6  # of the box, at most
REPEATS = 5
ENOUGH_S = 0.4  # of timing, for one figure
_SEED = jax.ShapeDtypeStruct((), jnp.uint32)
_POOL_SHARE = 0.45  # of the pool, for the matrices

Product = Callable[[Any, Any, Any], Any]  # activations int8 [M, K], δ [M], operand → [M, N]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to be measured."""

    name: str
    m: int
    n: int
    k: int
    product: Product
    operand: Callable[[Any], Any]  # a seed → the codes as bytes, or a dense matrix; jitted


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Measures the products of a part; with those of the library the bandwidth of a copy and the int8 rate."""
    if part == "library" and not told.rehearse:
        record.note(copy_bytes_per_s=bench.copy_bandwidth(7))
    shapes, rows = (TOY_SHAPES, TOY_ROWS) if told.rehearse else (SHAPES, ROWS)
    items = [
        item
        for m, (n, k) in itertools.product(rows, shapes)
        for item in items_of(part, m, n, k, told.card)
        if m <= matmul.MOST_ROWS.get(part, m)
    ]
    measure_items(items, box, record, told)
    if part == "library" and not told.rehearse and box.has(2.0):
        record.note(int8_operations_per_s=bench.int8_rate(3))


def items_of(part: str, m: int, n: int, k: int, about: dict[str, Any]) -> list[Item]:
    """The products of one shape: cuBLAS and plain XLA, or one backend. f32 where 16-bit products are no faster."""
    if part != "library":
        return [packed_item(part, m, n, k)]
    types = ["bf16"] + ["f32"] * (about["platform"] != "gpu" or float(about["capability"]) < 8)
    dense = [
        Item(
            name=f"dense {name}", m=m, n=n, k=k, product=bench.dense_product(bench.DENSE_TYPES[name]),
            operand=functools.partial(dense_operand, n=n, k=k, dtype=bench.DENSE_TYPES[name]),
        )
        for name in types
    ]  # fmt: skip
    return [*dense, *(packed_item(name, m, n, k) for name in ("xla", *types))]


def packed_item(backend: str, m: int, n: int, k: int) -> Item:
    """The product of a backend."""
    by = lambda x, delta, packed: packed_matmul(x, packed, x_scale=delta, backend=backend)
    return item_of(backend, by, m, n, k)


def item_of(name: str, by: Callable[[Any, Any, Packed], Any], m: int, n: int, k: int) -> Item:
    """A product with a packed matrix. The program is given its bytes alone, which is quicker than a tree of arrays."""
    packed = lambda codes: Packed(codes=codes, scale=jnp.ones((n,), jnp.float32), residual={}, shape=(n, k))
    product = jax.jit(lambda x, delta, codes: by(x, delta, packed(codes)))  # jitted: traced once for a whole chain
    return Item(name=name, m=m, n=n, k=k, product=product, operand=functools.partial(packed_operand, n=n, k=k))


@functools.partial(jax.jit, static_argnames=("n", "k"))
def packed_operand(seed: Any, n: int, k: int) -> Any:
    """Bytes of random codes without a 3."""
    key = jax.random.key(seed)
    shape = layout.round_up(n, layout.TILE_ROWS), layout.round_up(k, layout.BLOCK_K) // 4
    bits = jax.random.bits(key, shape, jnp.uint8)
    high = bits & jnp.uint8(0xAA)
    return high | bits & ~(high >> 1) & jnp.uint8(0x55)


@functools.partial(jax.jit, static_argnames=("n", "k", "dtype"))
def dense_operand(seed: Any, n: int, k: int, dtype: Any) -> Any:
    """A dense matrix of −1, 0 and 1."""
    return jax.random.randint(jax.random.key(seed), (n, k), -1, 2, jnp.int8).astype(dtype)


def measure_items(items: list[Item], box: Box, record: Record, told: Told) -> None:
    """Compiles as many as the box allows, in order, and writes a row for each."""
    record.doing("compiling products")
    cuts = [cut_of(item, told) for item in items]
    job_of = lambda item, cut: functools.partial(compile_item, item, cut[0]) if cut else _no_room
    jobs = [job_of(item, cut) for item, cut in zip(items, cuts, strict=True)]
    programs = ahead.compile_all(jobs, box, COMPILING, told.card["pool_bytes"])
    left: dict[str, list[str]] = {}
    for item, cut, program in zip(items, cuts, programs, strict=True):
        what = f"{item.name} {item.n}×{item.k} M={item.m}"
        if not box.has(0.5) and not isinstance(program, Exception):
            program = ahead.NotInTime("no time to measure it")
        if isinstance(program, Exception):
            left.setdefault(ahead.first_line(program), []).append(what)
            continue
        record.doing(what)
        try:
            row = seconds_of(item, program, *cut)
        except Exception as error:  # too little memory, a launch that is refused: in many types
            left.setdefault(ahead.first_line(error), []).append(what)
            continue
        record.row(product=item.name, m=item.m, n=item.n, k=item.k, **row)
    for reason, names in left.items():
        record.cut(f"{reason}: {', '.join(names)}")


def cut_of(item: Item, told: Told) -> tuple[int, int] | None:
    """Products of a program, and sets of as many matrices that hold twice the L2; None for one too large."""
    if told.rehearse:
        return TOY_CUT
    shape = jax.eval_shape(item.operand, _SEED)
    size, wanted = shape.size * shape.dtype.itemsize, 2 * card.l2_bytes(told.card)
    room = int(_POOL_SHARE * (told.card["pool_bytes"] or 1 << 30))
    if size > room:
        return None
    chain = max(1, min(CHAIN, max(4, -(-wanted // size)), room // size))
    return chain, max(1, min(-(-wanted // (chain * size)), room // (chain * size), 64))


def _no_room() -> Any:
    raise MemoryError("the matrix is too large for the card")


def compile_item(item: Item, chain: int) -> Any:
    """The compiled chain of products."""
    operand = jax.eval_shape(item.operand, _SEED)
    activations = jax.ShapeDtypeStruct((item.m, item.k), jnp.float32)
    return bench.chained(item.product).lower(activations, [operand] * chain).compile()


def seconds_of(item: Item, program: Any, chain: int, sets: int) -> dict[str, Any]:
    """Median seconds of a product, cold and warm, and of the host's part of it."""
    seeds = iter(np.arange(chain * sets, dtype=np.uint32))
    matrices = [[item.operand(next(seeds)) for _ in range(chain)] for _ in range(sets)]
    x = jax.random.randint(jax.random.key(1), (item.m, item.k), -127, 128).astype(jnp.float32)
    one = [matrices[0][0]] * chain
    idle = jax.jit(lambda x, matrices: x[:1, :1] + 1)
    for call in (program, idle):
        _queue_seconds(call, x, [one])  # what comes first loads kernels
    # The queue is some calls long where calls are short, so that waiting for its end does not count.
    calls = min(max(1, int(ENOUGH_S / REPEATS / _queue_seconds(program, x, [one]))), 8)
    repeats = REPEATS if calls > 1 else 2
    in_turn = lambda call, groups: statistics.median(_queue_seconds(call, x, groups) for _ in range(repeats))
    queue = matrices * max(1, calls // sets)
    return {
        "cold_s": in_turn(program, queue) / chain,
        "warm_s": in_turn(program, [one] * calls) / chain,
        "host_s": in_turn(idle, queue) / chain,
        "bytes": matrices[0][0].nbytes, "matrices": chain * sets,
    }  # fmt: skip


def _queue_seconds(call: Callable[[Any, Any], Any], x: Any, groups: list[list[Any]]) -> float:
    """Seconds of a call, of as many as there are groups of matrices, queued one behind the other."""
    began = time.perf_counter()
    for group in groups:
        out = call(x, group)
    jax.block_until_ready(out)
    return (time.perf_counter() - began) / len(groups)
