"""``Sandbox``: programs in, one typed outcome per input out, in order, whatever a program, a child or a zygote does.

The host starts zygotes with ``Popen`` (it never forks itself), compares nothing but text, and never parses, evaluates
or unpickles what a program wrote.
"""

import contextlib
import os
import sys
import threading
import types
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bitzero.sandbox import verdicts
from bitzero.sandbox.jobs import LITERAL_CODE, Job, Limits, Outcome, Parsed, SandboxUnavailable
from bitzero.sandbox.pools import Dispatch, Pools, Request
from bitzero.sandbox.process import Mode, Order, order_bytes
from bitzero.sandbox.verdicts import RunVerdict

EXTRA_SEEDS = (3, 4, 5, 6, 7, 8)  # joined where an order may matter: verdicts.needs_more_runs
PARSE_GROUP = 16  # programs one child parses
CACHE_SIZE = 4096  # jobs


class JobRun(NamedTuple):
    """One run of a job under one seed."""

    job: Job
    mode: Mode
    seed: int


class Sandbox:
    """Runs model-written programs in confined processes. A context manager; calls from several threads take turns.

    ``seeds``: hash seeds that determinism is checked with. ``workers``: zygotes that run at once, at least one per
    seed; None takes the machine's cores. ``cache``: remembered jobs (0: none). Raises ``SandboxUnavailable`` where the
    kernel offers no system-call filter, unless ``allow_unsafe``, and in a process forked off the one that made it.
    """

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        seeds: Sequence[int] = (1, 2),
        workers: int | None = None,
        allow_unsafe: bool = False,
        cache: int = CACHE_SIZE,
    ) -> None:
        if sys.platform != "linux":
            raise SandboxUnavailable(f"sandbox: needs Linux, not {sys.platform}; on Windows run inside WSL2")
        self.limits = limits
        self.seeds = tuple(seeds)
        each = max(1, (workers or os.cpu_count() or 1) // len(self.seeds))
        self.pools = Pools(limits, dict.fromkeys(self.seeds, each), allow_unsafe)
        self.counts = dict.fromkeys(
            ("programs", "inputs", "infra", "cpu_timeouts", "cache_hits", "nondeterministic"), 0
        )
        self._cache_size = cache
        self._cache: OrderedDict[tuple[object, ...], list[Outcome]] = OrderedDict()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, self.pools.close)
        self.pools.launch(self.seeds)
        try:
            for seed in self.seeds:
                self.pools.of(seed)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all zygotes. Idempotent."""
        self._finalizer()

    def run(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """One outcome per input of every job, by one run. The hash seed follows from a job's owner or its text."""
        with self._turn():
            return self._remembered("run", jobs, self._run)

    def validate(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """Like ``run`` under every seed, so that programs whose value depends on the order of a set are
        ``nondeterministic``; under eight seeds where ``verdicts.needs_more_runs`` says that an order may matter, and
        under one where the program is pure (``purity``), so that no seed can.
        """
        with self._turn():
            return self._remembered("validate", jobs, self._validate)

    def parse(self, codes: Sequence[str]) -> list[Parsed | Outcome]:
        """Shape of each program (helpers and one ``f``), or why it has none. Nothing is executed."""
        groups = [tuple(codes[start : start + PARSE_GROUP]) for start in range(0, len(codes), PARSE_GROUP)]
        jobs = [Job(id=index, code="", inputs=group) for index, group in enumerate(groups)]
        with self._turn():
            runs = [JobRun(job, "parse", self.seeds[index % len(self.seeds)]) for index, job in enumerate(jobs)]
            found = self._dispatch(runs)
        return [verdicts.of_parse(verdict, self.limits) for group in found for verdict in group]

    def report(self) -> dict[str, object]:
        """``level`` (full, reduced, unsafe), ``layers`` (each active, or unavailable with its errno), and counts.

        ``may_not_replay``: some verdict was decided by processor time, which another machine may decide otherwise.
        """
        layers = self.pools.layers()
        level = "unsafe"
        if layers.get("seccomp") == "active":
            level = "full" if "active" in (layers.get("empty root"), layers.get("landlock")) else "reduced"
        known = {"level": level, "layers": layers, "may_not_replay": self.counts["cpu_timeouts"] > 0}
        return known | self.counts | {"respawns": self.pools.respawns}

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One call at a time, in the process that made this object: two would read each other's answers."""
        if os.getpid() != self._owner:
            raise SandboxUnavailable(
                f"sandbox: this Sandbox belongs to process {self._owner}, and its pipes cannot be shared with process "
                f"{os.getpid()}; make a new one after a fork"
            )
        with self._lock:
            yield

    def _remembered(
        self, call: str, jobs: Sequence[Job], compute: Callable[[list[Job]], list[list[Outcome]]]
    ) -> list[list[Outcome]]:
        """``compute`` for the jobs that are not in the cache; only verdicts that would come again are kept."""
        keys = [(call, job.code, tuple(job.inputs)) for job in jobs]
        known = {index: self._cache[key] for index, key in enumerate(keys) if key in self._cache}
        missing = [index for index in range(len(jobs)) if index not in known]
        self.counts["cache_hits"] += len(known)
        for index in known:
            self._cache.move_to_end(keys[index])
        for index, outcomes in zip(missing, compute([jobs[index] for index in missing]), strict=True):
            known[index] = outcomes
            if self._cache_size and all(_replays(outcome) for outcome in outcomes):
                self._cache[keys[index]] = outcomes
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return [list(known[index]) for index in range(len(jobs))]

    def _run(self, jobs: list[Job]) -> list[list[Outcome]]:
        return [[verdicts.single(verdict) for verdict in group] for group in self._once(jobs)]

    def _validate(self, jobs: list[Job]) -> list[list[Outcome]]:
        runs = self._under_needed(jobs)
        doubtful = [index for index, group in enumerate(runs) if verdicts.needs_more_runs(group)]
        extra = [seed for seed in EXTRA_SEEDS if seed not in self.seeds]
        for index, group in zip(doubtful, self._under(extra, [jobs[index] for index in doubtful]), strict=True):
            runs[index] = runs[index] + group
        merged = [[verdicts.agree(column) for column in zip(*group, strict=True)] for group in runs]
        self.counts["nondeterministic"] += sum(o.kind == "nondeterministic" for group in merged for o in group)
        return merged

    def _once(self, jobs: list[Job]) -> list[list[RunVerdict]]:
        """Verdicts by job and input, each job under the seed of its text."""
        return self._dispatch([JobRun(job, _mode(job), self._seed_of(job)) for job in jobs])

    def _seed_of(self, job: Job) -> int:
        number = zlib.crc32(job.code.encode("utf-8", "replace")) if job.owner is None else job.owner
        return self.seeds[number % len(self.seeds)]

    def _under_needed(self, jobs: list[Job]) -> list[list[list[RunVerdict]]]:
        """Verdicts by job, seed and input: under the seeds of this sandbox, or under one where that settles it."""
        runs = [[group] for group in self._once(jobs)]
        unsettled = [place for place, [group] in enumerate(runs) if not all(verdict.settled for verdict in group)]
        rest = {place: [seed for seed in self.seeds if seed != self._seed_of(jobs[place])] for place in unsettled}
        found = iter(
            self._dispatch([JobRun(jobs[i], _mode(jobs[i]), seed) for i, seeds in rest.items() for seed in seeds])
        )
        for place in unsettled:
            own = runs[place][0]
            runs[place] = [own if seed == self._seed_of(jobs[place]) else next(found) for seed in self.seeds]
        return runs

    def _under(self, seeds: Sequence[int], jobs: list[Job]) -> list[list[list[RunVerdict]]]:
        """Verdicts by job, seed and input."""
        flat = self._dispatch([JobRun(job, _mode(job), seed) for job in jobs for seed in seeds])
        return [flat[index * len(seeds) : (index + 1) * len(seeds)] for index in range(len(jobs))]

    def _dispatch(self, runs: list[JobRun]) -> list[list[RunVerdict]]:
        """Verdicts of every run, in order, one per input."""
        known = [_known(run, self.limits) for run in runs]
        requests: list[Request] = []
        slots: list[range] = []  # of the requests of each run
        owners: dict[int, int | None] = {}  # of the last run of each seed
        for run, decided in zip(runs, known, strict=True):
            inputs = [text for text, verdict in zip(run.job.inputs, decided, strict=True) if verdict is None]
            before = len(requests)
            for part in _parts(inputs, order_bytes(self.limits) // 2):
                joined = run.job.owner is not None and owners.get(run.seed) == run.job.owner
                owners[run.seed] = run.job.owner
                requests.append(Request(run.seed, len(requests), Order(run.mode, run.job.code, part, joined)))
            slots.append(range(before, len(requests)))
        answers = Dispatch(self.pools, requests).results()
        results: list[list[RunVerdict]] = []
        for decided, places in zip(known, slots, strict=True):
            got = (verdict for place in places for verdict in answers[place])
            results.append([next(got) if verdict is None else verdict for verdict in decided])
        self._count(results)
        return results

    def _count(self, results: list[list[RunVerdict]]) -> None:
        outcomes = [verdict.outcome for group in results for verdict in group]
        self.counts["programs"] += len(results)
        self.counts["inputs"] += len(outcomes)
        self.counts["infra"] += sum(outcome.kind == "infra" for outcome in outcomes)
        self.counts["cpu_timeouts"] += sum(o.kind == "timeout" and o.detail != "fuel" for o in outcomes)


def _mode(job: Job) -> Mode:
    return "literal" if job.code == LITERAL_CODE else "run"


def _replays(outcome: Outcome) -> bool:
    """Whether the same verdict would come again on any machine."""
    return outcome.kind != "infra" and not (outcome.kind == "timeout" and outcome.detail != "fuel")


def _known(run: JobRun, limits: Limits) -> list[RunVerdict | None]:
    """Verdicts that need no child: the program or an input is too long, or is no text."""
    of_code = verdicts.of_text(run.job.code, limits)
    return [of_code or verdicts.of_text(text, limits) for text in run.job.inputs]


def _parts(inputs: list[str], size: int) -> Iterator[tuple[str, ...]]:
    """``inputs`` cut into runs of at most ``size`` bytes, or of one input that is larger."""
    start = taken = 0
    for index, text in enumerate(inputs):
        taken += len(text.encode()) + 5
        if taken > size and index > start:
            yield tuple(inputs[start:index])
            start, taken = index, len(text.encode()) + 5
    if inputs:
        yield tuple(inputs[start:])
