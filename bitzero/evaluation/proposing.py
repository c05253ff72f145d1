"""How good a model is as a proposer: which of its proposals pass every gate, are new, and are worth solving."""

import collections
import random
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from bitzero.evaluation import questions
from bitzero.evaluation.questions import Solver
from bitzero.generator.programs import Program
from bitzero.sandbox import Sandbox
from bitzero.selfplay import buffer
from bitzero.state import TrainState
from bitzero.tasks import judge, tokens
from bitzero.tasks.judge import GATES, Proposal, Verdict
from bitzero.tasks.kinds import Kinds, names_of

PROPOSALS = 192  # asked for, kinds evenly


def measure_proposer(
    state: TrainState,
    solver: Solver,
    references: Sequence[Program],
    sandbox: Sandbox,
    guarded: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """Shares, counts by gate and kind, and a histogram of levels, of proposals sampled as self-play samples them.

    ``valid`` counts all proposals. Shares of the valid ones, None where there is none: ``novel`` (behaviour unseen in
    history and distinct here), ``distinct`` and ``level_as_asked`` of those that wrote their program, ``learnable``
    (0 < r̄ < 1 over a group of solver rollouts) of all.
    """
    asked, prompts = draw_prompts(references, int(state.open_levels), PROPOSALS, solver)
    verdicts = judge.validate(sandbox, sample_proposals(solver, asked, prompts), solver.cfg, solver.kinds, guarded)
    accepted = [verdict for verdict in verdicts if verdict.task is not None]
    wrote = [verdict for verdict in accepted if verdict.task and solver.kinds[verdict.task.kind].writes_program]
    gates = collections.Counter(GATES[verdict.gate] for verdict in verdicts)
    return {
        "n": len(verdicts),
        "valid": round(len(accepted) / max(len(verdicts), 1), 4),
        "novel": _share(_is_novel(state, wrote)),
        "distinct": round(len({v.program_hash for v in wrote}) / len(wrote), 4) if wrote else None,
        "level_as_asked": _share(_has_level_asked(prompts, verdicts, solver.kinds)),
        "learnable": _share(_is_learnable(solver, accepted, sandbox)),
        "gates": dict(sorted(gates.items(), key=lambda item: GATES.index(item[0]))),
        "kinds": {
            name: round(float(np.mean([v.task is not None for v, k in zip(verdicts, asked, strict=True) if k == i])), 4)
            for i, name in enumerate(names_of(solver.kinds))
        },
        "levels": {str(k): n for k, n in sorted(collections.Counter(v.level for v in accepted).items())},
    }


def draw_prompts(
    references: Sequence[Program], open_levels: int, n: int, solver: Solver
) -> tuple[list[int], list[list[int]]]:
    """Kinds and proposer prompts: kinds evenly, levels uniform over the open ones, half with a program of it."""
    rng = random.Random(0)
    asked: list[int] = []
    prompts: list[list[int]] = []
    while len(prompts) < n:
        kind = solver.kinds[len(prompts) % len(solver.kinds)]
        level = rng.randrange(open_levels)
        shown: Program | None = None
        if not kind.writes_program or rng.random() < 0.5:
            shown = rng.choice([program for program in references if program.level == level] or references)
        prompt = kind.proposer_prompt(shown.level if shown else level, shown.code if shown else None)
        if len(prompt) <= solver.cfg.tasks.prompt:
            asked.append(kind.number)
            prompts.append(prompt)
    return asked, prompts


def sample_proposals(solver: Solver, asked: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[Proposal]:
    """One sampled proposal for each prompt."""
    cfg = solver.cfg
    drawn = questions.complete_prompts(
        solver, prompts, max_new=cfg.tasks.completion, temperature=cfg.selfplay.temperature, seed=2
    )
    proposals = []
    for kind, prompt, ids in zip(asked, prompts, drawn, strict=True):
        code, inputs = solver.kinds[kind].parse_proposal(prompt, ids) or (None, ())
        proposals.append(Proposal(kind=kind, code=code, inputs=inputs))
    return proposals


def _is_novel(state: TrainState, accepted: Sequence[Verdict]) -> Bool[np.ndarray, " n"]:
    if not accepted:
        return np.zeros(0, bool)
    hashes = [verdict.program_hash for verdict in accepted]
    seen = np.asarray(buffer.contains(state.history, jnp.asarray(buffer.hash_words(hashes))))
    first = [value not in hashes[:i] for i, value in enumerate(hashes)]
    return ~seen & np.array(first)


def _has_level_asked(
    prompts: Sequence[Sequence[int]], verdicts: Sequence[Verdict], kinds: Kinds
) -> Bool[np.ndarray, " n"]:
    """Of each accepted proposal that wrote its program: whether its level is the one in its prompt."""
    asked = [tokens.LEVELS.index(prompt[2]) for prompt in prompts]  # <propose><kind><Lk> …
    kept = [
        verdict.level == level
        for verdict, level in zip(verdicts, asked, strict=True)
        if verdict.task is not None and kinds[verdict.task.kind].writes_program
    ]
    return np.array(kept, bool)


def _is_learnable(solver: Solver, accepted: Sequence[Verdict], sandbox: Sandbox) -> Bool[np.ndarray, " n"]:
    tasks = [verdict.task for verdict in accepted if verdict.task is not None]
    if not tasks:
        return np.zeros(0, bool)
    play = solver.cfg.selfplay
    answers = questions.ask(solver, tasks, samples=play.group_size, temperature=play.answer_temperature, seed=3)
    rate = questions.correct_answers(sandbox, tasks, answers, solver.kinds).mean(axis=1)
    return (rate > 0) & (rate < 1)


def _share(rows: Bool[np.ndarray, " n"]) -> float | None:
    return round(float(rows.mean()), 4) if rows.size else None
