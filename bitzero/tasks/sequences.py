"""Training examples: a generated program as the solver's or the proposer's, as ids and the mask of what is learned."""

import random

from bitzero.config import Config
from bitzero.tasks.kinds import PROPOSE, TASK_KINDS, Kinds, LabelledProgram, TooLong


def training_example(
    form: int,
    program: LabelledProgram,
    rng: random.Random,
    cfg: Config,
    *,
    reference: str | None = None,
    kinds: Kinds = TASK_KINDS,
) -> tuple[list[int], list[bool]]:
    """Ids and target mask (True: the loss counts this id) of a packed example, at most `cfg.tasks.context` ids.

    `form` is a kind's number (the solver's role) or PROPOSE, which draws one of the kinds evenly among those whose
    example fits a completion and is not trivial by its text; `reference` is the code of another program, shown to half
    of the proposals that may have one. Raises TooLong, also where a program makes no such proposal.
    """
    if form == PROPOSE:
        return _proposer_example(program, rng, cfg, reference, kinds)
    order = list(range(len(program.inputs)))
    rng.shuffle(order)
    return kinds[form].solver_example(program, order, rng, cfg)


def _proposer_example(
    program: LabelledProgram, rng: random.Random, cfg: Config, reference: str | None, kinds: Kinds
) -> tuple[list[int], list[bool]]:
    if len(set(program.outputs)) < 2:
        raise TooLong("a constant program makes only trivial tasks")
    if rng.random() < 0.5:
        reference = None
    order = list(range(len(program.inputs)))
    rng.shuffle(order)
    for kind in rng.sample(kinds, len(kinds)):
        try:
            return kind.proposer_example(program, order, reference, cfg)
        except TooLong:
            continue
    raise TooLong(f"no proposal that passes the gates fits {cfg.tasks.completion} tokens")
