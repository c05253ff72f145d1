"""What goes into the sandbox and what comes out: limits, jobs and typed outcomes.

>>> with Sandbox() as box:
...     [[outcome]] = box.run([Job(id=0, code="def f(a): return a + [1]", inputs=("[0]",))])
>>> outcome.kind, outcome.value
('ok', '[0, 1]')
"""

import dataclasses
from typing import Literal, get_args

OutcomeKind = Literal["ok", "exception", "timeout", "memory", "forbidden", "nondeterministic", "oversize", "infra"]
KINDS: tuple[OutcomeKind, ...] = get_args(OutcomeKind)
MIN_MEMORY_MB = 64
LITERAL_CODE = "def f(x): return x  # exactly one literal"  # a job of this code holds value texts, no program runs


class SandboxUnavailable(RuntimeError):
    """No program can be run here: the machine cannot confine it, or the sandbox is another process's.

    The message is one line and names the override where one exists.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one input of one program may use."""

    fuel: int = 20_000  # ticks: loop bodies, function calls, comprehension items; the same on every machine
    cpu_s: float = 0.5  # seconds of processor time, never of the wall clock
    memory_mb: int = 256  # MiB of address space, the interpreter's ≈ 25 included
    value_bytes: int = 8192  # characters of a canonical value
    depth: int = 32  # nested containers of a value
    code_bytes: int = 16384  # UTF-8 bytes of a program, and of one input text

    def __post_init__(self) -> None:
        if min(self.fuel, self.cpu_s, self.value_bytes, self.depth, self.code_bytes) <= 0:
            raise ValueError(f"sandbox: limits must be positive: {self}")
        if self.memory_mb < MIN_MEMORY_MB:
            raise ValueError(f"sandbox: memory_mb is {self.memory_mb}; an interpreter needs {MIN_MEMORY_MB}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One program and the argument lists that its top-level ``f`` is called with, each in fresh globals."""

    id: int | str
    code: str
    inputs: tuple[str, ...]  # argument lists as text: "1, 'b', k=[2.5]"
    owner: int | None = None  # one seed for all of an owner; its pure programs may share a child and its time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one input."""

    kind: OutcomeKind
    value: str | None = None  # canonical text, for ok only
    exc: str | None = None  # for exception: a built-in exception's name, UserException or Crash
    detail: str = ""  # a word of the sandbox's own, never the program's message
    cpu_us: int = 0  # processor time in microseconds; an even share of what a shared child took
    fuel: int = 0  # ticks used
    confidence: float = 1.0  # 1 minus the chance that agreeing runs hide nondeterminism


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """A program as the parser of a confined child saw it; nothing of it was executed."""

    canonical: str  # alpha-normalised source, constants kept
    source: str  # the program as ``ast.unparse`` writes it, docstrings dropped
    deletions: tuple[str, ...]  # source with each single statement removed
    statements: int  # inside function bodies
    loops: int  # for and while statements
    branches: int  # if statements, conditional expressions, comprehensions, match cases, handlers
    names: tuple[str, ...]  # built-in names and attributes used, sorted


def same(a: Outcome, b: Outcome) -> bool:
    """Both are ``ok`` with equal canonical text: same types and same content."""
    return a.kind == b.kind == "ok" and a.value is not None and a.value == b.value


def literal_job(id: int | str, texts: tuple[str, ...] | list[str]) -> Job:
    """A job whose outcome *i* is the canonical text of the one literal in ``texts[i]``; no program runs.

    A text that is not exactly one literal (``1, 2``, ``x=1``, ``f(1)``) is an ``exception`` of its own input only.
    """
    return Job(id=id, code=LITERAL_CODE, inputs=tuple(texts))
