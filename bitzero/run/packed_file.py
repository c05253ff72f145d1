"""The file of a packed model: a header and plain arrays, written whole or not at all, read without trust.

An uncompressed NumPy archive without pickled objects: anyone can read it, and nothing in it can run. Reading needs
neither the latents nor the checkpoint library. Most of an answering process's memory is XLA's compiler: see
``questions.sample_completions``.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bitzero import config as configuration
from bitzero.config import NUM_LEVELS, Config, Operand
from bitzero.evaluation.questions import Solver
from bitzero.model import packing
from bitzero.run import device, workdir
from bitzero.run.experiment import of_this_machine
from bitzero.run.workdir import RunError

FORMAT = 1  # raised when the meaning of the file changes
_HEADER = "header"


def save(
    path: pathlib.Path, tree: dict[str, Any], cfg: Config, *, step: int, operand: Operand, trace: bool,
    open_levels: int | None = None,
) -> None:  # fmt: skip
    """Writes a packed tree (``packing.pack``) whole or not at all; raises ``RunError`` when the disk refuses.

    ``open_levels`` were trained on; None: those that were open from the start. Seven arguments: the tree,
    and what the header says of it.
    """
    arrays, shapes = packing.flatten(tree)
    header = {
        "format": FORMAT, "step": step, "operand": operand, "trace": trace, "shapes": shapes,
        "config": dataclasses.asdict(cfg), "commit": device.source_commit(),
        "open_levels": cfg.tasks.open_levels if open_levels is None else open_levels,
    }  # fmt: skip
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    workdir.replace_file(path, content.getvalue())


@contextlib.contextmanager
def believed(path: str | pathlib.Path, failing: str) -> Iterator[None]:
    """Turns any error in reading ``path`` into a one-line ``RunError``; ``failing``: "is not a packed model"."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # NumPy, zipfile and JSON raise many types for one broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise RunError(f"{path} {failing}: {reason}") from None


def load(path: str | pathlib.Path, *, batch_size: int = 1, say: Callable[[str], None] = print) -> Solver:
    """A model ready to be asked so many questions at once, from its file.

    ``say`` takes a line for every setting of an older program that is left out.
    Raises ``RunError`` with one line for a file that is not one: nothing of it is believed before it was looked at.
    """
    with believed(path, "is not a packed model"):
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file[_HEADER]))
            if header["format"] != FORMAT:
                raise RunError(f"{path} has format {header['format']}, this program reads {FORMAT}")
            tree = packing.unflatten({name: file[name] for name in file.files if name != _HEADER}, header["shapes"])
        settings, lines = configuration.without_old(header["config"])
        cfg, operand, trace = of_this_machine(configuration.freeze(settings)), header["operand"], header["trace"]
        if operand not in configuration.OPERANDS or not isinstance(trace, bool):
            raise ValueError(f"operand {operand!r} and trace {trace!r} mean nothing")
        packing.check_tree(tree, cfg.model)
        for line in lines:
            say(f"{path}: {line}")
        return Solver(weights=tree, trace=trace, cfg=configuration.with_operand(cfg, operand), batch_size=batch_size)


def origin(path: pathlib.Path, cfg: Config) -> tuple[int, str, int]:
    """Step, commit and opened levels of a packed model, from the header of a file that ``load`` has taken.

    Older files do not say which levels were opened: then it is those that ``cfg`` opens from the start. Raises
    ``RunError`` where what the header says means nothing.
    """
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(bytes(file[_HEADER]))
    step, commit = header.get("step", 0), header.get("commit", "unknown")
    levels = header.get("open_levels", cfg.tasks.open_levels)
    if type(step) is not int or type(commit) is not str or type(levels) is not int or not 1 <= levels <= NUM_LEVELS:
        raise RunError(f"{path} is not a packed model: its step, commit or open_levels mean nothing")
    return step, commit, levels
