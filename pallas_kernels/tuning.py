"""Measured tiles of the tensor-core product, by device kind and shape.

    python -m pallas_kernels.tuning [--shapes=model|large|all] [--rows=16,64,256,2048]

measures the candidates for every shape on this GPU and replaces its device's entries in ``tuned.json``. A shape that is
not in the table takes ``triton_gpu.default_tile``.
"""

import argparse
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax

TABLE = pathlib.Path(__file__).with_name("tuned.json")


def bucket(m: int) -> int:
    """M rounded up to a power of two from 16: products of one bucket share a tile."""
    return max(16, 1 << (m - 1).bit_length())


def key(m: int, rows: int, k: int) -> str:
    """Name of a shape in the table."""
    return f"{bucket(m)}x{rows}x{k}"


@functools.cache
def table() -> dict[str, dict[str, dict[str, int]]]:
    """Device kind → shape → the fields of a ``Tile``."""
    return json.loads(TABLE.read_text())


def lookup(kind: str, m: int, rows: int, k: int) -> dict[str, int] | None:
    """The measured tile of a shape on a kind of device, or None."""
    return table().get(kind, {}).get(key(m, rows, k))


def candidates(m: int, rows: int, k: int) -> Iterator[dict[str, int]]:
    """Tiles worth a measurement: those that divide the shape and do not pad M to more than twice its size."""
    blocks = k // 256
    axes = itertools.product((32, 64), (16, 32, 64, 128), (1, 2, 4, 8), (4, 8), (2, 3, 4))
    for tile_rows, activations, splits, warps, stages in axes:
        fits = rows % tile_rows == 0 and blocks % splits == 0 and activations <= 2 * bucket(m)
        if fits and tile_rows * activations >= 512 * warps // 4:
            yield {"rows": tile_rows, "activations": activations, "splits": splits, "warps": warps, "stages": stages}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; the value is the exit code."""
    from pallas_kernels import bench, layout, triton_gpu

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="model", choices=[*bench.SHAPES, "all"])
    parser.add_argument("--rows", default="16,64,256,2048")
    given = parser.parse_args(arguments)
    device = jax.devices()[0]
    if device.platform != "gpu":
        print(f"tuning: needs a GPU; the device is a {device.platform}", file=sys.stderr)
        return 2
    found: dict[str, dict[str, int]] = {}
    for n, k in bench.shapes(given.shapes):
        rows, columns = layout.padded(n, layout.TILE_ROWS), layout.padded(k, layout.BLOCK_K)
        for m in map(int, given.rows.split(",")):
            best = min(candidates(m, rows, columns), key=lambda tile: seconds(triton_gpu, bench, m, n, k, tile))
            found[key(m, rows, columns)] = best
            print(f"{n}×{k} M={m}: {best}", flush=True)
    whole = table() | {device.device_kind: dict(sorted(found.items()))}
    TABLE.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


def seconds(triton_gpu: Any, bench: Any, m: int, n: int, k: int, tile: dict[str, int]) -> float:
    """Median seconds of a product with one tile; infinite where it does not compile."""
    product = functools.partial(triton_gpu.code_product, tile=triton_gpu.Tile(**tile))
    try:
        return bench.code_product_seconds(product, m, n, k)
    except Exception as error:  # the compiler refuses some tiles, in many types
        print(f"  {tile}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return float("inf")


if __name__ == "__main__":
    sys.exit(main())
