"""From what a zygote says of a child to a typed outcome, and from several runs of one input to one.

The child's bytes are hostile: they are taken apart by length, decoded as ASCII, and a value is accepted only if
``values.read`` finds it to be canonical text. A forger gains nothing, as no expected value is in the child.
"""

import builtins
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

from bitzero.sandbox import values, wire
from bitzero.sandbox.jobs import Limits, Outcome, OutcomeKind, Parsed
from bitzero.sandbox.process import Mode, Reply

# Measured chance that 2 or 8 seeds agree on a value that follows from the order of a set, most of them skewed ones
# (``benchmarks/hidden_orders.py``: 0.534 and 0.199 of 3,649 programs).
MISS_TWO, MISS_EIGHT = 0.53, 0.20
PRECEDENCE = ("timeout", "memory", "forbidden", "oversize", "infra")
_TOLD: tuple[OutcomeKind, ...] = ("ok", "exception", "timeout", "memory", "forbidden", "oversize")  # by a child
_WORDS: dict[str, OutcomeKind] = {kind: kind for kind in _TOLD}
_EXCEPTIONS = {"UserException"} | {
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}
_DEATHS = {
    "fuel": Outcome(kind="timeout", detail="fuel"),
    "cpu": Outcome(kind="timeout", detail="cpu"),
    "budget": Outcome(kind="infra", detail="budget"),
    "syscall": Outcome(kind="forbidden", detail="syscall"),
    "memory": Outcome(kind="memory", detail="memory"),
    "crash": Outcome(kind="exception", exc="Crash"),
    "silent": Outcome(kind="forbidden", detail="no result"),
    "done": Outcome(kind="forbidden", detail="no result"),
    "flood": Outcome(kind="forbidden", detail="forged result"),
}


class RunVerdict(NamedTuple):
    """One run of one input: the outcome, and what only the sandbox itself uses."""

    outcome: Outcome
    touched: bool = False  # the program may make a set, or an argument holds one
    payload: bytes = b""  # of a parse
    settled: bool = False  # a run under another seed would be the same (``purity``)


INFRA = RunVerdict(Outcome(kind="infra", detail="executor"))


def of_text(text: str, limits: Limits) -> RunVerdict | None:
    """The verdict on a text that cannot be sent to a zygote, or None."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return RunVerdict(Outcome(kind="exception", exc="SyntaxError", detail="text"))
    return None if size <= limits.code_bytes else RunVerdict(Outcome(kind="oversize", detail="code"))


def of_reply(reply: Reply, mode: Mode, limits: Limits) -> RunVerdict:
    """The verdict on one input. Never raises: what is not well-formed is ``forbidden``."""
    if reply.word not in _DEATHS:
        return INFRA  # hung, or killed from outside
    if reply.word != "done" or not reply.body:
        fuel = limits.fuel if reply.word == "fuel" else 0
        outcome = dataclasses.replace(_DEATHS[reply.word], cpu_us=reply.cpu_us, fuel=fuel)
        return RunVerdict(outcome, reply.touched, settled=reply.settled)
    try:
        [body], rest = wire.split(reply.body)
        if rest:
            raise ValueError("rest")
        return _of_message(wire.unpack(body), reply, mode, limits)
    except ValueError:
        return RunVerdict(Outcome(kind="forbidden", detail="forged result", cpu_us=reply.cpu_us))


def _of_message(fields: list[bytes], reply: Reply, mode: Mode, limits: Limits) -> RunVerdict:
    """Raises ``ValueError`` unless ``fields`` are five, well-formed, and the value canonical."""
    kind_field, exc_field, detail_field, used, value = fields
    word, exc, detail = (field.decode("ascii") for field in (kind_field, exc_field, detail_field))
    kind = _WORDS.get(word)
    fuel = int(used) if used.isdigit() and len(used) < 20 else -1
    named = exc in _EXCEPTIONS if kind == "exception" else not exc
    if kind is None or not named or not 0 <= fuel <= limits.fuel:
        raise ValueError("field")
    if len(detail) > 60 or not detail.isprintable():
        raise ValueError("text")
    text = None
    if kind == "ok" and mode != "parse":
        text = value.decode("ascii")
        if not _is_value(text, limits.value_bytes, limits.depth):
            raise ValueError("value")
    outcome = Outcome(kind=kind, value=text, exc=exc or None, detail=detail, cpu_us=reply.cpu_us, fuel=fuel)
    return RunVerdict(outcome, reply.touched, value, reply.settled)


@functools.lru_cache(maxsize=1024)
def _is_value(text: str, value_bytes: int, depth: int) -> bool:
    """Whether ``text`` is canonical; the same values come again under other seeds and from shorter programs."""
    try:
        values.read(text, value_bytes, depth)
    except values.Malformed:
        return False
    return True


def of_parse(verdict: RunVerdict, limits: Limits) -> Parsed | Outcome:
    """The shape of a program out of the payload of a ``parse``, or why there is none."""
    if verdict.outcome.kind != "ok":
        return verdict.outcome
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


def single(verdict: RunVerdict) -> Outcome:
    """The outcome of a single run; confidence 0 where set order or addresses may matter."""
    return dataclasses.replace(verdict.outcome, confidence=0.0) if verdict.touched else verdict.outcome


def agree(runs: Sequence[RunVerdict]) -> Outcome:
    """One outcome of several runs of the same input; the first of ``PRECEDENCE`` that any run met decides."""
    outcomes = [verdict.outcome for verdict in runs]
    for kind in PRECEDENCE:
        for outcome in outcomes:
            if outcome.kind == kind:
                return outcome
    first = outcomes[0]
    if any(_key(outcome) != _key(first) for outcome in outcomes):
        return Outcome(kind="nondeterministic", cpu_us=first.cpu_us, fuel=first.fuel, confidence=0.0)
    if not any(verdict.touched for verdict in runs):
        return first
    return dataclasses.replace(first, confidence=1.0 - (MISS_EIGHT if len(runs) >= 8 else MISS_TWO))


def needs_more_runs(runs: Sequence[Sequence[RunVerdict]]) -> bool:
    """Whether the first seeds agree on a program whose order more seeds may still tell apart."""
    if not any(verdict.touched for run in runs for verdict in run):
        return False
    columns = list(zip(*runs, strict=True))
    return any(agree(column).kind in ("ok", "exception") for column in columns)


def _key(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.kind, outcome.value, outcome.exc
