"""The stream that the trainer reads from the generator: the same batches from any number of worker processes.

On the trainer's side an order is cut into slices. Each worker gets one slice at a time, the most urgent first, and the
answers are put together in the order of the slices. A worker that dies is started again with the slice it had.
"""

import atexit
import dataclasses
import heapq
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bitzero.config import Config
from bitzero.generator.orders import BatchOrder
from bitzero.generator.programs import Program, Split, as_asked
from bitzero.generator.wire import lists_to_tuples, receive_answer
from bitzero.generator.worker import spawn_worker
from bitzero.generator.workforce import usable_cores, workers_without_wait
from bitzero.sandbox import Job
from bitzero.tasks.kinds import Task
from bitzero.tasks.levels import NUM_LEVELS

__all__ = ["Batch", "BatchOrder", "GeneratorFailed", "Stream"]

SLICE_ITEMS = 16  # tasks or held-out candidates of one slice; a slice of a batch order is one step
GUARDED_SPLITS: tuple[Split, ...] = ("dev", "test")
MAX_DEATHS = 5  # of workers on one slice, after which the generator gives up
What = Literal["rows", "tasks", "heldout"]  # what a slice asks for
Tell = Callable[[int, int], None]  # of how many there are, and of how many that are waited for
URGENCY: dict[What, int] = {"rows": 0, "tasks": 1, "heldout": 2}  # lower first


def silent(done: int, total: int) -> None:
    """The ``Tell`` of whoever is not told."""


class GeneratorFailed(RuntimeError):
    """The workers die again and again, or an order cannot be filled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Training sequences of k steps."""

    tokens: np.ndarray  # uint16 [k, B, T] right-padded with PAD
    mask: np.ndarray  # bool [k, B, T] True: this token is a target
    kind: np.ndarray  # int8 [k, B, E] of each example: number of its kind, −2 propose; −1 none
    level: np.ndarray  # int8 [k, B, E] measured level of each example's program
    skeleton: np.ndarray  # uint32 [k, B, E] of each example's program; 0 none
    productions: np.ndarray  # uint8 [k, B, E, ⌈P/8⌉] bit p of an example: its program has production p (np.packbits)


@dataclasses.dataclass(order=True, slots=True)
class Slice:
    """Part of an order, as one worker gets it; sorted, the most urgent come first, then the oldest."""

    urgency: int
    serial: int
    question: dict[str, Any] = dataclasses.field(compare=False)  # what crosses the wire, see `worker.answer_question`
    key: Any = dataclasses.field(compare=False)  # of the answer among the stream's answers


class Stream:
    """Owns the workers; a context manager. All methods are for one thread, the trainer's.

    `sandbox`, if given, has `.run(jobs)`: one generated program in a hundred is run again there, and `disagreements`
    counts those whose values differ.
    """

    def __init__(self, cfg: Config, sandbox: Any = None):
        self.cfg = cfg
        self.sandbox = sandbox
        self.audited = self.disagreements = 0
        self._serials = itertools.count()
        self._queue: list[Slice] = []
        self._results: dict[Any, Any] = {}
        self._requested: set[Any] = set()
        self._changed = threading.Condition()
        self._failure: str | None = None
        self.closed = False
        self._most = cfg.tasks.workers or usable_cores()  # all: while the trainer waits its cores are idle too
        self._taken: float | None = None  # time.monotonic() when a batch was taken last
        self._workers = [_Worker(self, i) for i in range(cfg.tasks.workers or 1)]
        atexit.register(self.close)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; the stream gives nothing afterwards."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.end()
        atexit.unregister(self.close)

    # ---- orders ----

    def request_batch(self, order: BatchOrder) -> None:
        """Begin an order in the background; one that was begun before goes on."""
        for step in range(order.step, order.step + order.steps):
            self._enqueue("rows", {"unit": dataclasses.asdict(order), "step": step}, ("rows", order, step))

    def take_batch(self, order: BatchOrder) -> Batch:
        """The batch of an order, once; waits for the workers if need be. Raises `GeneratorFailed`."""
        self.request_batch(order)
        began = time.monotonic()
        parts = [self._wait_for(("rows", order, step)) for step in range(order.step, order.step + order.steps)]
        self._grow(began)
        self._drop_stale(order)
        if self.sandbox is not None:
            self._audit([Program(**lists_to_tuples(item)) for head, _ in parts for item in head["audit"]])
        return Batch(**{name: np.stack([arrays[name] for _, arrays in parts]) for name in parts[0][1]})

    def _grow(self, began: float) -> None:
        """Starts the workers that would have spared the trainer its wait since ``began``, where they are left open."""
        now, before = time.monotonic(), self._taken
        self._taken = now
        if before is None:  # nothing could be made ahead of the first batch
            return
        self._hire(workers_without_wait(len(self._workers), now - began, now - before))

    def _hire(self, wanted: int) -> None:
        """Starts workers until there are as many as wanted, or as may be."""
        self._workers += [_Worker(self, i) for i in range(len(self._workers), min(wanted, self._most))]

    @property
    def workers(self) -> int:
        """How many there are now."""
        return len(self._workers)

    def tasks(
        self, n: int, step: int, open_levels: int | None = None, tell: Tell = silent
    ) -> list[tuple[Task, list[int]]]:
        """`n` generator tasks, kinds in turn, open levels evenly, train split, each with what its program does.

        Raises `GeneratorFailed`, and what `tell` raises.
        """
        levels = self.cfg.tasks.open_levels if open_levels is None else open_levels
        keys = [("tasks", step, levels, start, stop) for start, stop in _ranges(n)]
        for key in keys:
            question = {"step": step, "open_levels": levels, "start": key[3], "stop": key[4]}
            self._enqueue("tasks", question, key)
        self._hire(len(self._queue))
        found: list[tuple[Task, list[int]]] = []
        for key in keys:
            tell(len(found), n)
            head, _ = self._wait_for(key)
            pairs = zip(head["items"], head["behaviours"], strict=True)
            found += [(Task(**lists_to_tuples(item)), done) for item, done in pairs]
        return found

    def request_heldout(self, split: Split, level: int, n: int) -> None:
        """Begin a held-out set in the background."""
        for start in range(0, n + n // 8, SLICE_ITEMS):  # some candidates are duplicates
            self._enqueue_heldout(split, level, start)

    def heldout(self, split: Split, level: int, n: int) -> list[Program]:
        """`programs.heldout(cfg.seed, split, level, n)`, drawn by the workers. Raises `GeneratorFailed`."""
        return [program for program, _ in self._heldout_with_behaviours(split, level, n)]

    def heldout_draws(self, split: Split, level: int, n: int) -> list[Program]:
        """Draws in order, as questions (`programs.as_asked`), until `n` different programs have come: `n` or more.

        The first `n` are a sample of what the generator draws; each program's first draw is `heldout`'s.
        Raises `GeneratorFailed`.
        """
        drawn = [program for program, _ in self._candidates(split, level, n)]
        return list(as_asked(drawn))

    def request_guarded(self) -> None:
        """Begin the programs of ``guarded_behaviours`` in the background."""
        for level, split in itertools.product(range(NUM_LEVELS), GUARDED_SPLITS):
            self.request_heldout(split, level, self.cfg.tasks.guarded)

    def guarded_behaviours(self, tell: Tell = silent) -> frozenset[int]:
        """What the first ``tasks.guarded`` dev and test programs of every level do.

        Raises `GeneratorFailed`, and what `tell` raises.
        """
        self.request_guarded()
        sets, each = list(itertools.product(range(NUM_LEVELS), GUARDED_SPLITS)), self.cfg.tasks.guarded
        found: set[int] = set()
        for at, (level, split) in enumerate(sets):
            so_far = lambda done, _, before=at * each: tell(before + done, each * len(sets))
            for _, behaviours in self._heldout_with_behaviours(split, level, each, so_far):
                found.update(behaviours)
        return frozenset(found)

    def _heldout_with_behaviours(
        self, split: Split, level: int, n: int, tell: Tell = silent
    ) -> list[tuple[Program, list[int]]]:
        kept: dict[int, tuple[Program, list[int]]] = {}
        for program, behaviours in self._candidates(split, level, n, tell):
            kept.setdefault(program.hash, (program, behaviours))
        return list(kept.values())

    def _candidates(self, split: Split, level: int, n: int, tell: Tell = silent) -> list[tuple[Program, list[int]]]:
        """The candidates of a held-out set and what they do, up to the one with the `n`-th different program."""
        self.request_heldout(split, level, n)
        self._hire(len(self._queue))
        found: list[tuple[Program, list[int]]] = []
        different: set[int] = set()
        for start in itertools.count(0, SLICE_ITEMS):
            if len(different) >= n:
                return found
            self._enqueue_heldout(split, level, start)
            if start > 200 * n + 10_000:
                raise GeneratorFailed(
                    f"the generator found {len(different)} of {n} different {split} programs of L{level}"
                )
            tell(len(different), n)
            head, _ = self._wait_for(("heldout", split, level, start), keep=True)
            for item, behaviours in zip(head["items"], head["behaviours"], strict=True):
                if len(different) < n:
                    program = Program(**lists_to_tuples(item))
                    different.add(program.hash)
                    found.append((program, behaviours))
        raise AssertionError("unreachable")

    def _enqueue_heldout(self, split: Split, level: int, start: int) -> None:
        """One whole slice, so that a key always means the same items."""
        question = {"split": split, "level": level, "start": start, "stop": start + SLICE_ITEMS}
        self._enqueue("heldout", question, ("heldout", split, level, start))

    # ---- slices ----

    def _enqueue(self, what: What, question: dict[str, Any], key: Any) -> None:
        """One slice for the workers, unless it was enqueued before."""
        with self._changed:
            if key in self._requested:
                return
            self._requested.add(key)
            question = {"what": what, **question}
            heapq.heappush(self._queue, Slice(URGENCY[what], next(self._serials), question, key))
            self._changed.notify_all()

    def _wait_for(self, key: Any, keep: bool = False) -> Any:
        """The answer to a slice; with `keep` it stays for the next time. Raises `GeneratorFailed`."""
        with self._changed:
            while key not in self._results:
                if self._failure or self.closed:
                    raise GeneratorFailed(self._failure or "the generator was closed")
                self._changed.wait()
            if keep:
                return self._results[key]
            self._requested.discard(key)
            return self._results.pop(key)

    def _drop_stale(self, taken: BatchOrder) -> None:
        """Drop what was drawn ahead for orders that will not be taken: those of earlier steps, and those that begin at
        the step of the order taken but expected other levels.
        """

        def stale(key: Any) -> bool:
            return key[0] == "rows" and key[1].phase == taken.phase and key[1].step <= taken.step

        with self._changed:
            self._results = {key: value for key, value in self._results.items() if not stale(key)}
            self._requested = {key for key in self._requested if not stale(key)}
            self._queue = [item for item in self._queue if not stale(item.key)]
            heapq.heapify(self._queue)

    def next_slice(self) -> Slice | None:
        """The most urgent slice, waiting for one; None once the stream is closed. For the workers' threads."""
        with self._changed:
            while not self._queue and not self.closed:
                self._changed.wait()
            return None if self.closed else heapq.heappop(self._queue)

    def deliver(self, item: Slice, result: Any) -> None:
        """The answer to a slice; for the workers' threads."""
        with self._changed:
            if item.key in self._requested:
                self._results[item.key] = result
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        """Every wait ends with this reason; for the workers' threads."""
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()

    def _audit(self, programs: list[Program]) -> None:
        """Run generated programs again in the sandbox; their values must agree."""
        if not programs:
            return
        jobs = [Job(id=str(i), code=program.code, inputs=program.inputs) for i, program in enumerate(programs)]
        for program, outcomes in zip(programs, self.sandbox.run(jobs), strict=True):
            if any(outcome.kind == "infra" for outcome in outcomes):
                continue
            self.audited += 1
            self.disagreements += tuple(outcome.value for outcome in outcomes) != program.outputs


class _Worker(threading.Thread):
    """One process and the thread that feeds it."""

    def __init__(self, stream: Stream, index: int):
        super().__init__(name=f"generator-{index}", daemon=True)
        self.stream = stream
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def run(self) -> None:
        try:
            while (item := self.stream.next_slice()) is not None:
                head, arrays = self._result_despite_deaths(item)
                if "error" in head:
                    raise GeneratorFailed(head["error"])
                self.stream.deliver(item, (head, arrays))
        except GeneratorFailed as error:
            self.stream.fail(str(error))
        except Exception as error:  # whoever waits must hear of anything that ends this thread
            self.stream.fail(f"the generator's thread failed: {error!r}")

    def _result_despite_deaths(self, item: Slice) -> Any:
        """The answer to a slice, from as many processes as it takes. Raises `GeneratorFailed`."""
        for _ in range(MAX_DEATHS):
            try:
                return self._exchange(item)
            except (OSError, EOFError):
                if self.stream.closed:
                    raise GeneratorFailed("the generator was closed") from None
                self._end_process()
        raise GeneratorFailed(f"a generator worker died {MAX_DEATHS} times in a row on {item.question}")

    def _exchange(self, item: Slice) -> Any:
        """One question and its answer. Raises OSError or EOFError where the process dies."""
        if self.process is None:
            self.process = spawn_worker(self.stream.cfg)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(item.question).encode() + b"\n")
        self.process.stdin.flush()
        return receive_answer(self.process.stdout)

    def _end_process(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                _ignoring_os_errors(pipe.close if pipe else None)
            self.process = None

    def end(self) -> None:
        """Kill the process; the thread sees the end of its pipe and returns."""
        if self.process is not None:
            self.process.kill()
        self.join(timeout=10)
        self._end_process()


def _ignoring_os_errors(act: Callable[[], object] | None) -> None:
    """Close what may be closed already."""
    try:
        if act:
            act()
    except OSError:
        pass


def _ranges(n: int) -> list[tuple[int, int]]:
    """Start and stop of the slices of n items."""
    return [(start, min(start + SLICE_ITEMS, n)) for start in range(0, n, SLICE_ITEMS)]
