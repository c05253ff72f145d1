"""Answers that need no thought: what the table's trivial row gives, and what no task may be solved by."""

from collections.abc import Callable

from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, Task, split_args

CONSTANTS = ("''", "0", "1", "True", "False", "[]")
_MAX_RULED_ARGS = 3  # the generator's programs have one to three arguments


def trivial_rules(kind: int) -> tuple[str, ...]:
    """Names of the rules behind ``trivial_answers``, in its order."""
    places = range(_MAX_RULED_ARGS)
    if kind == DEDUCTION:
        return (*CONSTANTS, *(f"argument {k}" for k in places))
    if kind == ABDUCTION:
        return (
            *(f"all {text}" for text in CONSTANTS),
            *(f"output as argument {k}, others {fill}" for fill in ("''", "0") for k in places),
        )
    return (
        *(f"argument {k}" for k in places),
        *(f"{call}(argument {k})" for call in ("len", "sorted") for k in places),
        *("first output", "shown pairs"),
    )


def trivial_answers(task: Task) -> list[str]:
    """The answer of every rule of ``trivial_rules(task.kind)``, in that order; '' where a rule does not apply.

    A task with more than three arguments gets the further ones at the end.
    """
    args = split_args(task.inputs[0]) or ()
    first, further = range(_MAX_RULED_ARGS), range(_MAX_RULED_ARGS, len(args))
    if task.kind == DEDUCTION:
        return [*CONSTANTS, *(args[k] if k < len(args) else "" for k in first), *args[_MAX_RULED_ARGS:]]
    if task.kind == ABDUCTION:
        same = [", ".join([text] * len(args)) for text in CONSTANTS]
        return same + _placed(task.outputs[0], first, len(args)) + _placed(task.outputs[0], further, len(args))
    return [*_copies(first, len(args)), _constant(task, len(args)), _lookup(task), *_copies(further, len(args))]


def _placed(output: str, places: range, count: int) -> list[str]:
    """Argument lists with the output in one place and an empty value in the others."""
    return [
        ", ".join(output if i == k else fill for i in range(count)) if k < count else ""
        for fill in ("''", "0")
        for k in places
    ]


def _copies(places: range, count: int) -> list[str]:
    """Programs that return an argument, its length, or it sorted."""
    names = ", ".join(f"a{k}" for k in range(count))
    bodies = ("a{}", "len(a{})", "sorted(a{})")
    return [f"def f({names}):\n    return {body.format(k)}" if k < count else "" for body in bodies for k in places]


def _constant(task: Task, count: int) -> str:
    return f"def f({', '.join(f'a{k}' for k in range(count))}):\n    return {task.outputs[0]}"


def _lookup(task: Task) -> str:
    """A program that knows the shown pairs by heart and answers the last of them elsewhere."""
    pairs = list(zip(task.inputs, task.outputs, strict=True))[: task.shown]
    lines = [f"    if a == ({given},):\n        return {value}" for given, value in pairs[:-1]]
    return "\n".join(["def f(*a):", *lines, f"    return {pairs[-1][1]}"])


def is_trivial(task: Task, run: Callable[[str], str | None] | None = None) -> bool:
    """Whether a trivial answer solves the task, for capping generated ones.

    Deduction: a constant or an argument is the output. Abduction: a trivial argument list is among the recorded
    inputs with this output or, given `run` (argument list → canonical output, None on failure), leads to it.
    Induction: the hidden outputs are all equal, all among the shown ones, or copies of one argument.
    """
    if task.kind == DEDUCTION:
        return task.outputs[0] in trivial_answers(task)
    if task.kind == ABDUCTION:
        known = {given for given, value in zip(task.inputs, task.outputs, strict=True) if value == task.outputs[0]}
        answers = [answer for answer in trivial_answers(task) if answer]
        return any(a in known or (run is not None and run(a) == task.outputs[0]) for a in answers)
    hidden = task.outputs[task.shown :]
    if len(set(hidden)) < 2 or set(hidden) <= set(task.outputs[: task.shown]):
        return True
    columns = zip(*((split_args(given) or ()) for given in task.inputs[task.shown :]), strict=False)
    return any(tuple(column) == hidden for column in columns)
