"""Deduction, abduction, induction: what the proposer and the solver see and emit, as token sequences.

Text that a model wrote is only cut at tags, brackets and quotes here; it is never evaluated or parsed as Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bitzero.config import Config
from bitzero.tasks import tokens
from bitzero.tasks.tokens import ANS, DIRECT, EOS, IN, KIND_TAGS, LEVELS, OUT, PAD, PROG, TRACE, decode, encode

DEDUCTION, ABDUCTION, INDUCTION, PROPOSE = 0, 1, 2, 3
KINDS = ("deduction", "abduction", "induction")
MIN_HIDDEN = 2  # hidden pairs of an induction task; one could be guessed


class TooLong(ValueError):
    """A sequence that does not fit the lengths of ``config.tasks``."""


class BadRecord(ValueError):
    """Ids that are not a task's record."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question with its gold. Texts are canonical; outputs come from the executor alone."""

    kind: int  # DEDUCTION | ABDUCTION | INDUCTION
    level: int  # 0 … 5, measured
    code: str  # source with a top-level f
    inputs: tuple[str, ...]  # argument lists: "[1, 2], 3"
    outputs: tuple[str, ...]  # value of each
    shown: int  # leading pairs an induction prompt shows, the rest is hidden; else 1


@runtime_checkable
class Example(Protocol):
    """What a training sequence needs of a generated program (``programs.Program``)."""

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


# ---- prompts ----


def solve_prompt(task: Task, trace: bool) -> list[int]:
    """Ids the solver reads; `trace` asks a deduction for its trace before the answer."""
    head = [tokens.SOLVE, KIND_TAGS[task.kind]]
    if task.kind == DEDUCTION:
        return [*head, *encode(task.code), IN, *encode(task.inputs[0]), OUT, TRACE if trace else DIRECT]
    if task.kind == ABDUCTION:
        return [*head, *encode(task.code), OUT, *encode(task.outputs[0]), IN]
    for given, value in zip(task.inputs[: task.shown], task.outputs[: task.shown], strict=True):
        head += [IN, *encode(given), OUT, *encode(value)]
    return [*head, PROG]


def propose_prompt(kind: int, level: int, reference: str | None) -> list[int]:
    """Ids the proposer reads; for induction `reference` is the program to find inputs for (ValueError if None)."""
    head = [tokens.PROPOSE, KIND_TAGS[kind], LEVELS[level]]
    if reference is not None:
        head += [PROG, *encode(reference)]
    elif kind == INDUCTION:
        raise ValueError("an induction proposal needs the program it is about")
    return [*head, IN if kind == INDUCTION else PROG]


# ---- what a model emitted ----


def finished(completion: Sequence[int]) -> list[int] | None:
    """The ids before EOS; None if the completion was cut off, or holds ids that no answer has."""
    ids = [int(token) for token in completion]
    if EOS not in ids:
        return None
    ids = ids[: ids.index(EOS)]
    allowed = (IN, ANS)
    return None if any(token <= PROG and token not in allowed for token in ids) else ids


def answer_of(kind: int, completion: Sequence[int]) -> str | None:
    """The answer's text (a value, an argument list or a program); None if the form is wrong."""
    ids = finished(completion)
    if ids is None or IN in ids or ids.count(ANS) > (kind == DEDUCTION):
        return None
    if ANS in ids:
        ids = ids[ids.index(ANS) + 1 :]
    return decode(ids) if ids else None


def proposal_of(kind: int, prompt: Sequence[int], completion: Sequence[int]) -> tuple[str, tuple[str, ...]] | None:
    """Code and argument lists of a proposal; None if the form is wrong.

    An induction proposal holds only argument lists; its program stands in the prompt between `<prog>` and `<in>`.
    """
    ids = finished(completion)
    if ids is None or ANS in ids:
        return None
    parts = _split(ids, IN)
    if kind == INDUCTION:
        asked = [int(token) for token in prompt if token != PAD]
        if PROG not in asked or asked[-1] != IN:
            return None
        code = asked[asked.index(PROG) + 1 : -1]
    else:
        code, parts = parts[0], parts[1:]
        if len(parts) != 1:
            return None
    if not code:
        return None
    return decode(code), tuple(decode(part) for part in parts)


def _split(ids: Sequence[int], tag: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == tag:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def split_args(text: str) -> tuple[str, ...] | None:
    """Cuts an argument list at its top-level commas by brackets and quotes alone; None if they do not match."""
    pieces, start, depth, quote, skip = [], 0, 0, "", False
    for at, char in enumerate(text):
        if quote:
            if skip:
                skip = False
            elif char == "\\":
                skip = True
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif char == "," and not depth:
            pieces.append(text[start:at].strip())
            start = at + 1
    if quote or depth:
        return None
    last = text[start:].strip()
    return (*pieces, last) if last or pieces else ()


def task_from_program(program: Example, kind: int, cfg: Config) -> Task:
    """The task of one kind that a program makes: of its first pair, or of all of them for induction."""
    if kind == INDUCTION:
        return induction_task(program, range(len(program.inputs)), cfg)
    return Task(
        kind=kind,
        level=program.level,
        code=program.code,
        inputs=program.inputs[:1],
        outputs=program.outputs[:1],
        shown=1,
    )


def induction_task(program: Example, order: Sequence[int], cfg: Config) -> Task:
    """The induction task that shows the first `cfg.tasks.shown` pairs of `order`."""
    return Task(
        kind=INDUCTION,
        level=program.level,
        code=program.code,
        inputs=tuple(program.inputs[i] for i in order),
        outputs=tuple(program.outputs[i] for i in order),
        shown=cfg.tasks.shown,
    )


# ---- records: a task as ids, kept in the device's ring ----


def record(task: Task) -> list[int]:
    """`<kind><level> CODE (<in> ARGS <out> VALUE)*`; a hidden pair has `<ans>` in the place of `<out>`."""
    ids = [KIND_TAGS[task.kind], LEVELS[task.level], *encode(task.code)]
    for i, (given, value) in enumerate(zip(task.inputs, task.outputs, strict=True)):
        ids += [IN, *encode(given), OUT if i < task.shown else ANS, *encode(value)]
    return ids


def task_of(ids: Sequence[int]) -> Task:
    """The task of a record, PAD after it allowed. Raises BadRecord for anything else."""
    head, *pairs = _split([int(token) for token in ids if token != PAD], IN)
    if len(head) < 3 or head[0] not in KIND_TAGS or head[1] not in LEVELS or not pairs:
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
        kind=KIND_TAGS.index(head[0]),
        level=LEVELS.index(head[1]),
        code=decode(head[2:]),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        shown=shown,
    )
