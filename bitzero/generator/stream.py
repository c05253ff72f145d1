"""The generator's worker processes and the stream the trainer reads: the same batches from any number of workers.

The trainer's side cuts an order into slices, hands one at a time to each worker, most urgent first, and puts the slices
together in number order. A worker that dies is started again with the slice it had.
"""

import atexit
import dataclasses
import heapq
import itertools
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.generator import orders
from bitzero.generator.orders import Unit
from bitzero.generator.programs import Program
from bitzero.sandbox import Job
from bitzero.tasks.kinds import Task

__all__ = ["Batch", "GeneratorFailed", "Stream", "Unit"]

MEMORY = 2 << 30  # bytes of address space a worker may have
SLICE = 16  # tasks or held-out candidates of one slice; of a unit, a slice is one step
DEATHS = 5  # of workers on one slice, after which the generator gives up
BATCH, TASKS, HELDOUT = 0, 1, 2  # urgency; lower first
ROOT = pathlib.Path(__file__).parents[2]


class GeneratorFailed(RuntimeError):
    """The workers die again and again, or an order cannot be filled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Training sequences of k steps."""

    tokens: np.ndarray  # uint16 [k, B, T] right-padded with PAD
    mask: np.ndarray  # bool [k, B, T] True: this token is a target
    kind: np.ndarray  # int8 [k, B, E] of each example: number of its kind, −2 propose; −1 none
    level: np.ndarray  # int8 [k, B, E] measured level of each example's program


@dataclasses.dataclass(order=True, slots=True)
class Slice:
    """Part of an order, as a worker gets it."""

    urgency: int
    number: int
    order: dict[str, Any] = dataclasses.field(compare=False)
    key: Any = dataclasses.field(compare=False)  # of the result


class Stream:
    """Owns the workers; a context manager. All methods are for one thread, the trainer's.

    `sandbox`, if given, has `.run(jobs)`: one generated program in a hundred is run again there, and `disagreements`
    counts those whose values differ.
    """

    def __init__(self, cfg: Config, sandbox: Any = None):
        self.cfg = cfg
        self.sandbox = sandbox
        self.audited = self.disagreements = 0
        self._numbers = itertools.count()
        self._waiting: list[Slice] = []
        self._results: dict[Any, Any] = {}
        self._asked: set[Any] = set()
        self._heldout: dict[tuple[str, int], list[Program]] = {}
        self._changed = threading.Condition()
        self._failure: str | None = None
        self.closed = False
        self._workers = [_Worker(self, i) for i in range(cfg.tasks.workers)]
        atexit.register(self.close)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; nothing can be taken afterwards."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.end()
        atexit.unregister(self.close)

    # ---- orders ----

    def request(self, unit: Unit) -> None:
        """Begin a unit in the background; nothing happens if it was asked for before."""
        for step in range(unit.step, unit.step + unit.steps):
            order = {"what": "rows", "unit": dataclasses.asdict(unit), "step": step}
            self._ask(BATCH, order, ("rows", unit, step))

    def take(self, unit: Unit) -> Batch:
        """The unit's batches, waiting for them if need be. Raises `GeneratorFailed`."""
        self.request(unit)
        parts = [self._await(("rows", unit, step)) for step in range(unit.step, unit.step + unit.steps)]
        self._forget(unit)
        if self.sandbox is not None:
            self._audit([Program(**_tuples(item)) for head, _ in parts for item in head["audit"]])
        return Batch(**{name: np.stack([arrays[name] for _, arrays in parts]) for name in parts[0][1]})

    def tasks(self, n: int, step: int, open_levels: int | None = None) -> list[Task]:
        """`n` generator tasks, kinds in turn, open levels evenly, train split. Raises `GeneratorFailed`."""
        levels = self.cfg.tasks.open_levels if open_levels is None else open_levels
        keys = [("tasks", step, levels, start, stop) for start, stop in _cuts(n, SLICE)]
        for key in keys:
            order = {"what": "tasks", "step": step, "open_levels": levels, "start": key[3], "stop": key[4]}
            self._ask(TASKS, order, key)
        return [Task(**_tuples(item)) for key in keys for item in self._await(key)[0]["items"]]

    def request_heldout(self, split: str, level: int, n: int) -> None:
        """Begin a held-out set in the background."""
        for start, stop in _cuts(n + n // 8, SLICE):
            self._ask_heldout(split, level, start, stop)

    def heldout(self, split: str, level: int, n: int) -> list[Program]:
        """What `programs.heldout(cfg.seed, split, level, n)` gives, made by the workers. Raises `GeneratorFailed`."""
        self.request_heldout(split, level, n)
        kept: dict[int, Program] = {}
        for start in itertools.count(0, SLICE):
            stop = start + SLICE
            self._ask_heldout(split, level, start, stop)
            if start > 200 * n + 10_000:
                raise GeneratorFailed(f"the generator found {len(kept)} of {n} different {split} programs of L{level}")
            for item in self._await(("heldout", split, level, start), keep=True)[0]["items"]:
                program = Program(**_tuples(item))
                kept.setdefault(program.hash, program)
                if len(kept) == n:
                    return list(kept.values())
        raise AssertionError("unreachable")

    def _ask_heldout(self, split: str, level: int, start: int, stop: int) -> None:
        stop = start + SLICE  # whole slices, so that a key always means the same items
        order = {"what": "heldout", "split": split, "level": level, "start": start, "stop": stop}
        self._ask(HELDOUT, order, ("heldout", split, level, start))

    # ---- slices ----

    def _ask(self, urgency: int, order: dict[str, Any], key: Any) -> None:
        with self._changed:
            if key in self._asked:
                return
            self._asked.add(key)
            heapq.heappush(self._waiting, Slice(urgency, next(self._numbers), order, key))
            self._changed.notify_all()

    def _await(self, key: Any, keep: bool = False) -> Any:
        with self._changed:
            while key not in self._results:
                if self._failure or self.closed:
                    raise GeneratorFailed(self._failure or "the generator was closed")
                self._changed.wait()
            if keep:
                return self._results[key]
            self._asked.discard(key)
            return self._results.pop(key)

    def _forget(self, taken: Unit) -> None:
        """Drop what was made ahead for units that lie before the one taken, or at its place with other levels."""

        def stale(key: Any) -> bool:
            return key[0] == "rows" and key[1].phase == taken.phase and key[1].step <= taken.step

        with self._changed:
            self._results = {key: value for key, value in self._results.items() if not stale(key)}
            self._asked = {key for key in self._asked if not stale(key)}
            self._waiting = [item for item in self._waiting if not stale(item.key)]
            heapq.heapify(self._waiting)

    def next_slice(self) -> Slice | None:
        """The most urgent slice, waiting for one; None once the stream is closed. For the workers' threads."""
        with self._changed:
            while not self._waiting and not self.closed:
                self._changed.wait()
            return None if self.closed else heapq.heappop(self._waiting)

    def done(self, item: Slice, result: Any) -> None:
        """A worker's thread delivers a slice."""
        with self._changed:
            if item.key in self._asked:
                self._results[item.key] = result
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        """A worker's thread gives up; whoever waits is told."""
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()

    def _audit(self, found: list[Program]) -> None:
        """Run generated programs again in the sandbox; their values must agree."""
        if not found:
            return
        jobs = [Job(id=str(i), code=program.code, inputs=program.inputs) for i, program in enumerate(found)]
        for program, outcomes in zip(found, self.sandbox.run(jobs), strict=True):
            if any(outcome.kind == "infra" for outcome in outcomes):
                continue
            self.audited += 1
            self.disagreements += tuple(outcome.value for outcome in outcomes) != program.outputs


class _Worker(threading.Thread):
    """One process and the thread that feeds it."""

    def __init__(self, stream: Stream, number: int):
        super().__init__(name=f"generator-{number}", daemon=True)
        self.stream = stream
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def run(self) -> None:
        try:
            while (item := self.stream.next_slice()) is not None:
                head, arrays = self._persist(item)
                if "error" in head:
                    raise GeneratorFailed(head["error"])
                self.stream.done(item, (head, arrays))
        except GeneratorFailed as error:
            self.stream.fail(str(error))
        except Exception as error:  # whoever waits must hear of anything that ends this thread
            self.stream.fail(f"the generator's thread failed: {error!r}")

    def _persist(self, item: Slice) -> Any:
        """The slice's result, from as many processes as it takes."""
        for _ in range(DEATHS):
            try:
                return self._ask(item)
            except (OSError, EOFError):
                if self.stream.closed:
                    raise GeneratorFailed("the generator was closed") from None
                self._discard()
        raise GeneratorFailed(f"a generator worker died {DEATHS} times in a row on {item.order}")

    def _ask(self, item: Slice) -> Any:
        if self.process is None:
            self.process = spawn(self.stream.cfg)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(item.order).encode() + b"\n")
        self.process.stdin.flush()
        return receive(self.process.stdout)

    def _discard(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                _quietly(pipe.close if pipe else None)
            self.process = None

    def end(self) -> None:
        """Kill the process; the thread sees the end of its pipe and returns."""
        if self.process is not None:
            self.process.kill()
        self.join(timeout=10)
        self._discard()


def _quietly(act: Callable[[], object] | None) -> None:
    try:
        if act:
            act()
    except OSError:
        pass


def _cuts(n: int, size: int = SLICE) -> list[tuple[int, int]]:
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def _tuples(item: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}


# ---- the wire: one JSON line a question; a JSON line and raw arrays an answer ----


def send(pipe: Any, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write an answer."""
    layout = [(name, value.dtype.str, value.shape) for name, value in arrays.items()]
    pipe.write(json.dumps({**head, "arrays": layout}).encode() + b"\n")
    for value in arrays.values():
        pipe.write(np.ascontiguousarray(value).tobytes())
    pipe.flush()


def receive(pipe: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read an answer. Raises EOFError where the pipe ends first."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    arrays = {}
    for name, kind, shape in head.pop("arrays"):
        count = int(np.prod(shape, dtype=np.int64))
        data = pipe.read(count * np.dtype(kind).itemsize)
        if len(data) != count * np.dtype(kind).itemsize:
            raise EOFError
        arrays[name] = np.frombuffer(data, dtype=kind).reshape(shape)
    return head, arrays


def spawn(cfg: Config) -> subprocess.Popen[bytes]:
    """A worker process, told its configuration."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bitzero.generator.stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin
    process.stdin.write(json.dumps(dataclasses.asdict(cfg)).encode() + b"\n")
    process.stdin.flush()
    return process


def answer(cfg: Config, order: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a worker computes for one slice."""
    what = order.pop("what")
    if what == "rows":
        return orders.rows(cfg, Unit(**order.pop("unit")), **order)
    made = orders.tasks(cfg, **order) if what == "tasks" else orders.heldout(cfg, **order)
    return {"items": made}, {}


def serve() -> None:
    """The worker process: questions on standard input until it ends. Ctrl-C is for the trainer, not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    cfg = configuration.freeze(json.loads(questions.readline()))
    os.nice(cfg.tasks.nice)
    for line in questions:
        try:
            head, arrays = answer(cfg, json.loads(line))
        except (ValueError, RuntimeError) as error:  # cannot be filled with this configuration: asking again is no use
            head, arrays = {"error": f"{type(error).__name__}: {error}"}, {}
        send(answers, head, arrays)


if __name__ == "__main__":
    serve()
