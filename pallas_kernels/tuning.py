"""Fills the table of what was measured on a card (``measured.py``): tiles of the tensor-core product, and backends.

    python -m pallas_kernels.tuning [--shapes=model|large|beyond_cache|all] [--rows=16,64,256,2048]
    python -m pallas_kernels.tuning --from=benchmarks/results/on_gpu-CARD.json

The first tries the candidates of every shape on this GPU and puts the fastest into ``tuned.json``, after each shape;
entries of other shapes and devices stay. A shape for which nothing compiles keeps what it had. The second puts in what
``benchmarks/on_gpu.py`` measured, on whichever machine it did: for each M and matrix the fastest of the backends that
were exact in every check, and tiles.
"""

import argparse
import functools
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from pallas_kernels import bench, layout, measured, tiles, triton_gpu

WORTH = 0.97  # of the time of plain XLA: what another backend must take at most to be chosen in its place
ENOUGH = 3  # matrices timed by plain XLA and by another backend, for the other to be chosen for any matrix

Fields = dict[str, int]  # of a ``tiles.Tile``, by name
Times = dict[str, dict[tuple[int, int], float]]  # backend → (N, K) → seconds of one product


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="model", choices=[*bench.SHAPES, "all"])
    parser.add_argument("--rows", default="16,64,256,2048")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="what benchmarks/on_gpu.py wrote")
    given = parser.parse_args(arguments)
    if given.source:
        return take_run(given.source)
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
            write_tile(measured.TABLE_FILE, device, tiles.shape_key(m, rows, columns), best)
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


def write_tile(path: pathlib.Path, device: Any, name: str, tile: Fields) -> None:
    """Puts the tile of one shape into the entry of a JAX ``device``; all else stays."""
    card = json.loads(path.read_text()).get(device.device_kind, {})
    tiles_of_card = dict(sorted((card.get("tiles", {}) | {name: tile}).items()))
    write_card(path, device.device_kind, card | {"capability": str(device.compute_capability), "tiles": tiles_of_card})


def write_card(path: pathlib.Path, name: str, card: measured.Card) -> None:
    """Puts the entry of one card into the table, whole or not at all; those of other cards stay."""
    table = json.loads(path.read_text()) | {name: card}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    os.replace(draft, path)
    measured.table.cache_clear()


def take_run(source: pathlib.Path) -> int:
    """Puts what a run of ``benchmarks/on_gpu.py`` measured into the table; the value is the exit code."""
    try:
        run = json.loads(source.read_text())
        name, platform = run["card"]["name"], run["card"]["platform"]
        card = card_entry(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"tuning: {source} is not what benchmarks/on_gpu.py writes: {error!r}", file=sys.stderr)
        return 2
    if platform != "gpu" or not card["backends"]:
        print(f"tuning: {source} holds no products of plain XLA, or none of a GPU (it is of {name})", file=sys.stderr)
        return 2
    old = json.loads(measured.TABLE_FILE.read_text()).get(name, {})
    card["tiles"] = dict(sorted((old.get("tiles", {}) | card["tiles"]).items()))
    write_card(measured.TABLE_FILE, name, card)
    print(f"{name}: {len(card['tiles'])} tiles; " + ", ".join(f"M={m} {c['any']}" for m, c in card["backends"].items()))
    return 0


def card_entry(run: dict[str, Any]) -> measured.Card:
    """The table's entry for a run's card. Raises KeyError for what is not such a run's JSON."""
    stages = run["stages"]
    checks = stages.get("exactness", {}).get("rows", [])
    inexact = {row["backend"] for row in checks if not row["exact"]}
    trusted = {row["backend"] for row in checks} - inexact
    tiled, by_m = stages.get("tiles", {}).get("rows", []), dict[int, Times]()
    for row in stages["products"]["rows"]:
        if row["product"] in trusted:
            by_m.setdefault(row["m"], {}).setdefault(row["product"], {})[row["n"], row["k"]] = row["cold_s"]
    tiled = [row for row in tiled if "triton" in trusted and row["tile"] and row["cold_s"] < row["default_s"]]
    for row in tiled:
        times, shape = by_m.get(row["m"], {}).setdefault("triton", {}), (row["n"], row["k"])
        times[shape] = min(row["cold_s"], times.get(shape, math.inf))
    return {
        "capability": run["card"]["capability"],
        "commit": run["commit"],
        "backends": {str(m): choices(times) for m, times in sorted(by_m.items()) if "xla" in times},
        "tiles": {padded_key(row): row["tile"] for row in tiled},
    }


def padded_key(row: dict[str, Any]) -> str:
    """``tiles.shape_key`` of a row's product."""
    rows, columns = layout.round_up(row["n"], layout.TILE_ROWS), layout.round_up(row["k"], layout.BLOCK_K)
    return tiles.shape_key(row["m"], rows, columns)


def choices(times: Times) -> dict[str, str]:
    """The fastest backend of each "N×K", where it is another than that of ``measured.ANY`` matrix.

    For any matrix a backend counts by the geometric mean of its times over those of plain XLA, if both were timed on
    ``ENOUGH`` matrices; otherwise plain XLA is chosen.
    """
    plain = times["xla"]
    ratios = {name: [s / plain[at] for at, s in seconds.items() if at in plain] for name, seconds in times.items()}
    means = {name: math.exp(sum(map(math.log, of)) / len(of)) for name, of in ratios.items() if len(of) >= ENOUGH}
    overall = _least({"xla": 1.0} | means)
    chosen = {measured.ANY: overall}
    for n, k in sorted(plain):
        best = _least({name: seconds[n, k] / plain[n, k] for name, seconds in times.items() if (n, k) in seconds})
        if best != overall:
            chosen[f"{n}x{k}"] = best
    return chosen


def _least(relative: dict[str, float]) -> str:
    """The backend of least time relative to plain XLA's; plain XLA where the gain is not worth it."""
    best = min(relative, key=lambda name: relative[name])
    return best if relative[best] <= WORTH else "xla"


if __name__ == "__main__":
    sys.exit(main())
