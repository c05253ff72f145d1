"""Checkpoints: the whole training state and a small JSON beside it, saved and pruned together, verified when read.

A checkpoint carries the sha256 of its state's leaves; one that does not read back to the same bits is passed over for
the one before it. Saving renames a finished directory into place, so a kill at any moment leaves the last one whole;
one that is replaced stands aside until the new one is there.
"""

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from bitzero.run.workdir import RunError

StateTemplate = Callable[[int, dict[str, Any]], Any]  # (step, meta of the checkpoint) → arrays or their abstract shapes
FORMAT = 2  # raised when the meaning of a saved state changes
_ASIDE = ".replaced"  # ends the name of a checkpoint whose step is being saved anew


class Checkpoints:
    """The checkpoints of one run, by step; ``keep`` newest ones stay, and ``exempt`` steps for ever."""

    def __init__(
        self,
        path: pathlib.Path,
        *,
        keep: int,
        exempt: Sequence[int] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        """Opens (and creates) the directory ``path``; ``say`` takes warnings; raises ``RunError`` when that fails."""
        logging.set_verbosity(logging.ERROR)  # orbax narrates every save
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), policies.CustomSteps(list(exempt))]
            ),
            enable_async_checkpointing=False,
        )
        self.path = path
        self._say = say
        # What a killed save left. Orbax would do this in a thread of its own, which can outlive a short process.
        for debris in path.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(debris, ignore_errors=True)
        self._open = contextlib.ExitStack()
        try:
            path.mkdir(parents=True, exist_ok=True)
            for aside in path.glob(f"*{_ASIDE}"):
                self._settle_aside(aside)
            place = self._open.enter_context(_without_patterns(path.absolute()))
            self._manager = ocp.CheckpointManager(place, options=options)
        except OSError as error:
            raise RunError(f"cannot open checkpoints in {path}: {error.strerror}") from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()
        self._open.close()

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> pathlib.Path:
        """Writes ``state`` and ``meta`` as checkpoint ``step`` (replacing one of that step) and returns its place.

        Raises ``RunError`` when the disk refuses; earlier checkpoints, one of that step too, are untouched then.
        """
        sealed = {"format": FORMAT, "shapes": leaf_shapes(state), "sha256": digest(state), "meta": meta}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(sealed))
        place = self.path / str(step)
        aside = place.with_name(place.name + _ASIDE)
        try:
            if step in self._manager.all_steps():  # orbax writes no step twice, and a deleted one would be missed
                place.rename(aside)
                self._manager.reload()
            self._manager.save(step, args=arguments, force=True)
            self._manager.wait_until_finished()
        except Exception as error:  # orbax and tensorstore raise many types for one full disk
            raise RunError(
                f"cannot save step {step} to {self.path}: {_first_line(error)}; earlier ones are intact"
            ) from None
        finally:
            if aside.exists():
                self._settle_aside(aside)
                self._manager.reload()
        return place

    def _settle_aside(self, aside: pathlib.Path) -> None:
        """A checkpoint that stood aside goes back where its successor has not come, and away where it has."""
        place = aside.with_name(aside.name.removesuffix(_ASIDE))
        if place.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(place)

    def latest(self, like: StateTemplate, *, accept: Callable[[Any], bool] = lambda state: True) -> Any:
        """The newest readable ``(state, meta)`` that ``accept`` takes, or None where there is no checkpoint.

        ``like`` gives structure, shapes and types of the state of a step. A damaged checkpoint is passed over with a
        warning line; raises ``RunError`` for a checkpoint of another model, or when not one of several can be read.
        """
        steps = self.steps()[::-1]
        damaged = 0
        for step in steps:
            try:
                state, meta = self.read(step, like)
            except ShapeError:
                raise
            except RunError as error:
                damaged += 1
                self._say(f"{error}; falling back to the one before it")
                continue
            if accept(state):
                return state, meta
        if damaged:
            raise RunError(f"no checkpoint in {self.path} can be read; start again in another --workdir")
        return None

    def read(self, step: int, like: StateTemplate) -> tuple[Any, dict[str, Any]]:
        """Checkpoint ``step`` as ``(state, meta)``; raises ``RunError`` (damaged) or ``ShapeError`` (another model)."""
        try:
            sealed = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
            theirs, version, meta = dict(sealed["shapes"]), sealed["format"], sealed["meta"]
        except Exception as error:
            raise RunError(f"checkpoint {self.path / str(step)} is damaged ({_first_line(error)})") from None
        model = like(step, meta)
        self._same_model(step, version, theirs, leaf_shapes(model))
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), model)
        try:
            state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))).state
        except Exception as error:
            raise RunError(f"checkpoint {self.path / str(step)} is damaged ({_first_line(error)})") from None
        if digest(state) != sealed["sha256"]:
            raise RunError(f"checkpoint {self.path / str(step)} is damaged (its bits changed on disk)")
        return state, meta

    def drop_after(self, step: int) -> None:
        """Removes checkpoints newer than ``step``: after a restore their steps are run again."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def _same_model(self, step: int, version: int, theirs: dict[str, str], ours: dict[str, str]) -> None:
        place = self.path / str(step)
        if version != FORMAT:
            raise ShapeError(
                f"checkpoint {place} has format {version}, this program reads {FORMAT}; use another --workdir"
            )
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                raise ShapeError(
                    f"checkpoint {place} is of another model: {name} is {theirs.get(name, 'absent')} there and "
                    f"{ours.get(name, 'absent')} here; use its config, or another --workdir"
                )


class ShapeError(RunError):
    """A checkpoint whose arrays are not those of the configuration; the message is one line."""


@contextlib.contextmanager
def _without_patterns(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """``path``, or a link to it for as long where a part of it would be read as a pattern.

    Orbax finds its files by patterns that begin with the whole path: what it saves in ``runs/lr[3]`` it never finds
    again.
    """
    if not set("[]*?\\") & set(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bitzero-") as place:
        link = pathlib.Path(place) / "checkpoints"
        link.symlink_to(path, target_is_directory=True)
        yield link


def leaf_shapes(state: Any) -> dict[str, str]:
    """Path of every leaf → its type and shape, such as ``float32[4,8]``."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "") for path, leaf in leaves}


def digest(tree: Any) -> str:
    """sha256 (hex) over the paths, types and bytes of the leaves of ``tree``; typed PRNG keys by their data."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        typed = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if typed else leaf)
        total.update(f"{jax.tree_util.keystr(path)}:{array.dtype}{array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:160]
