"""What Python says: values, traces and verdicts, every program and every answer run in the sandbox alone."""

from collections.abc import Sequence

from bitzero.chat import programs
from bitzero.sandbox import Job, Limits, Outcome, Sandbox, literal_job
from bitzero.tasks import traces
from bitzero.tasks.kinds.task import split_args
from bitzero.tasks.running import run_surely

LIMITS = Limits(value_bytes=8192)
PERSON, MODEL = 0, 1  # owners: a person's programs and the model's never share a process


def value_of(sandbox: Sandbox, code: str, args: str) -> Outcome:
    """What the person's program gives for an argument list, under several hash seeds where an order may matter."""
    [[outcome]] = run_surely(sandbox, [Job(id=0, code=code, inputs=(args,), owner=PERSON)])
    return outcome


def trace_of(sandbox: Sandbox, code: str, args: str) -> list[str] | None:
    """The items of Python's own trace (``tasks.traces``); None where it cannot be told."""
    return traces_of(sandbox, code, [args])[0]


def traces_of(sandbox: Sandbox, code: str, inputs: Sequence[str]) -> list[list[str] | None]:
    """``trace_of`` for each of several argument lists."""
    [outcomes] = sandbox.run([Job(id=0, code=programs.traced(code), inputs=tuple(inputs), owner=PERSON)])
    return [_items(outcome) for outcome in outcomes]


def _items(outcome: Outcome) -> list[str] | None:
    """The items that a woven program reported."""
    if outcome.kind != "ok" or not outcome.value:
        return None
    items = []
    for event in split_args(outcome.value[1:-1]) or ():
        try:
            line, name, value = split_args(event[1:-1]) or ()
            items.append(traces.change(int(line), name.strip("'"), value) if name != "''" else value)
        except ValueError:  # no report: the program gave something else
            return None
    return items


def canonical_values(sandbox: Sandbox, texts: Sequence[str]) -> list[str | None]:
    """The canonical text of each literal; None for what is none."""
    [outcomes] = sandbox.run([literal_job(0, tuple(texts))]) if texts else [[]]
    return [outcome.value if outcome.kind == "ok" else None for outcome in outcomes]


def reaches(sandbox: Sandbox, code: str, answers: Sequence[str], value: str) -> list[Outcome | None]:
    """For each argument list the run of ``code`` that gave ``value``; None where it gave anything else."""
    [outcomes] = run_surely(sandbox, [Job(id=0, code=code, inputs=tuple(answers), owner=MODEL)]) if answers else [[]]
    return [outcome if outcome.kind == "ok" and outcome.value == value else None for outcome in outcomes]


def pairs_met(
    sandbox: Sandbox, codes: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]
) -> list[tuple[int, float]]:
    """For each program the number of pairs that it has, and how sure its runs are of that."""
    jobs = [Job(id=i, code=code, inputs=tuple(inputs), owner=MODEL) for i, code in enumerate(codes)]
    found = []
    for outcomes in run_surely(sandbox, jobs):
        met = sum(run.kind == "ok" and run.value == value for run, value in zip(outcomes, outputs, strict=True))
        found.append((met, min((run.confidence for run in outcomes), default=1.0)))
    return found


def matches(sandbox: Sandbox, answer: str, value: str) -> bool:
    """Whether a typed value is that canonical value."""
    [found] = canonical_values(sandbox, [answer])
    return found == value


def explained(outcome: Outcome) -> str:
    """An outcome in a few words, as they stand after "Python: "."""
    match outcome.kind:
        case "ok":
            return str(outcome.value)
        case "exception":
            return f"raises {outcome.exc}" if outcome.exc != "Crash" else "crashes the interpreter"
        case "timeout":
            return "does not end" if outcome.detail == "fuel" else "takes too long"
        case "memory":
            return "takes too much memory"
        case "forbidden":
            return f"is refused by the sandbox ({outcome.detail})"
        case "nondeterministic":
            return "gives another value from run to run"
        case "oversize":
            return "gives a value that is too long to show"
    return "could not be run just now; ask again"


def right_steps(items: Sequence[str], python: Sequence[str] | None) -> list[tuple[bool | None, str | None]]:
    """For each item of a model's trace whether Python's has it at this place, and what Python has there instead.

    The model may leave parts of a return untold, never a change of a variable. After the first wrong item nothing is
    judged (None): what follows from a wrong value may be right by chance.
    """
    if python is None:
        return [(None, None)] * len(items)
    found: list[tuple[bool | None, str | None]] = []
    at = 0
    for item in items:
        if found and found[-1][0] is not True:
            found.append((None, None))
            continue
        here = at
        while here < len(python) and python[here] != item and traces.line_of(python[here]) is None:
            here += 1
        if here < len(python) and python[here] == item:
            found.append((True, None))
            at = here + 1
        else:
            found.append((False, python[at] if at < len(python) else None))
    return found
