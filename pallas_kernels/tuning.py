"""Measures tiles of the tensor-core product for ``tiles.py``.

    python -m pallas_kernels.tuning [--shapes=model|large|beyond_cache|all] [--rows=16,64,256,2048]

tries the candidates of every shape on this GPU and puts the fastest into ``tuned.json``, after each shape; entries of
other shapes and devices stay. A shape for which nothing compiles keeps what it had.
"""

import argparse
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import jax

from pallas_kernels import bench, layout, tiles, triton_gpu

Fields = dict[str, int]  # of a ``tiles.Tile``, by name


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="model", choices=[*bench.SHAPES, "all"])
    parser.add_argument("--rows", default="16,64,256,2048")
    given = parser.parse_args(arguments)
    device = jax.devices()[0]
    if device.platform != "gpu":
        print(f"tuning: needs a GPU; the device is a {device.platform}", file=sys.stderr)
        return 2
    for n, k in bench.shapes_of(given.shapes):
        rows, columns = layout.round_up(n, layout.TILE_ROWS), layout.round_up(k, layout.BLOCK_K)
        for m in map(int, given.rows.split(",")):
            best_of_shape = fastest_tile(candidate_tiles(m, rows, columns), functools.partial(product_seconds, m, n, k))
            if best_of_shape is None:
                print(f"{n}×{k} M={m}: no tile compiles, nothing is written", flush=True)
                continue
            best, took = best_of_shape
            print(f"{n}×{k} M={m}: {1e6 * took:.1f} µs, {best}", flush=True)
            write_entry(tiles.TABLE_FILE, device.device_kind, tiles.shape_key(m, rows, columns), best)
    return 0


def candidate_tiles(m: int, rows: int, k: int) -> Iterator[Fields]:
    """Tiles worth a measurement: they divide the shape, and pad M to at most twice its size."""
    blocks = k // layout.BLOCK_K
    axes = itertools.product((32, 64), (16, 32, 64, 128), (1, 2, 4, 8), (4, 8), (2, 3, 4))
    for tile_rows, activations, splits, warps, stages in axes:
        fits = rows % tile_rows == 0 and blocks % splits == 0 and activations <= 2 * tiles.bucket(m)
        if fits and tile_rows * activations >= 512 * warps // 4:
            yield {"rows": tile_rows, "activations": activations, "splits": splits, "warps": warps, "stages": stages}


def fastest_tile(
    candidates: Iterator[Fields], seconds_of: Callable[[Fields], float | None]
) -> tuple[Fields, float] | None:
    """The tile of least seconds and its seconds; None where no tile has any."""
    timed = [(tile, seconds) for tile in candidates if (seconds := seconds_of(tile)) is not None]
    return min(timed, key=lambda pair: pair[1]) if timed else None


def product_seconds(m: int, n: int, k: int, tile: Fields) -> float | None:
    """Median seconds of a product with one tile; None, and a line, where it does not compile."""
    product = functools.partial(triton_gpu.code_product, tile=tiles.Tile(**tile))
    try:
        return bench.code_product_seconds(product, m, n, k)
    except Exception as error:  # the compiler refuses some tiles, in many types
        print(f"  {tile}: {(str(error).splitlines() or [repr(error)])[0][:100]}", file=sys.stderr)
        return None


def write_entry(path: pathlib.Path, kind: str, name: str, tile: Fields) -> None:
    """Puts one entry into the table of a kind of device; the others stay."""
    table = json.loads(path.read_text())
    table[kind] = dict(sorted((table.get(kind, {}) | {name: tile}).items()))
    path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    tiles.measured_tiles.cache_clear()


if __name__ == "__main__":
    sys.exit(main())
