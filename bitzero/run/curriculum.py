"""What held-out dev programs decide: which levels are open, and whether deduction is answered with a trace.

Decided only at steps that are a function of the configuration, from the state at that step: a resumed run decides the
same. Test programs decide nothing.
"""

import dataclasses

import jax.numpy as jnp

from bitzero.config import Config
from bitzero.evaluation import questions
from bitzero.evaluation.questions import Heldout
from bitzero.sandbox import Sandbox
from bitzero.state import TrainState
from bitzero.tasks.kinds import DEDUCTION
from bitzero.tasks.levels import NUM_LEVELS


def is_dev_step(step: int, cfg: Config) -> bool:
    """Whether dev accuracy is read before update number ``step``."""
    return step > 0 and step % cfg.tasks.unlock_every == 0


def dev_accuracy(solver: questions.Solver, level: int, heldout: Heldout, sandbox: Sandbox) -> float:
    """Share of the level's dev deductions answered right, decoding freely and greedily."""
    tasks = [
        solver.kinds[DEDUCTION].task_of_program(program, solver.cfg)
        for program in heldout("dev", level, solver.cfg.tasks.dev_items)
    ]
    return float(questions.correct_answers(sandbox, tasks, questions.ask(solver, tasks)).mean())


def unlock_levels(
    state: TrainState, cfg: Config, heldout: Heldout, sandbox: Sandbox
) -> tuple[TrainState, dict[int, float]]:
    """The state with ``frontier`` and ``open_levels`` after a dev measurement, and the accuracies measured.

    The frontier is the lowest level not yet mastered (dev accuracy ≥ ``unlock_at``); mastering level k − 1 opens level
    k. A level once mastered or open stays so.
    """
    solver = questions.solver_of(state, cfg)
    frontier, measured = int(state.frontier), {}
    while frontier < NUM_LEVELS:
        measured[frontier] = dev_accuracy(solver, frontier, heldout, sandbox)
        if measured[frontier] < cfg.tasks.unlock_at:
            break
        frontier += 1
    frontier = min(frontier, NUM_LEVELS - 1)
    state = dataclasses.replace(
        state,
        mastery=jnp.float32(min(measured.get(frontier, 1.0) / max(cfg.tasks.unlock_at, 1e-9), 1.0)),
        frontier=jnp.int32(frontier),
        open_levels=jnp.maximum(state.open_levels, jnp.int32(frontier + 1)),
    )
    return state, measured


def choose_answer_mode(
    state: TrainState, cfg: Config, heldout: Heldout, sandbox: Sandbox
) -> tuple[TrainState, dict[str, float]]:
    """The state with the better ``trace_mode`` over the dev deductions of the open levels, and both accuracies."""
    levels = range(int(state.open_levels))
    shares = {}
    for name, trace in (("direct", False), ("trace", True)):
        solver = questions.solver_of(state, cfg, trace=trace)
        shares[name] = sum(dev_accuracy(solver, level, heldout, sandbox) for level in levels) / len(levels)
    chosen = shares["trace"] >= shares["direct"]
    return dataclasses.replace(state, trace_mode=jnp.int32(chosen)), shares
