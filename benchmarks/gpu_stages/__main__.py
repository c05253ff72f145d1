"""One part of one stage in this process: ``python -m benchmarks.gpu_stages STAGE PART --seconds=S --out=FILE``."""

import argparse
import importlib
import json
import os
import pathlib
import sys
import traceback

from benchmarks.gpu_stages import STAGES
from benchmarks.gpu_stages.record import Box, Record, Told

# Modules whose programs are kept for the next run here; the others set JAX up as a run does, or do not start it.
KEPT = ("exactness", "products", "tile_search")


def main() -> None:
    """Runs the part; its rows are in the file, whatever becomes of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[stage.name for stage in STAGES] + ["card"])
    parser.add_argument("part")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--told", type=pathlib.Path, help="the JSON of the run so far")
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    module = next((stage.module for stage in STAGES if stage.name == given.stage), "card")
    earlier = json.loads(given.told.read_text()) if given.told else {}
    box, record = Box(given.seconds), Record(given.out)
    if module in KEPT:
        keep_compiled()
    card = earlier.get("card")
    if card is None:
        from benchmarks.gpu_stages.card import describe

        card = describe()
    told = Told(rehearse=given.rehearse, card=card, stages=earlier.get("stages", {}))
    importlib.import_module(f"benchmarks.gpu_stages.{module}").run(given.part, box, record, told)


def keep_compiled() -> None:
    """Gives JAX the compile cache of a run; without the packages of a run, which these parts can do without, none."""
    try:
        from bitzero.run import device
    except ImportError:
        return
    device.configure_jax()


def run() -> int:
    """``main`` with its errors told; the value is the exit code."""
    try:
        main()
    except SystemExit as told:
        if isinstance(told.code, str):
            print(told.code, file=sys.stderr)
        return int(told.code) if isinstance(told.code, int) else int(told.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a compiler that the box left behind in a thread is not waited for
