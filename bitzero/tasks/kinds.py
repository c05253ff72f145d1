"""Deduction, abduction, induction: what the proposer and the solver see and emit, as token sequences.

Text that a model wrote is only cut at tags, brackets and quotes here; it is never evaluated or parsed as Python.
"""

import random
from collections.abc import Callable, Sequence
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


# ---- training sequences ----


def training_sequence(
    form: int, program: Example, rng: random.Random, cfg: Config, *, reference: str | None = None
) -> tuple[list[int], list[bool]]:
    """Ids and target mask (True: the loss counts this id) of a packed example, at most `cfg.tasks.context` ids.

    `form` is a kind (the solver's role) or PROPOSE, which draws one of the kinds evenly among those whose example
    fits a completion and is not trivial by its text; `reference` is the code of another program, shown to half of the
    proposals that may have one. Raises TooLong, also where a program makes no such proposal.
    """
    if form == PROPOSE:
        return _propose_sequence(program, rng, cfg, reference)
    order = list(range(len(program.inputs)))
    rng.shuffle(order)
    if form == INDUCTION:
        return _induction_sequence(program, order, cfg)
    head = [tokens.SOLVE, KIND_TAGS[form], *encode(program.code)]
    ids, mask = head, [False] * len(head)
    for i in order[: cfg.tasks.packed]:
        asked, answer = _abduction_pair(program, i) if form == ABDUCTION else _deduction_pair(program, i, rng, cfg)
        if len(answer) <= cfg.tasks.answer and len(ids) + len(asked) + len(answer) <= cfg.tasks.context:
            ids = ids + asked + answer
            mask = mask + [False] * len(asked) + [True] * len(answer)
    if len(ids) == len(head):
        raise TooLong(f"no pair of a {KINDS[form]} example fits {cfg.tasks.context} tokens")
    return ids, mask


def _deduction_pair(program: Example, i: int, rng: random.Random, cfg: Config) -> tuple[list[int], list[int]]:
    value = [*encode(program.outputs[i]), EOS]
    traced = rng.random() < cfg.warmup.trace
    if traced:
        answer = [*encode(program.traces[i]), ANS, *value]
        traced = len(answer) <= cfg.tasks.answer
    return [IN, *encode(program.inputs[i]), OUT, TRACE if traced else DIRECT], answer if traced else value


def _abduction_pair(program: Example, i: int) -> tuple[list[int], list[int]]:
    return [OUT, *encode(program.outputs[i]), IN], [*encode(program.inputs[i]), EOS]


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


def _induction_sequence(program: Example, order: list[int], cfg: Config) -> tuple[list[int], list[bool]]:
    asked = solve_prompt(induction_task(program, order, cfg), trace=False)
    return _joined(asked, [*encode(program.code), EOS], cfg.tasks.answer, cfg)


def _propose_sequence(
    program: Example, rng: random.Random, cfg: Config, reference: str | None
) -> tuple[list[int], list[bool]]:
    if len(set(program.outputs)) < 2:
        raise TooLong("a constant program makes only trivial tasks")
    if rng.random() < 0.5:
        reference = None
    order = list(range(len(program.inputs)))
    rng.shuffle(order)
    for kind in rng.sample((DEDUCTION, ABDUCTION, INDUCTION), 3):
        try:
            if kind == INDUCTION:
                return _propose_inputs(program, order, cfg)
            return _propose_program(kind, program, order, reference, cfg)
        except TooLong:
            continue
    raise TooLong(f"no proposal that passes the gates fits {cfg.tasks.completion} tokens")


def _propose_program(
    kind: int, program: Example, order: list[int], reference: str | None, cfg: Config
) -> tuple[list[int], list[bool]]:
    """The first input of `order` that no recorded trivial answer solves."""
    for i in order:
        pair = {"inputs": program.inputs[i : i + 1], "outputs": program.outputs[i : i + 1]}
        if not is_trivial(Task(kind=kind, level=program.level, code=program.code, shown=1, **pair)):
            break
    else:
        raise TooLong("every input makes a trivial task")
    answer = [*encode(program.code), IN, *encode(program.inputs[i]), EOS]
    asked = propose_prompt(kind, program.level, reference)
    if len(asked) > cfg.tasks.prompt or len(asked) + len(answer) > cfg.tasks.context:
        asked = propose_prompt(kind, program.level, None)
    return _joined(asked, answer, cfg.tasks.completion, cfg)


def _propose_inputs(program: Example, order: list[int], cfg: Config) -> tuple[list[int], list[bool]]:
    """All inputs if they fit a completion, else as many as an induction task needs; in an order that is no lookup."""
    asked = propose_prompt(INDUCTION, program.level, program.code)
    least = cfg.tasks.shown + MIN_HIDDEN
    while _length(program, order) > cfg.tasks.completion and len(order) > least:
        order = order[:-1]
    for turn in range(len(order)):
        turned = order[turn:] + order[:turn]
        if not is_trivial(induction_task(program, turned, cfg)):
            answer = [token for i in turned for token in (*encode(program.inputs[i]), IN)]
            return _joined(asked, [*answer[:-1], EOS], cfg.tasks.completion, cfg)
    raise TooLong("every order of the inputs makes a trivial task")


def _length(program: Example, order: list[int]) -> int:
    return sum(len(encode(program.inputs[i])) + 1 for i in order)


def _joined(asked: list[int], answer: list[int], limit: int, cfg: Config) -> tuple[list[int], list[bool]]:
    if len(answer) > limit or len(asked) + len(answer) > cfg.tasks.context:
        raise TooLong(f"{len(asked)} + {len(answer)} tokens do not fit {cfg.tasks.context} (answer {limit})")
    return asked + answer, [False] * len(asked) + [True] * len(answer)


# ---- trivial answers ----

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
