"""A task and its text: one question with its gold, its record as ids, and how completions are cut at their tags.

Text that a model wrote is only cut at tags, brackets and quotes here; it is never evaluated or parsed as Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bitzero.tasks.cutting import cut_outside
from bitzero.tasks.tokens import ANS, EOS, IN, LEVELS, OUT, PAD, PROG, decode, encode

MIN_HIDDEN = 2  # hidden pairs of an induction task; one could be guessed
PROPOSE = -2  # the form of a training example in which the model proposes; never a kind's number


class TooLong(ValueError):
    """A sequence that does not fit the lengths of ``config.tasks``."""


class BadRecord(ValueError):
    """Ids that are not a task's record."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question with its gold. Texts are canonical; outputs come from running the code alone."""

    kind: int  # number of its kind
    level: int  # 0 … 5, measured
    code: str  # source with a top-level f
    inputs: tuple[str, ...]  # argument lists: "[1, 2], 3"
    outputs: tuple[str, ...]  # value of each
    shown: int  # leading pairs an induction prompt shows, the rest is hidden; else 1

    @property
    def hidden_outputs(self) -> tuple[str, ...]:
        """Values of the pairs that the prompt does not show."""
        return self.outputs[self.shown :]


@runtime_checkable
class LabelledProgram(Protocol):
    """What tasks and training examples need of a generated program (``generator.programs.Program``)."""

    @property
    def code(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def traces(self) -> tuple[str, ...]: ...
    @property
    def level(self) -> int: ...


def coverage_of(passed: int, hidden: int) -> float:
    """Laplace's estimate of the share of all pairs that a program meets, which met so many of the ``hidden`` ones."""
    return (passed + 1) / (hidden + 2)


# ---- what a model emitted ----


def before_end(completion: Sequence[int]) -> list[int] | None:
    """The ids before EOS; None if the completion was cut off, or holds ids that no answer has."""
    ids = [int(token) for token in completion]
    if EOS not in ids:
        return None
    ids = ids[: ids.index(EOS)]
    allowed = (IN, ANS)
    return None if any(token <= PROG and token not in allowed for token in ids) else ids


def split_at(ids: Sequence[int], tag: int) -> list[list[int]]:
    """The runs of ids between the ``tag``s: one more than there are tags."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == tag:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def split_args(text: str) -> tuple[str, ...] | None:
    """Cuts an argument list at its top-level commas by brackets and quotes alone; None if they do not match."""
    pieces = cut_outside(text, ",")
    if pieces is None:
        return None
    args = tuple(piece.strip() for piece in pieces)
    return () if args == ("",) else args


# ---- records: a task as ids, kept in the device's ring ----


def write_record(task: Task, tag: int) -> list[int]:
    """`<kind><level> CODE (<in> ARGS <out> VALUE)*` with the kind's tag; a hidden pair has `<ans>` for `<out>`."""
    ids = [tag, LEVELS[task.level], *encode(task.code)]
    for i, (given, value) in enumerate(zip(task.inputs, task.outputs, strict=True)):
        ids += [IN, *encode(given), OUT if i < task.shown else ANS, *encode(value)]
    return ids


def read_record(ids: Sequence[int], tags: Sequence[int]) -> Task:
    """The task of a record, PAD after it allowed; a kind's number is the place of its tag. Raises BadRecord."""
    head, *pairs = split_at([int(token) for token in ids if token != PAD], IN)
    if len(head) < 3 or head[0] not in tags or head[1] not in LEVELS or not pairs:
        raise BadRecord(f"not a record: {decode(head)!r} with {len(pairs)} pairs")
    inputs, outputs, shown = [], [], 0
    for pair in pairs:
        tag = next((token for token in pair if token in (OUT, ANS)), None)
        if tag is None:
            raise BadRecord(f"a pair without an output: {decode(pair)!r}")
        cut = pair.index(tag)
        inputs.append(decode(pair[:cut]))
        outputs.append(decode(pair[cut + 1 :]))
        shown += tag == OUT
    return Task(
        kind=list(tags).index(head[0]),
        level=LEVELS.index(head[1]),
        code=decode(head[2:]),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        shown=shown,
    )
