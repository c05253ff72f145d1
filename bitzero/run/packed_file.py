"""The file of a packed model: a header and plain arrays, written whole or not at all, read without trust.

An uncompressed NumPy archive without pickled objects: anyone can read it, and nothing in it can run. Reading needs
neither the latents nor the checkpoint library. Most of an answering process is XLA's compiler: see
``questions.sampled``.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.evaluation.questions import Solver
from bitzero.model import packing
from bitzero.run import device, workdir
from bitzero.run.workdir import RunError

FORMAT = 1  # raised when the meaning of the file changes
_HEADER = "header"


def save(path: pathlib.Path, tree: dict[str, Any], cfg: Config, *, step: int, operand: str, trace: bool) -> None:
    """Writes a packed tree (``packing.pack``) whole or not at all; raises ``RunError`` when the disk refuses."""
    arrays, shapes = packing.flatten(tree)
    header = {
        "format": FORMAT, "step": step, "operand": operand, "trace": trace, "shapes": shapes,
        "config": dataclasses.asdict(cfg), "commit": device.source_commit(),
    }  # fmt: skip
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    workdir.replace_file(path, content.getvalue())


def load(path: pathlib.Path, *, batch_size: int = 1, say: Callable[[str], None] = print) -> Solver:
    """A model ready to be asked so many questions at once, from its file.

    ``say`` takes a line for every setting of an older program that is left out.
    Raises ``RunError`` with one line for a file that is not one: nothing of it is believed before it was looked at.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file[_HEADER]))
            if header["format"] != FORMAT:
                raise RunError(f"{path} has format {header['format']}, this program reads {FORMAT}")
            tree = packing.unflatten({name: file[name] for name in file.files if name != _HEADER}, header["shapes"])
        settings, lines = configuration.without_old(header["config"])
        cfg, operand, trace = configuration.freeze(settings), header["operand"], header["trace"]
        if operand not in configuration.OPERANDS or not isinstance(trace, bool):
            raise ValueError(f"operand {operand!r} and trace {trace!r} mean nothing")
        packing.check_tree(tree, cfg.model)
        for line in lines:
            say(f"{path}: {line}")
        return Solver(weights=tree, trace=trace, cfg=configuration.with_operand(cfg, operand), batch_size=batch_size)
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # NumPy, zipfile and JSON raise many types for one broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise RunError(f"{path} is not a packed model: {reason}") from None
