"""Training examples: a generated program in a form of ``kinds.py``, as ids and the mask of what is learned."""

import random

from bitzero.config import Config
from bitzero.tasks import tokens
from bitzero.tasks.kinds import (
    ABDUCTION,
    DEDUCTION,
    INDUCTION,
    KINDS,
    MIN_HIDDEN,
    PROPOSE,
    Example,
    Task,
    TooLong,
    induction_task,
    propose_prompt,
    solve_prompt,
)
from bitzero.tasks.tokens import ANS, DIRECT, EOS, IN, KIND_TAGS, OUT, TRACE, encode
from bitzero.tasks.trivial import is_trivial


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
