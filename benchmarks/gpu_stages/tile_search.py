"""Stage 3: tiles of the Triton product, shape by shape, one axis after the other from the default tile.

A whole search (``pallas_kernels.tuning``) tries up to 192 tiles a shape and takes hours of compiling; this one keeps of
each axis the fastest value and stops where none is better. Times are cold ones, as in ``products``.
"""

import dataclasses
import functools
import itertools
from typing import Any

from benchmarks.gpu_stages import ahead, products
from benchmarks.gpu_stages.record import Box, Record, Told
from pallas_kernels import layout, matmul, tiles, triton_gpu

SHAPES = products.SHAPES
ROWS = (64, 2_048, 16, 256)
AXES = {
    "activations": (16, 32, 64, 128),
    "warps": (4, 8),
    "stages": (2, 3, 4),
    "splits": (1, 2, 4, 8),
    "rows": (32, 64),
}
TOY_AXES = {"activations": (16, 32)}

Tile = tiles.Tile


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Searches for as many shapes as the box allows; on a CPU by the interpreter, at toy size."""
    state = told.card["backends"]["triton"]
    if state != "available" and not told.rehearse:
        record.absent("tiles", f"triton {state}")
        return
    shapes = list(itertools.product(*((16,), ((64, 256),)) if told.rehearse else (ROWS, SHAPES)))
    for at, (m, (n, k)) in enumerate(shapes):
        if not box.has(2.0):
            record.cut(f"tiles of {len(shapes) - at} of {len(shapes)} shapes")
            return
        record.doing(f"tiles of {n}×{k} M={m}")
        search(m, n, k, Box(box.left() / (len(shapes) - at) * 2), record, told)


def search(m: int, n: int, k: int, box: Box, record: Record, told: Told) -> None:
    """Writes the best tile found within the box beside the default one; both cold, seconds a product."""
    rows, columns = layout.round_up(n, layout.TILE_ROWS), layout.round_up(k, layout.BLOCK_K)
    best = default = tiles.default_tile(m, rows, columns)
    seconds = seconds_by_tile([default], m, n, k, box, told)
    if default not in seconds:
        record.cut(f"tiles of {n}×{k} M={m}: the default one gave no time")
        return
    for axis, values in (TOY_AXES if told.rehearse else AXES).items():
        others = [dataclasses.replace(best, **{axis: value}) for value in values]
        fitting = [tile for tile in others if tile not in seconds and fits(tile, m, rows, columns)]
        if not box.has(1.0):
            break
        seconds |= seconds_by_tile(fitting, m, n, k, box, told)
        best = min(seconds, key=lambda tile: seconds[tile])
    record.row(
        m=m, n=n, k=k, tile=dataclasses.asdict(best), cold_s=seconds[best], default_s=seconds[default],
        default=dataclasses.asdict(default), tried=len(seconds),
    )  # fmt: skip


def fits(tile: Tile, m: int, rows: int, k: int) -> bool:
    """Whether the tile divides the shape and leaves each warp something to do."""
    return (
        rows % tile.rows == 0
        and (k // layout.BLOCK_K) % tile.splits == 0
        and tile.activations <= 2 * tiles.bucket(m)
        and tile.rows * tile.activations >= 128 * tile.warps
    )


def seconds_by_tile(candidates: list[Tile], m: int, n: int, k: int, box: Box, told: Told) -> dict[Tile, float]:
    """Cold seconds of those tiles that compile in time."""
    cut = products.cut_of(item_of(tiles.Tile(), m, n, k, told.rehearse), told)
    if cut is None:
        return {}
    items = [item_of(tile, m, n, k, told.rehearse) for tile in candidates]
    jobs = [functools.partial(products.compile_item, item, cut[0]) for item in items]
    programs = ahead.compile_all(jobs, box, products.COMPILING, told.card["pool_bytes"])
    found = {}
    for tile, item, program in zip(candidates, items, programs, strict=True):
        if not isinstance(program, Exception):
            try:
                found[tile] = products.seconds_of(item, program, *cut)["cold_s"]
            except Exception:  # a tile that the card refuses has no time
                continue
    return found


def item_of(tile: Tile, m: int, n: int, k: int, interpret: bool) -> Any:
    """The product with one tile."""
    product = functools.partial(triton_gpu.code_product, tile=tile, interpret=interpret)
    return products.item_of("triton", lambda x, d, packed: matmul.product_by(product, x, packed, d), m, n, k)
