"""What held-out dev programs decide: which levels are open, and whether deduction is answered with a trace; and what
training's own hits decide: the weights that batches are drawn by.

Decided only at steps that are a function of the configuration, from the state at that step: a resumed run decides the
same. Test programs decide nothing.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from bitzero.config import NUM_PRODUCTIONS, Config, ramp_steps
from bitzero.evaluation import dev, questions
from bitzero.evaluation.questions import GoOn, Heldout
from bitzero.generator.grammar import PRODUCTION_NAMES
from bitzero.sandbox import Sandbox
from bitzero.selfplay import mix
from bitzero.state import TrainState
from bitzero.tasks.levels import NUM_LEVELS

RETURN_MARGIN = 0.1  # of dev accuracy: three standard errors of 200 items


def is_dev_step(step: int, cfg: Config) -> bool:
    """Whether dev accuracy is read before update number ``step``."""
    return step > 0 and step % cfg.tasks.unlock_every == 0


def reweigh(state: TrainState, cfg: Config) -> TrainState:
    """The state with the mix that its counts ask for, where training goes by one."""
    if state.mix is None or int(state.step) >= cfg.warmup.steps:  # self-play keeps what warm-up came to
        return state
    return dataclasses.replace(state, mix=mix.reweigh(state.mix, state.open_levels, cfg))


def production_weights(state: TrainState) -> tuple[int, ...]:
    """Weights of the productions in the state's orders; none where all are alike."""
    return _weights(state, 0, NUM_PRODUCTIONS)


def level_weights(state: TrainState) -> tuple[int, ...]:
    """Weights of the levels in the state's orders; none where they go by the frontier."""
    return _weights(state, NUM_PRODUCTIONS, None)


def _weights(state: TrainState, start: int, stop: int | None) -> tuple[int, ...]:
    found = [] if state.mix is None else state.mix.weights[start:stop].tolist()
    return tuple(found) if any(found) else ()


def mix_figures(state: TrainState) -> dict[str, float]:
    """Tag → what recent examples of each open level were right at, and its share of the orders; none without a mix."""
    if state.mix is None:
        return {}
    right = mix.rates(state.mix)[NUM_PRODUCTIONS:].tolist()
    weights = state.mix.weights[NUM_PRODUCTIONS:].tolist()[: int(state.open_levels)]
    figures = {f"mix/right_L{level}": right[level] for level in range(int(state.open_levels))}
    return figures | {f"mix/share_L{level}": weight / sum(weights) for level, weight in enumerate(weights) if weight}


def mix_table(state: TrainState) -> str:
    """Markdown: every production seen, the most wanted first; empty without a mix."""
    if state.mix is None:
        return ""
    right, seen, weights = (a.tolist() for a in (mix.rates(state.mix), state.mix.seen, state.mix.weights))
    rows = sorted((-weights[i], right[i], name) for i, name in enumerate(PRODUCTION_NAMES) if seen[i] > 0)
    lines = [f"| `{name}` | {share:.2f} | {-weight / mix.SCALE:.2f} |" for weight, share, name in rows]
    return "\n".join(["| production | right | weight |", "|---|---|---|", *lines])


def unlock_levels(
    state: TrainState, cfg: Config, heldout: Heldout, sandbox: Sandbox, go_on: GoOn = questions.always
) -> tuple[TrainState, dict[int, float]]:
    """The state with ``frontier`` and ``open_levels`` after a dev measurement, and the accuracies measured.

    The frontier is the lowest level not mastered (dev accuracy ≥ ``unlock_at``); mastering level k − 1 opens level k,
    and an open level stays so. Below λ = 1 the frontier is measured and stays where it is: what a level is worth is
    seen when weights are ternary. From then on every level up to the frontier is measured, on more items, and one that
    was mastered comes back where it falls ``RETURN_MARGIN`` below.
    """
    solver, before, measured = questions.solver_of(state, cfg, go_on=go_on), int(state.frontier), {}
    if int(state.step) < ramp_steps(cfg)[1]:
        frontier = before
        measured[before] = dev.deduction_accuracy(solver, before, cfg.tasks.dev_items, heldout, sandbox)
    else:
        ask = lambda level: dev.deduction_accuracy(solver, level, cfg.tasks.mastery_items, heldout, sandbox)
        frontier, measured = lowest_not_mastered(before, ask, cfg.tasks.unlock_at)
    state = dataclasses.replace(
        state,
        mastery=jnp.float32(min(measured.get(frontier, 1.0) / max(cfg.tasks.unlock_at, 1e-9), 1.0)),
        frontier=jnp.int32(frontier),
        open_levels=jnp.maximum(state.open_levels, jnp.int32(frontier + 1)),
    )
    return state, measured


def lowest_not_mastered(
    before: int, accuracy_of: Callable[[int], float], unlock_at: float
) -> tuple[int, dict[int, float]]:
    """The new frontier, and the accuracies asked for on the way there from L0.

    ``before`` is the frontier so far: a level below it has to fall ``RETURN_MARGIN`` to be it again, so that chance
    does not move it to and fro.
    """
    measured = {}
    for level in range(NUM_LEVELS):
        measured[level] = accuracy_of(level)
        if measured[level] < unlock_at - (RETURN_MARGIN if level < before else 0.0):
            return level, measured
    return NUM_LEVELS - 1, measured


def choose_answer_mode(
    state: TrainState, cfg: Config, heldout: Heldout, sandbox: Sandbox, go_on: GoOn = questions.always
) -> tuple[TrainState, dict[str, float]]:
    """The state with the better ``trace_mode`` over the dev deductions of the open levels, and both accuracies."""
    levels = range(int(state.open_levels))
    shares = {}
    for name, trace in (("direct", False), ("trace", True)):
        solver = questions.solver_of(state, cfg, trace=trace, go_on=go_on)
        accuracies = [dev.deduction_accuracy(solver, level, cfg.tasks.dev_items, heldout, sandbox) for level in levels]
        shares[name] = sum(accuracies) / len(accuracies)
    chosen = shares["trace"] >= shares["direct"]
    return dataclasses.replace(state, trace_mode=jnp.int32(chosen)), shares
