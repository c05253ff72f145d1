"""One process's turn at a run: the services it uses, the meters it keeps, and the sandbox it needs."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from bitzero.config import Config
from bitzero.config.defaults import Layers, Operand
from bitzero.evaluation.heldout import AnswerRows
from bitzero.generator.stream import Stream, Tell
from bitzero.generator.workforce import usable_cores
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.guarded import guarded_behaviours
from bitzero.run.metrics import Metrics
from bitzero.run.progress import Progress
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.sandbox import Limits, Sandbox, SandboxUnavailable
from bitzero.selfplay.verify import Door


@dataclasses.dataclass(kw_only=True)
class Ledger:
    """What a checkpoint's JSON carries beside the state: figures for the person, nothing the training reads."""

    operand: Operand  # operand type of the products, chosen once for the whole run
    layers: Layers = "xla"  # whose layers training runs; a run of before there was a choice ran XLA's
    seconds: float = 0.0  # wall time of all sittings
    tokens: int = 0  # tokens trained on
    accuracy: dict[str, float] = dataclasses.field(default_factory=dict)  # level → last dev accuracy
    watched: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  # step of self-play → dev by kind
    played: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  # step of either end, see `played`
    peaks: dict[str, float] = dataclasses.field(default_factory=dict)  # figure → the largest of self-play's steps
    spent: dict[str, float] = dataclasses.field(default_factory=dict)  # activity → seconds
    parts: dict[str, int] = dataclasses.field(default_factory=dict)  # what is cut to fit → into how many parts
    fitted: list[dict[str, int]] = dataclasses.field(default_factory=list)  # from which step on it ran how, see `fit`

    def add_seconds(self, activity: str, seconds: float) -> None:
        """Adds ``seconds`` to an activity."""
        self.spent[activity] = self.spent.get(activity, 0.0) + seconds


@dataclasses.dataclass(kw_only=True)
class Meters:
    """What a sitting has counted and seen so far: figures for the person, nothing the training reads."""

    ledger: Ledger
    saved_step: int | None = None  # of the checkpoint that this sitting wrote or resumed last
    counted_seconds: float = 0.0  # seconds of this sitting already in the ledger
    step_seconds: float = 0.0  # of the last dispatch; 0 is not known
    tokens_s: float = 0.0  # of the last chunk; 0 is not known
    compiles_next: bool = True  # the next dispatch compiles, so its time says nothing about the rate
    waits: dict[str, float] = dataclasses.field(default_factory=dict)  # for whom → share of the time of the last chunk
    waits_until: float | None = None  # time.monotonic() up to which they are counted
    last_generator_seconds: float = 0.0  # spent waiting for the generator, at that time
    chunk_means: dict[str, float] = dataclasses.field(default_factory=dict)  # of the last chunk
    last_scales: dict[str, Any] = dataclasses.field(default_factory=dict)  # α of every matrix at the last report
    heldout_answers: AnswerRows | None = None  # what a refresh is measured on, made at the first one
    last_door_seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # by callback, at the last report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sitting:
    """The open services of one process's turn at a run, and its meters, the one part that changes."""

    cfg: Config  # with the operand type of the run
    home: pathlib.Path
    store: Checkpoints
    stream: Stream
    sandbox: Sandbox
    door: Door
    metrics: Metrics
    progress: Progress
    stop: Stop
    meters: Meters
    began: float  # time.monotonic() at its start


class StopAsked(Exception):
    """The sitting was asked to end while its model was being asked; what it had answered is left."""


def go_on(sitting: Sitting) -> None:
    """Raises ``StopAsked`` if the sitting was asked to end."""
    if sitting.stop.asked:
        raise StopAsked


def known_of_heldout(sitting: Sitting) -> frozenset[int]:
    """What held-out programs do (``guarded``); where that is to be found out first, how far it is is shown.

    Raises ``GeneratorFailed`` and ``StopAsked``.
    """
    return guarded_behaviours(sitting.stream, waits_for(sitting, "held-out programs, which no proposal may repeat"))


def waits_for(sitting: Sitting, what: str) -> Tell:
    """Shows how far the workers are with ``what``; raises ``StopAsked`` if the sitting was asked to end."""

    def tell(done: int, total: int) -> None:
        go_on(sitting)
        sitting.progress.count(what, done, total)

    return tell


@contextlib.contextmanager
def timed_as(sitting: Sitting, activity: str) -> Iterator[None]:
    """Adds the wall seconds of its body to an activity of the ledger."""
    began = time.monotonic()
    yield
    sitting.meters.ledger.add_seconds(activity, time.monotonic() - began)


def sandbox_workers(cfg: Config) -> int:
    """Programs that run at once: as set, or as many as cores, which are free while the device waits for verdicts."""
    return cfg.sandbox.workers or max(2, min(usable_cores(), 16))


def open_sandbox(cfg: Config) -> Sandbox:
    """The sandbox with the limits of ``cfg``; raises ``RunError`` where they or this machine cannot do."""
    wanted = cfg.sandbox
    try:
        limits = Limits(
            fuel=wanted.fuel, cpu_s=wanted.cpu_s, memory_mb=wanted.memory_mb, value_bytes=wanted.value_bytes
        )
        return Sandbox(limits=limits, workers=sandbox_workers(cfg), allow_unsafe=wanted.allow_unsafe)
    except (SandboxUnavailable, ValueError) as error:
        raise RunError(str(error)) from None
