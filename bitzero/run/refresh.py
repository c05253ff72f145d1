"""Where the bits go next: budget by policy and new tiers, at a boundary between phases and never inside one.

A change of tiers is a change of policy, so it happens between chunks, from the state alone: a resumed run decides the
same. The first allocation is made when the weights become ternary.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.model import allocation, precision
from bitzero.selfplay import schedule
from bitzero.state import TrainState


def is_due(step: int, cfg: Config) -> bool:
    """Whether tiers are allocated before update number ``step``."""
    held, start = cfg.precision, schedule.ramp_steps(cfg)[1]
    if not cfg.model.max_tier or cfg.model.weights != "ternary" or not start <= step < configuration.steps_in_all(cfg):
        return False
    return step == start or (held.policy != "fixed" and (step - start) % configuration.refresh_period(cfg) == 0)


def granted_budget(state: TrainState, cfg: Config) -> float:
    """Mean stored bits the policy grants at the state's step.

    ``progressive``: from ``start_budget`` at λ = 1 in equal steps down to ``budget`` at the last refresh that
    ``settle`` allows. ``by_level``: ``level_bits`` more for every level up to the frontier, as far as the frontier is
    from being mastered; the better it is solved, the fewer.
    """
    held, start = cfg.precision, schedule.ramp_steps(cfg)[1]
    if held.policy == "progressive":
        left = max(0.0, 1 - (int(state.step) - start) / configuration.last_fall(cfg))
        return held.budget + left * (held.start_budget - held.budget)
    if held.policy == "by_level":
        more = held.level_bits * (1 + int(state.frontier)) * (1 - float(state.mastery))
        return min(held.budget + more, configuration.budget_limit(cfg))
    if held.policy in ("fixed", "refresh"):
        return held.budget
    raise ValueError(f"precision.policy={held.policy}")


def reallocate(state: TrainState, cfg: Config) -> TrainState:
    """The state with the budget of its step spent anew; a promoted block's residual fades in from 0."""
    assert state.allocation is not None
    granted = granted_budget(state, cfg)
    layers = state.precision["layers"]
    now = {name: np.asarray(block["tier"]) for name, block in layers.items()}
    age = {name: np.asarray(a) for name, a in state.allocation.age.items()}
    tiers = allocation.allocate(
        precision.block_scores(cfg.precision.signal, state.allocation, state.params, cfg),
        precision.removed_error(state.params, cfg.model),
        now, age, granted, cfg,
    )  # fmt: skip
    new = {name: _with_tiers(layers[name], now[name], tiers[name]) for name in layers}
    ages = {name: jnp.asarray(np.where(tiers[name] != now[name], 0, age[name])) for name in layers}
    held = dataclasses.replace(state.allocation, age=ages, budget=jnp.float32(granted))
    return dataclasses.replace(state, precision={**state.precision, "layers": new}, allocation=held)


def _with_tiers(block: dict[str, Any], old: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """The ``precision`` leaves of one matrix with tiers ``new``: λ_r is 0 where a block leaves the ternary grid.

    A step from 4 to 8 bits is taken at once: see WORKSPACE.md.
    """
    ramp = np.where((old == 0) & (new > 0), 0.0, np.where(new == 0, 1.0, np.asarray(block["ramp"])))
    return {"tier": jnp.asarray(new), "ramp": jnp.asarray(ramp, jnp.float32)}


def allocation_changes(old: TrainState, new: TrainState) -> dict[str, float]:
    """What an allocation did: blocks promoted, demoted and kept, as counts, and the bits granted."""
    before, after = (
        np.concatenate([np.asarray(block["tier"]).reshape(-1) for block in state.precision["layers"].values()])
        for state in (old, new)
    )
    assert new.allocation is not None
    return {
        "precision/budget": float(new.allocation.budget),
        "precision/promoted_blocks": float((after > before).sum()),
        "precision/demoted_blocks": float((after < before).sum()),
        "precision/kept_blocks": float(((after == before) & (after > 0)).sum()),
    }
