"""A trained model as one small file: packed matrices, embedding, gains and configuration; no latents, no optimiser.

    python launch.py --config=experiments/azr_small.py --mode=export     → <workdir>/packed.npz

The file is an uncompressed NumPy archive without pickled objects: anyone can read it, and nothing in it can run.
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.model import packing
from bitzero.run import device, workdir
from bitzero.run.asking import Solver, abstract
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.workdir import RunError
from bitzero.selfplay import schedule

FORMAT = 1  # raised when the meaning of the file changes
NAME = "packed.npz"
_HEADER = "header"


def main(cfg: Config, home: pathlib.Path) -> int:
    """Packs the newest checkpoint of ``home`` into ``home/packed.npz``; the value is the exit code.

    Raises ``RunError`` where there is no checkpoint, or one from before the weights are ternary.
    """
    if not (home / "checkpoints").is_dir():
        raise RunError(f"nothing to export: no checkpoints in {home}; train first")
    with workdir.owned(home):
        device.configure()
        with Checkpoints(home / "checkpoints", keep=cfg.run.keep, exempt=[cfg.warmup.steps]) as store:
            found = store.latest(abstract(cfg))
    if not found:
        raise RunError(f"nothing to export: no checkpoint in {home}; train first")
    state, meta = found
    phase = schedule.phase(int(state.step), cfg)
    if phase in ("full", "ramp"):
        raise RunError(f"step {int(state.step):,} is not ternary yet (phase {phase}); train on, then export")
    tree = packing.pack(state.params, state.precision, cfg.model)
    path = home / NAME
    save(path, tree, cfg, step=int(state.step), operand=meta["operand"], trace=bool(state.trace_mode))
    matrices, rest = packing.weight_bytes(tree)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(
        f"{path}: {parameters / 1e6:.1f}M parameters in {path.stat().st_size / 1e6:.2f} MB "
        f"({matrices / 1e6:.2f} MB of packed matrices, {rest / 1e6:.2f} MB of embedding and gains)"
    )
    return 0


def save(path: pathlib.Path, tree: dict[str, Any], cfg: Config, *, step: int, operand: str, trace: bool) -> None:
    """Writes a packed tree (``packing.pack``) whole or not at all; raises ``RunError`` when the disk refuses."""
    arrays, shapes = packing.flatten(tree)
    header = {
        "format": FORMAT, "step": step, "operand": operand, "trace": trace, "shapes": shapes,
        "config": dataclasses.asdict(cfg), "commit": device.commit(),
    }  # fmt: skip
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def load(path: pathlib.Path) -> Solver:
    """A model ready to be asked, from its file; raises ``RunError`` with one line for a file that is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file[_HEADER]))
            if header["format"] != FORMAT:
                raise RunError(f"{path} has format {header['format']}, this program reads {FORMAT}")
            tree = packing.unflatten({name: file[name] for name in file.files if name != _HEADER}, header["shapes"])
        cfg = configuration.freeze(header["config"])
        return Solver(weights=tree, operand=header["operand"], trace=header["trace"], cfg=cfg)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is not a packed model: {str(error).splitlines()[0][:120]}") from None
