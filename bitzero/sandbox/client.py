"""The host side: ``Sandbox`` sends programs to zygotes and turns what comes back into typed outcomes.

Every input gets exactly one outcome, in order, whatever a program, a child or a zygote does. The host starts zygotes
with ``Popen`` (it never forks itself), compares nothing but text, and never evaluates or unpickles what a program
wrote: a value is accepted only if ``values.read`` finds it to be canonical text.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
import types
import weakref
import zlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bitzero.sandbox import values, wire
from bitzero.sandbox.jobs import LITERAL_CODE, Job, Limits, Outcome, Parsed, SandboxUnavailable

EXTRA_SEEDS = (3, 4, 5, 6, 7, 8)  # joined for programs that mention sets, hash or id
MISS_TWO, MISS_EIGHT = 0.39, 0.005  # measured chance that agreeing runs hide the order of a two-string set
PRECEDENCE = ("timeout", "memory", "forbidden", "oversize", "infra")
PARSE_GROUP = 16  # programs one child parses
CACHE_SIZE = 4096
GRACE_S = 5.0  # beyond the hang guard of a child, before a silent zygote is replaced
_START_S = 60.0
_BOOT = (
    "import sys, types\n"
    "for name, path in (('bitzero', sys.argv[1]), ('bitzero.sandbox', sys.argv[1] + '/sandbox')):\n"
    "    package = sys.modules[name] = types.ModuleType(name)\n"
    "    package.__path__ = [path]\n"
    "from bitzero.sandbox import zygote\n"
    "zygote.main(sys.argv[2:])\n"
)


class Order(NamedTuple):
    """One request to a zygote: a program with its inputs, or a group of texts to parse."""

    mode: str
    code: str
    inputs: tuple[str, ...]


class Verdict(NamedTuple):
    """One input's outcome with what only the sandbox itself uses."""

    outcome: Outcome
    touched: bool = False  # the program mentions sets, hash or id
    payload: bytes = b""  # of a parse


INFRA = Verdict(Outcome(kind="infra", detail="executor"))


class Zygote:
    """One warm process and the order it is working on."""

    def __init__(self, seed: int, limits: Limits, allow_unsafe: bool) -> None:
        self.seed = seed
        self.limits = limits
        self.allow_unsafe = allow_unsafe
        self.order: Order | None = None
        self.slot = -1  # caller's index of the order
        self.retried = False
        self.replies: list[list[bytes]] = []
        self.deadline = 0.0
        self.inner = 0  # process number of the first process in the zygote's own namespace, 0 without one
        self.buffer = b""
        self.process = self._start()
        self.report = self._hello()

    def _start(self) -> subprocess.Popen[bytes]:
        limits = self.limits
        numbers = (limits.fuel, round(limits.cpu_s * 1e6), limits.memory_mb, limits.value_bytes, limits.depth)
        unsafe = int(self.allow_unsafe)
        command = [sys.executable, "-S", "-s", "-P", "-B", "-c", _BOOT, str(Path(__file__).parent.parent)]
        return subprocess.Popen(
            command + [str(number) for number in (*numbers, limits.code_bytes, unsafe)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={"PYTHONHASHSEED": str(self.seed)} | {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
        )

    def _hello(self) -> dict[str, str]:
        """The report a zygote sends when it is ready. Raises ``SandboxUnavailable``."""
        deadline = time.monotonic() + _START_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno(), selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                messages = self.receive()
                if messages is None:
                    break
                said = dict(field.decode().split("=", 1) for fields in messages for field in fields)
                self.inner = int(said.pop("pid", self.inner))
                if said:
                    return said
        self.kill()
        raise SandboxUnavailable("sandbox: the executor process did not start; is this Python complete?")

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, order: Order, slot: int, retried: bool = False) -> None:
        """Begin ``order``; a zygote that is already dead shows itself as end of file later."""
        self.order, self.slot, self.retried, self.replies = order, slot, retried, []
        self.extend_deadline()
        data = wire.pack([text.encode() for text in (order.mode, order.code, *order.inputs)])
        assert self.process.stdin is not None
        try:
            while data:
                data = data[os.write(self.process.stdin.fileno(), data) :]
        except OSError:
            pass

    def extend_deadline(self) -> None:
        self.deadline = time.monotonic() + max(4.0, 20 * self.limits.cpu_s) + GRACE_S

    def receive(self) -> list[list[bytes]] | None:
        """Messages that have arrived, or None at end of file."""
        try:
            data = os.read(self.fileno(), 1 << 16)
        except OSError:
            return None
        if not data:
            return None
        self.extend_deadline()
        bodies, self.buffer = wire.split(self.buffer + data)
        return [wire.unpack(body) for body in bodies]

    def close(self) -> None:
        """Let an idle process leave by itself; then make sure."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=1.0 if self.order is None else 0.0)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End the process and everything in it, and reap it. The inner one first: the outer one then reaps it."""
        if self.inner and self.process.poll() is None:
            try:
                os.kill(self.inner, signal.SIGKILL)
                self.process.wait(timeout=1.0)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


class Sandbox:
    """Runs model-written programs in confined processes. A context manager; use from one thread at a time.

    ``seeds``: hash seeds of the zygotes that determinism is checked with. ``workers``: zygotes that run at once, at
    least one per seed; None takes the machine's cores. ``cache``: remembered jobs (0: none). Raises
    ``SandboxUnavailable`` where the kernel offers no system-call filter, unless ``allow_unsafe``.
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
        self.allow_unsafe = allow_unsafe
        self.per_seed = max(1, (workers or os.cpu_count() or 1) // len(self.seeds))
        self.zygotes: dict[int, list[Zygote]] = {}
        self.counts = dict.fromkeys(
            ("programs", "inputs", "respawns", "infra", "cpu_timeouts", "cache_hits", "nondeterministic"), 0
        )
        self.cache_size = cache
        self.cache: OrderedDict[tuple[object, ...], list[Outcome]] = OrderedDict()
        self._finalizer = weakref.finalize(self, _close, self.zygotes)
        for seed in self.seeds:
            self._pool(seed)
        if self._layers().get("seccomp") != "active" and not allow_unsafe:
            self.close()
            raise SandboxUnavailable(
                "sandbox: this kernel offers no system-call filter (seccomp), so programs cannot be confined; "
                "sandbox.allow_unsafe=True runs them all the same"
            )

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
        """One outcome per input of every job, by one run. The hash seed of a program depends on its text alone."""
        return self._cached("run", jobs, self._run)

    def validate(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """Like ``run`` under every seed, so that programs whose value depends on hashes, addresses or the order of
        their inputs are ``nondeterministic``; under eight seeds where sets, ``hash`` or ``id`` are mentioned.
        """
        return self._cached("validate", jobs, self._validate)

    def parse(self, codes: Sequence[str]) -> list[Parsed | Outcome]:
        """Shape of each program (helpers and one ``f``), or why it has none. Nothing is executed."""
        groups = [codes[start : start + PARSE_GROUP] for start in range(0, len(codes), PARSE_GROUP)]
        jobs = [Job(id=index, code="", inputs=tuple(group)) for index, group in enumerate(groups)]
        verdicts = self._dispatch([(job, self._seed_of(job), "parse", False) for job in jobs])
        return [_parsed(verdict, self.limits) for group in verdicts for verdict in group]

    def report(self) -> dict[str, object]:
        """``level`` (full, reduced, unsafe), ``layers`` (each active, or unavailable with its errno), and counts."""
        layers = self._layers()
        level = "unsafe"
        if layers.get("seccomp") == "active":
            outer = (layers.get("empty root"), layers.get("landlock"))
            level = "full" if "active" in outer else "reduced"
        return {"level": level, "layers": layers, "may_not_replay": self.counts["cpu_timeouts"] > 0} | self.counts

    def _layers(self) -> dict[str, str]:
        """The weakest state of every layer over all zygotes."""
        merged: dict[str, str] = {}
        for pool in self.zygotes.values():
            for zygote in pool:
                for name, state in zygote.report.items():
                    if merged.get(name, "active") == "active":
                        merged[name] = state
        return merged

    def _pool(self, seed: int) -> list[Zygote]:
        if seed not in self.zygotes:
            size = self.per_seed if seed in self.seeds else 1
            self.zygotes[seed] = []
            for _ in range(size):
                self.zygotes[seed].append(Zygote(seed, self.limits, self.allow_unsafe))
        return self.zygotes[seed]

    def _seed_of(self, job: Job) -> int:
        return self.seeds[zlib.crc32(job.code.encode("utf-8", "replace")) % len(self.seeds)]

    def _cached(self, call: str, jobs: Sequence[Job], compute: object) -> list[list[Outcome]]:
        assert callable(compute)
        keys = [(call, job.code, job.inputs) for job in jobs]
        missing = [index for index, key in enumerate(keys) if key not in self.cache]
        self.counts["cache_hits"] += len(jobs) - len(missing)
        fresh = dict(zip(missing, compute([jobs[index] for index in missing]), strict=True))
        results = []
        for index, key in enumerate(keys):
            results.append(fresh[index] if index in fresh else self.cache[key])
        for index, outcomes in fresh.items():
            if all(_replays(outcome) for outcome in outcomes):
                self.cache[keys[index]] = outcomes
        while len(self.cache) > self.cache_size:
            self.cache.popitem(last=False)
        return results

    def _run(self, jobs: list[Job]) -> list[list[Outcome]]:
        verdicts = self._dispatch([(job, self._seed_of(job), _mode(job), False) for job in jobs])
        return [[v.outcome if not v.touched else _confident(v.outcome, 0.0) for v in group] for group in verdicts]

    def _validate(self, jobs: list[Job]) -> list[list[Outcome]]:
        first = [(job, seed, _mode(job), bool(turn % 2)) for job in jobs for turn, seed in enumerate(self.seeds)]
        flat = self._dispatch(first)
        width = len(self.seeds)
        runs = [flat[index * width : (index + 1) * width] for index in range(len(jobs))]
        doubtful = [index for index, group in enumerate(runs) if _needs_more(group)]
        turns = [(seed, bool(turn % 2)) for turn, seed in enumerate(EXTRA_SEEDS)]
        more = [(jobs[index], seed, "run", backwards) for index in doubtful for seed, backwards in turns]
        extra = self._dispatch(more)
        for position, index in enumerate(doubtful):
            runs[index] = runs[index] + extra[position * len(EXTRA_SEEDS) : (position + 1) * len(EXTRA_SEEDS)]
        merged = [[_agree(list(column)) for column in zip(*group, strict=True)] for group in runs]
        self.counts["nondeterministic"] += sum(o.kind == "nondeterministic" for group in merged for o in group)
        return merged

    def _dispatch(self, requests: list[tuple[Job, int, str, bool]]) -> list[list[Verdict]]:
        """Verdicts of every request (job, seed, mode, reversed), in order: the only place that talks to zygotes."""
        results: list[list[Verdict]] = [[] for _ in requests]
        queues: dict[int, deque[tuple[int, Order, bool]]] = {}
        for slot, (job, seed, mode, backwards) in enumerate(requests):
            results[slot], order = _screened(job, mode, backwards, self.limits)
            if order.inputs:
                queues.setdefault(seed, deque()).append((slot, order, False))
        answers: dict[int, list[Verdict]] = {}
        try:
            self._work(queues, answers)
        finally:
            self._drop_busy()
        for slot, (_, _, _, backwards) in enumerate(requests):
            got = iter(answers.get(slot, [])[:: -1 if backwards else 1])
            results[slot] = [next(got) if verdict is _PENDING else verdict for verdict in results[slot]]
        self.counts["programs"] += len(requests)
        self.counts["inputs"] += sum(map(len, results))
        for outcome in (verdict.outcome for group in results for verdict in group):
            self.counts["infra"] += outcome.kind == "infra"
            self.counts["cpu_timeouts"] += outcome.kind == "timeout" and outcome.detail != "fuel"
        return results

    def _work(self, queues: dict[int, deque[tuple[int, Order, bool]]], answers: dict[int, list[Verdict]]) -> None:
        with selectors.DefaultSelector() as selector:
            for seed in queues:
                for zygote in self._pool(seed):
                    selector.register(zygote.fileno(), selectors.EVENT_READ, zygote)
                    self._feed(zygote, queues[seed])
            while busy := [key.data for key in selector.get_map().values() if key.data.order is not None]:
                patience = min(zygote.deadline for zygote in busy) - time.monotonic()
                for key, _ in selector.select(max(0.0, patience)):
                    self._hear(key.data, queues, answers, selector)
                for zygote in busy:
                    if zygote.order is not None and time.monotonic() > zygote.deadline:
                        self._replace(zygote, queues, answers, selector)

    def _feed(self, zygote: Zygote, queue: deque[tuple[int, Order, bool]]) -> None:
        zygote.order = None
        if queue:
            slot, order, retried = queue.popleft()
            zygote.send(order, slot, retried)

    def _hear(
        self,
        zygote: Zygote,
        queues: dict[int, deque[tuple[int, Order, bool]]],
        answers: dict[int, list[Verdict]],
        selector: selectors.BaseSelector,
    ) -> None:
        messages = zygote.receive()
        if messages is None:
            self._replace(zygote, queues, answers, selector)
            return
        for fields in messages:
            if fields != [b"end"]:
                zygote.replies += [fields] if fields else []
                continue
            assert zygote.order is not None
            verdicts = [_verdict(reply, zygote.order.mode, self.limits) for reply in zygote.replies]
            queue = queues[zygote.seed]
            if any(verdict is INFRA for verdict in verdicts) and not zygote.retried:
                queue.append((zygote.slot, zygote.order, True))
            else:
                answers[zygote.slot] = (verdicts + [INFRA] * len(zygote.order.inputs))[: len(zygote.order.inputs)]
            self._feed(zygote, queue)

    def _replace(
        self,
        zygote: Zygote,
        queues: dict[int, deque[tuple[int, Order, bool]]],
        answers: dict[int, list[Verdict]],
        selector: selectors.BaseSelector,
    ) -> None:
        """A dead or silent zygote: start another; its order is tried once more, then it is ``infra``."""
        queue = queues[zygote.seed]
        if zygote.order is not None:
            if zygote.retried:
                answers[zygote.slot] = [INFRA] * len(zygote.order.inputs)
            else:
                queue.append((zygote.slot, zygote.order, True))
        selector.unregister(zygote.fileno())
        fresh = self._respawn(zygote)
        if fresh is None:
            for slot, order, _ in queue:
                answers[slot] = [INFRA] * len(order.inputs)
            queue.clear()
            return
        selector.register(fresh.fileno(), selectors.EVENT_READ, fresh)
        self._feed(fresh, queue)

    def _respawn(self, zygote: Zygote) -> Zygote | None:
        """A new zygote in the place of ``zygote``, or None where the machine cannot start one now."""
        zygote.order = None
        zygote.kill()
        self.counts["respawns"] += 1
        pool = self.zygotes[zygote.seed]
        position = pool.index(zygote)
        for pause_s in (0.0, 0.2, 1.0):
            time.sleep(pause_s)
            try:
                pool[position] = Zygote(zygote.seed, self.limits, self.allow_unsafe)
                return pool[position]
            except (SandboxUnavailable, OSError):
                continue
        del pool[position]
        if not pool:
            del self.zygotes[zygote.seed]
        return None

    def _drop_busy(self) -> None:
        """After an interrupted call some zygote may still be at work on it: its answers must not meet the next call."""
        for seed, pool in list(self.zygotes.items()):
            for zygote in [zygote for zygote in pool if zygote.order is not None]:
                zygote.kill()
                pool.remove(zygote)
                self.counts["respawns"] += 1
            if not pool:
                del self.zygotes[seed]


def _close(zygotes: dict[int, list[Zygote]]) -> None:
    for pool in zygotes.values():
        for zygote in pool:
            zygote.close()
    zygotes.clear()


_PENDING = Verdict(Outcome(kind="infra", detail="pending"))
_DEATHS = {
    "cpu": Outcome(kind="timeout", detail="cpu"),
    "budget": Outcome(kind="timeout", detail="budget"),
    "syscall": Outcome(kind="forbidden", detail="syscall"),
    "memory": Outcome(kind="memory", detail="memory"),
    "crash": Outcome(kind="exception", exc="Crash"),
    "silent": Outcome(kind="forbidden", detail="no result"),
    "done": Outcome(kind="forbidden", detail="no result"),
    "flood": Outcome(kind="forbidden", detail="forged result"),
}
_WORDS = ("ok", "exception", "timeout", "memory", "forbidden", "oversize")


def _mode(job: Job) -> str:
    return "literal" if job.code == LITERAL_CODE else "run"


def _replays(outcome: Outcome) -> bool:
    return outcome.kind != "infra" and not (outcome.kind == "timeout" and outcome.detail != "fuel")


def _confident(outcome: Outcome, confidence: float) -> Outcome:
    return Outcome(
        kind=outcome.kind,
        value=outcome.value,
        exc=outcome.exc,
        detail=outcome.detail,
        cpu_us=outcome.cpu_us,
        fuel=outcome.fuel,
        confidence=confidence,
    )


def _screened(job: Job, mode: str, backwards: bool, limits: Limits) -> tuple[list[Verdict], Order]:
    """Verdicts known before anything is sent (too long, not UTF-8), and the order with the other inputs."""
    code_verdict = _text_verdict(job.code, limits)
    known = [code_verdict if code_verdict is not _PENDING else _text_verdict(text, limits) for text in job.inputs]
    inputs = tuple(text for text, verdict in zip(job.inputs, known, strict=True) if verdict is _PENDING)
    return known, Order(mode, job.code, inputs[::-1] if backwards else inputs)


def _text_verdict(text: str, limits: Limits) -> Verdict:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return Verdict(Outcome(kind="exception", exc="SyntaxError", detail="text"))
    return _PENDING if size <= limits.code_bytes else Verdict(Outcome(kind="oversize", detail="code"))


def _verdict(reply: list[bytes], mode: str, limits: Limits) -> Verdict:
    """A zygote's message (status word, processor time, the child's bytes) as a verdict. The bytes are hostile."""
    word, cpu_us, body = reply[0].decode(), int(reply[1]), reply[2]
    if word in ("hung", "killed"):
        return INFRA
    if word != "done" or not body:
        death = _DEATHS[word]
        return Verdict(Outcome(kind=death.kind, exc=death.exc, detail=death.detail, cpu_us=cpu_us))
    try:
        return _message(wire.unpack(body), mode, limits)
    except (ValueError, UnicodeError):
        return Verdict(Outcome(kind="forbidden", detail="forged result", cpu_us=cpu_us))


def _message(fields: list[bytes], mode: str, limits: Limits) -> Verdict:
    """Raises ``ValueError`` unless ``fields`` are six, well-formed, and the value canonical."""
    _, kind_, exc_, detail_, numbers, value = fields
    kind, exc, detail = kind_.decode("ascii"), exc_.decode("ascii"), detail_.decode("ascii")
    cpu_us, fuel, touched = (int(number) for number in numbers.decode("ascii").split())
    if kind not in _WORDS or len(exc) > 40 or len(detail) > 60 or not 0 <= fuel <= limits.fuel:
        raise ValueError("field")
    text = None
    if kind == "ok" and mode != "parse":
        text = value.decode("ascii")
        values.read(text, limits.value_bytes, limits.depth)
    outcome = Outcome(
        kind=kind, value=text, exc=exc or None, detail=detail, cpu_us=min(max(cpu_us, 0), 10**9), fuel=fuel
    )
    return Verdict(outcome, bool(touched), value)


def _needs_more(runs: list[list[Verdict]]) -> bool:
    """Whether the first seeds agree on a program that mentions sets, hash or id."""
    touched = any(verdict.touched for group in runs for verdict in group)
    agree = all(_key(a.outcome) == _key(b.outcome) for a, b in zip(runs[0], runs[-1], strict=True))
    return touched and agree and any(verdict.outcome.kind in ("ok", "exception") for verdict in runs[0])


def _key(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.kind, outcome.value, outcome.exc


def _agree(runs: list[Verdict]) -> Outcome:
    """One outcome of several runs of the same input; the first of ``PRECEDENCE`` that any run met decides."""
    outcomes = [verdict.outcome for verdict in runs]
    for kind in PRECEDENCE:
        for outcome in outcomes:
            if outcome.kind == kind:
                return outcome
    if len({_key(outcome) for outcome in outcomes}) > 1:
        return Outcome(kind="nondeterministic", cpu_us=outcomes[0].cpu_us, fuel=outcomes[0].fuel, confidence=0.0)
    if not any(verdict.touched for verdict in runs):
        return outcomes[0]
    return _confident(outcomes[0], 1.0 - (MISS_EIGHT if len(runs) >= 8 else MISS_TWO))


def _parsed(verdict: Verdict, limits: Limits) -> Parsed | Outcome:
    outcome = verdict.outcome
    if outcome.kind != "ok":
        return outcome
    try:
        numbers, canonical, source, *rest = [field.decode("utf-8") for field in wire.unpack(verdict.payload)]
        statements, loops, branches, deletions = (int(number) for number in numbers.split())
        if max(map(len, (canonical, source, *rest))) > 4 * limits.code_bytes or not 0 <= deletions <= len(rest):
            raise ValueError("size")
    except ValueError:
        return Outcome(kind="forbidden", detail="forged result")
    return Parsed(
        canonical=canonical,
        source=source,
        deletions=tuple(rest[:deletions]),
        statements=statements,
        loops=loops,
        branches=branches,
        names=tuple(rest[deletions:]),
    )
