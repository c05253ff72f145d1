"""Running a candidate: labels, traces, minimisation, and the facts its level is measured by.

The source is compiled once, with reports woven in: `T` after a statement that changes a variable, `E` around the
proper sub-expressions of a return, `C` around a condition, and a switch `S[k]` before each statement, so that
minimisation tries a deletion by flipping a switch. Fuel counts reports; a value that outgrows its bound ends the run.
The printed program is the same text without the reports. Only productions of `grammar.py` ever get here; model-written
text never does.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from bitzero.generator.statements import Candidate, Stmt
from bitzero.generator.templates import BUILTINS, fresh
from bitzero.sandbox.values import Oversize, canonical

MAX_INT = 10**5  # of a variable; repetitions and ranges take variables only, so no expression allocates more than MBs
MAX_LEN = 64
INDENT = "    "


class OutOfFuel(Exception):
    """More events than the program may have, or a value out of bounds."""


class Rejected(Exception):
    """The candidate is not kept; `args[0]` is the reason, one word."""


# What a run may end in; none of these is a fault of the generator.
FAILURES = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NameError, RecursionError),
    *(OutOfFuel, Oversize),
)


def text_of(value: Any) -> str:
    """Canonical text; scalars and lists of ints, nearly all values, skip the general writer, which writes the same."""
    kind = type(value)
    if kind is int or kind is bool:
        return repr(value)
    if kind is str and len(value) <= MAX_LEN:
        return ascii(value)
    if kind is list and len(value) <= MAX_LEN and all(type(item) is int for item in value):
        return repr(value)
    return canonical(value)


def small(value: Any) -> bool:
    """Whether a variable may hold the value: what it takes to keep the next statement from running away."""
    kind = type(value)
    if kind is int:
        return -MAX_INT < value < MAX_INT
    if kind is bool:
        return True
    if len(value) > MAX_LEN:
        return False
    if kind is str:
        return True
    return all(map(small, value.values() if kind is dict else value))


Events = list[tuple[int, str]]  # (report, canonical value); report −1: a part of a return


class Tape:
    """What the instrumented program reports to."""

    def __init__(self, fuel: int):
        self.budget = fuel
        self.fuel = fuel
        self.tests = 0
        self.events: list[tuple[int, str]] | None = None  # (report, value), or None while not recorded
        self.truth: dict[int, int] = {}  # condition → 1 seen true | 2 seen false

    def change(self, report: int, value: Any) -> None:
        """`T`: a variable has a new value."""
        self.fuel -= 1
        if self.fuel < 0 or not small(value):
            raise OutOfFuel
        if self.events is not None:
            self.events.append((report, text_of(value)))

    def part(self, value: Any) -> Any:
        """`E`: a sub-expression of a return."""
        if self.events is not None:
            self.events.append((-1, text_of(value)))
        return value

    def test(self, report: int, value: Any) -> Any:
        """`C`: a condition."""
        self.tests += 1
        self.fuel -= 1
        if self.fuel < 0:
            raise OutOfFuel
        self.truth[report] = self.truth.get(report, 0) | (1 if value else 2)
        return value


@dataclasses.dataclass(slots=True)
class Report:
    """Where a report stands."""

    stmt: Stmt
    name: str
    first: bool  # of its statement: loop variables set together are one event


class Instrumented:
    """A candidate compiled with its reports."""

    def __init__(self, made: Candidate, fuel: int):
        self.made = made
        self.reports: list[Report] = []
        self.stmts: list[Stmt] = []  # by switch
        self.tape = Tape(fuel)
        lines = [*(helper.traced for helper in made.helpers), f"def f({', '.join(arg.name for arg in made.args)}):"]
        self._block(made.body, 1, lines)
        tape = self.tape
        self.switches = [True] * len(self.stmts)
        space: dict[str, Any] = {
            "__builtins__": BUILTINS, "T": tape.change, "E": tape.part, "C": tape.test, "S": self.switches,
        }  # fmt: skip
        exec(compile("\n".join(lines), "<candidate>", "exec"), space)
        self.function: Callable[..., Any] = space["f"]

    def _block(self, body: list[Stmt], depth: int, lines: list[str]) -> None:
        for item in body:
            switch = len(self.stmts)
            self.stmts.append(item)
            pad = INDENT * depth
            if item.kind == "return":
                lines.append(f"{pad}if S[{switch}]: {item.traced}" if depth > 1 else pad + item.traced)
                continue
            if item.kind == "plain":
                lines.append(f"{pad}if S[{switch}]: {'; '.join([item.text, *self._told(item)])}")
                continue
            lines.append(f"{pad}if S[{switch}]:")
            self._compound(item, depth + 1, lines, switch)

    def _compound(self, item: Stmt, depth: int, lines: list[str], switch: int) -> None:
        pad = INDENT * depth
        if item.kind == "for":
            lines.append(pad + item.text)
            lines.append(f"{pad}{INDENT}{'; '.join(self._told(item))}")
        else:
            lines.append(f"{pad}{item.kind} C({switch}, {item.traced}):")
        self._block(item.body, depth + 1, lines)
        if item.orelse:
            lines.append(f"{pad}else:")
            self._block(item.orelse, depth + 1, lines)

    def _told(self, item: Stmt) -> list[str]:
        calls = []
        for name in item.names:
            calls.append(f"T({len(self.reports)}, {name})")
            self.reports.append(Report(item, name, name == item.names[0]))
        return calls

    def call(self, values: tuple[Any, ...]) -> Any:
        """Result on fresh copies of the argument values; whatever the program raises."""
        self.tape.fuel, self.tape.tests = self.tape.budget, 0
        return self.function(*[fresh(value) for value in values])

    def output(self, values: tuple[Any, ...]) -> str | None:
        """Canonical result, or None where the program fails."""
        try:
            return text_of(self.call(values))
        except FAILURES:
            return None

    def changes(self) -> int:
        """Variables set in the last run; a loop over pairs sets two at once, so this is no less than its events."""
        return self.tape.budget - self.tape.fuel - self.tape.tests

    def record(self, values: tuple[Any, ...]) -> Events:
        """The events of one run: (report, canonical value), report −1 for a part of a return."""
        self.tape.events = []
        self.call(values)
        events, self.tape.events = self.tape.events, None
        return events


def minimise(program: Instrumented, inputs: list[tuple[Any, ...]], outputs: list[str]) -> bool:
    """Switch off every statement whose absence changes no output; True if any was.

    Raises `Rejected` ("level") if that would leave a block empty.
    One pass from the last statement to the first, repeated while it still deletes, so chains of dead statements go too.
    """
    deleted = again = False
    while True:
        for switch in reversed(range(len(program.stmts) - 1)):  # the last is the function's own return
            if not program.switches[switch]:
                continue
            program.switches[switch] = False
            if all(program.output(values) == gold for values, gold in zip(inputs, outputs, strict=True)):
                again = deleted = True
            else:
                program.switches[switch] = True
        if not again:
            break
        again = False
    if deleted:
        alive = {id(item) for item, on in zip(program.stmts, program.switches, strict=True) if on}
        program.made.body = _prune(program.made.body, alive)
    return deleted


def _prune(body: list[Stmt], alive: set[int]) -> list[Stmt]:
    kept = []
    for item in body:
        if id(item) not in alive:
            continue
        if item.body:
            item.body = _prune(item.body, alive)
            item.orelse = _prune(item.orelse, alive)
            if not item.body:
                raise Rejected("level")
        kept.append(item)
    return kept


def source(made: Candidate) -> tuple[str, dict[int, int]]:
    """The program's text, names still written _1, _2 …, and the line of each statement (by id), counted from 0."""
    lines = [row for helper in made.helpers for row in (*helper.text.split("\n"), "")]
    lines.append(f"def f({', '.join(arg.name for arg in made.args)}):")
    places: dict[int, int] = {}

    def write(body: list[Stmt], depth: int) -> None:
        for item in body:
            places[id(item)] = len(lines)
            lines.append(INDENT * depth + item.text)
            if item.body:
                write(item.body, depth + 1)
            if item.orelse:
                lines.append(INDENT * depth + "else:")
                write(item.orelse, depth + 1)

    write(made.body, 1)
    return "\n".join(lines), places


def trace_text(program: Instrumented, events: Events, places: dict[int, int], names: dict[str, str]) -> str:
    """`line:var=value` items and the values of the return's parts, joined by `;`."""
    items = []
    for report, value in events:
        if report < 0:
            items.append(value)
        else:
            told = program.reports[report]
            items.append(f"{places[id(told.stmt)]}:{names[told.name]}={value}")
    return ";".join(items)
