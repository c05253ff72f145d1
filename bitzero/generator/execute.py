"""Running a candidate: labels, traces, the deletion of dead statements.

A candidate is compiled once, with calls to a `Recorder` woven in: `T` after a statement that changes a variable, `E`
around the proper sub-expressions of a return, `C` around a condition. A switch `S[k]` stands before each statement, so
that a deletion is tried without compiling again. Each `T` and `C` costs a unit of fuel; a run ends when it has none
left, or when a variable's value outgrows its bound. The printed program is the same text without these calls. Only
productions of `grammar.py` ever get here; model-written text never does.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from bitzero.generator.statements import Candidate, Statement
from bitzero.generator.templates import BUILTINS, copy_value
from bitzero.sandbox.values import Oversize, canonical
from bitzero.tasks import traces

FUEL = 128  # of one run: three times the events of the last level, so that an endless `while` ends soon
MAX_INT = 10**5  # of a variable; repetitions and ranges take variables only, so no expression allocates more than MBs
MAX_LEN = 64  # of a variable's text or container
TRUE, FALSE, BOTH = 1, 2, 3  # values a condition was seen to have
INDENT = "    "


class OutOfFuel(Exception):
    """More events than the program may have, or a value out of bounds."""


Reason = Literal["split", "failed", "constant", "trivial", "level"]


class Rejected(Exception):
    """The candidate is not kept. What each reason means stands at the field of `programs.Counts` it is counted in."""

    def __init__(self, reason: Reason):
        super().__init__(reason)
        self.reason = reason


# What a run may end in; none of these is a fault of the generator.
FAILURES = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NameError, RecursionError),
    *(OutOfFuel, Oversize),
)

_INTS = {int}


def canonical_text(value: Any) -> str:
    """`sandbox.values.canonical`, with a short cut for scalars and lists of ints, which nearly all values are."""
    value_type = type(value)
    if value_type is int or value_type is bool:
        return repr(value)
    if value_type is str and len(value) <= MAX_LEN:
        return ascii(value)
    if value_type is list and len(value) <= MAX_LEN and set(map(type, value)) <= _INTS:
        return repr(value)
    return canonical(value)


def is_small(value: Any) -> bool:
    """Whether a variable may hold the value; larger ones could make the next statement allocate without bound."""
    value_type = type(value)
    if value_type is int:
        return -MAX_INT < value < MAX_INT
    if value_type is bool:
        return True
    if len(value) > MAX_LEN:
        return False
    if value_type is str:
        return True
    return all(map(is_small, value.values() if value_type is dict else value))


Events = list[tuple[int, str]]  # (index of the report point, canonical value); index −1: a part of a return


class Recorder:
    """What the woven-in calls of a program report to; one for all of its runs."""

    def __init__(self, fuel: int):
        self.budget = fuel  # at the start of each run
        self.fuel = fuel  # left in the present run
        self.conditions_met = 0  # in the present run
        self.events: Events | None = None  # of the present run; None: not to be recorded
        self.truths_seen: dict[int, int] = {}  # switch of a condition → TRUE, FALSE or BOTH, over all runs

    def on_change(self, report: int, value: Any) -> None:
        """`T`: a variable has a new value."""
        self.fuel -= 1
        if self.fuel < 0 or not is_small(value):
            raise OutOfFuel
        if self.events is not None:
            self.events.append((report, canonical_text(value)))

    def on_part(self, value: Any) -> Any:
        """`E`: a sub-expression of a return has a value, which is handed back."""
        if self.events is not None:
            self.events.append((-1, canonical_text(value)))
        return value

    def on_condition(self, switch: int, value: Any) -> Any:
        """`C`: the condition of the statement at a switch has a value, which is handed back."""
        self.conditions_met += 1
        self.fuel -= 1
        if self.fuel < 0:
            raise OutOfFuel
        self.truths_seen[switch] = self.truths_seen.get(switch, 0) | (TRUE if value else FALSE)
        return value


@dataclasses.dataclass(slots=True)
class ReportPoint:
    """A place where a variable has a new value."""

    statement: Statement
    name: str  # of the variable
    first: bool  # of its statement; the others are loop variables set at the same time, no events of their own


class InstrumentedProgram:
    """A candidate compiled with its reports. Fuel is that of one run."""

    def __init__(self, candidate: Candidate, fuel: int):
        self.candidate = candidate
        self.reports: list[ReportPoint] = []
        self.statements: list[Statement] = []  # by switch
        self.recorder = Recorder(fuel)
        lines = [
            *(helper.traced for helper in candidate.helpers),
            f"def f({', '.join(arg.name for arg in candidate.args)}):",
        ]
        self._emit_block(candidate.body, 1, lines)
        recorder = self.recorder
        self.switches = [True] * len(self.statements)
        space: dict[str, Any] = {
            "__builtins__": BUILTINS,
            "T": recorder.on_change,
            "E": recorder.on_part,
            "C": recorder.on_condition,
            "S": self.switches,
        }
        exec(compile("\n".join(lines), "<candidate>", "exec"), space)
        self.function: Callable[..., Any] = space["f"]

    def _emit_block(self, body: list[Statement], depth: int, lines: list[str]) -> None:
        for item in body:
            switch = len(self.statements)
            self.statements.append(item)
            pad = INDENT * depth
            if item.form == "return":
                lines.append(f"{pad}if S[{switch}]: {item.traced}" if depth > 1 else pad + item.traced)
                continue
            if item.form == "plain":
                lines.append(f"{pad}if S[{switch}]: {'; '.join([item.text, *self._report_calls(item)])}")
                continue
            lines.append(f"{pad}if S[{switch}]:")
            self._emit_compound(item, depth + 1, lines, switch)

    def _emit_compound(self, item: Statement, depth: int, lines: list[str], switch: int) -> None:
        pad = INDENT * depth
        if item.form == "for":
            lines.append(pad + item.text)
            lines.append(f"{pad}{INDENT}{'; '.join(self._report_calls(item))}")
        else:
            lines.append(f"{pad}{item.form} C({switch}, {item.traced}):")
        self._emit_block(item.body, depth + 1, lines)
        if item.orelse:
            lines.append(f"{pad}else:")
            self._emit_block(item.orelse, depth + 1, lines)

    def _report_calls(self, item: Statement) -> list[str]:
        calls = []
        for name in item.changed:
            calls.append(f"T({len(self.reports)}, {name})")
            self.reports.append(ReportPoint(item, name, name == item.changed[0]))
        return calls

    def run(self, values: tuple[Any, ...]) -> Any:
        """Result on copies of the argument values. Raises one of `FAILURES`."""
        self.recorder.fuel, self.recorder.conditions_met = self.recorder.budget, 0
        return self.function(*[copy_value(value) for value in values])

    def output(self, values: tuple[Any, ...]) -> str | None:
        """Canonical result, or None where the program fails."""
        try:
            return canonical_text(self.run(values))
        except FAILURES:
            return None

    def num_changes(self) -> int:
        """Variables set in the last run: at least its events, as a loop over pairs sets two variables in one event."""
        return self.recorder.budget - self.recorder.fuel - self.recorder.conditions_met

    def record_events(self, values: tuple[Any, ...]) -> Events:
        """The events of one run. Raises one of `FAILURES`."""
        self.recorder.events = []
        self.run(values)
        events, self.recorder.events = self.recorder.events, None
        return events


def minimise(program: InstrumentedProgram, inputs: list[tuple[Any, ...]], outputs: list[str]) -> bool:
    """Deletes every statement whose absence changes no output; True if there was any.

    Raises `Rejected` ("level") if that would leave a block empty.
    """
    deleted = again = False
    # From the last statement to the first, repeated while it still deletes, so that chains of dead statements go too.
    while True:
        for switch in reversed(range(len(program.statements) - 1)):  # the last is the function's own return
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
        alive = {id(item) for item, on in zip(program.statements, program.switches, strict=True) if on}
        program.candidate.body = _prune(program.candidate.body, alive)
    return deleted


def _prune(body: list[Statement], alive: set[int]) -> list[Statement]:
    """The statements of a body whose id is alive, blocks pruned likewise."""
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


def source_of(candidate: Candidate) -> tuple[str, dict[int, int]]:
    """The program's text, names still written _1, _2 …, and the line of each statement (`id` → from 0)."""
    lines = [row for helper in candidate.helpers for row in (*helper.text.split("\n"), "")]
    lines.append(f"def f({', '.join(arg.name for arg in candidate.args)}):")
    line_of: dict[int, int] = {}

    def write_block(body: list[Statement], depth: int) -> None:
        for item in body:
            line_of[id(item)] = len(lines)
            lines.append(INDENT * depth + item.text)
            if item.body:
                write_block(item.body, depth + 1)
            if item.orelse:
                lines.append(INDENT * depth + "else:")
                write_block(item.orelse, depth + 1)

    write_block(candidate.body, 1)
    return "\n".join(lines), line_of


def trace_text(program: InstrumentedProgram, events: Events, line_of: dict[int, int], names: dict[str, str]) -> str:
    """The trace of one run: its changes of variables and the values of the return's parts, in their order."""
    items = []
    for report, value in events:
        if report < 0:
            items.append(value)
        else:
            point = program.reports[report]
            items.append(traces.change(line_of[id(point.statement)], names[point.name], value))
    return traces.join(items)
