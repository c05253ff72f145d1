"""When tiers change, to which budget, and what a change leaves behind."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Precision, Run, SelfPlay, Tasks, Warmup, largest_budget
from bitzero.model import precision
from bitzero.run import device, refresh
from bitzero.selfplay import warmup
from bitzero.state import Supervised

CFG = Config(
    model=Model(
        num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8, compute="f32"
    ),
    warmup=Warmup(steps=100, batch_size=2, ramp_start=0.4, ramp_end=0.4),
    selfplay=SelfPlay(steps=100, ring=8, history=64),
    precision=Precision(budget=3.0, phase_steps=20, policy="refresh"),
    tasks=Tasks(context=16),
    run=Run(chunk=4),
)


def with_precision(**changes) -> Config:
    return dataclasses.replace(CFG, precision=dataclasses.replace(CFG.precision, **changes))


def at(step: int, **fields):
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    return dataclasses.replace(state, step=jnp.int32(step), **{k: jnp.asarray(v) for k, v in fields.items()})


def tiers(state) -> np.ndarray:
    return np.concatenate([np.asarray(block["tier"]).reshape(-1) for block in state.precision["layers"].values()])


def ramps(state) -> np.ndarray:
    return np.concatenate([np.asarray(block["ramp"]).reshape(-1) for block in state.precision["layers"].values()])


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"policy": "fixed"}, [40]),
        ({"policy": "refresh"}, [40, 60, 80, 100, 120, 140, 160, 180]),
        ({"policy": "refresh", "refresh_every": 3}, [40, 100, 160]),
    ],
)
def test_tiers_change_from_the_first_ternary_step_at_the_ends_of_phases(changes, steps):
    cfg = with_precision(**changes)
    assert [step for step in range(0, 204, 4) if refresh.is_due(step, cfg)] == steps


def test_nothing_is_due_where_the_model_holds_no_tiers():
    none = dataclasses.replace(CFG, model=dataclasses.replace(CFG.model, max_tier=0))
    full = dataclasses.replace(CFG, model=dataclasses.replace(CFG.model, weights="full"))
    assert not any(refresh.is_due(step, cfg) for step in range(200) for cfg in (none, full))


def test_the_progressive_budget_falls_in_equal_steps_and_stays():
    cfg = with_precision(policy="progressive", start_budget=5.0, settle=0.5)
    budgets = [
        refresh.granted_budget(at(step), cfg) for step in (40, 80, 120, 160)
    ]  # 160 steps at λ = 1, 80 of them falling
    assert budgets == pytest.approx([5.0, 4.0, 3.0, 3.0])


@pytest.mark.parametrize("settle", [0.3, 0.5, 0.71, 0.99, 1.0])
@pytest.mark.parametrize("phase_steps", [4, 12, 20, 28, 44])
def test_a_progressive_run_ends_at_its_budget(settle, phase_steps):
    cfg = with_precision(policy="progressive", start_budget=5.0, settle=settle, phase_steps=phase_steps)
    last = max(step for step in range(200) if refresh.is_due(step, cfg))
    assert refresh.granted_budget(at(40), cfg) == 5.0 and refresh.granted_budget(at(last), cfg) == 3.0


def test_the_budget_by_level_follows_what_is_left_to_master():
    cfg = with_precision(policy="by_level", level_bits=0.5)
    budget = lambda frontier, mastery: refresh.granted_budget(
        at(40, frontier=frontier, mastery=np.float32(mastery)), cfg
    )
    assert budget(0, 0.0) == 3.5
    assert budget(0, 0.5) == 3.25
    assert budget(2, 0.0) == 4.5
    assert budget(2, 0.75) == 3.375
    assert budget(5, 1.0) == 3.0
    many = with_precision(policy="by_level", level_bits=9.0)
    assert refresh.granted_budget(at(40, frontier=5, mastery=np.float32(0)), many) == largest_budget(CFG.model)
    assert refresh.granted_budget(at(40), with_precision(policy="by_level", kinds="o", scope="kind", budget=4.0)) >= 4.0


def test_a_promoted_block_begins_at_zero_and_a_kept_one_goes_on():
    cfg = with_precision(signal="random")
    first = refresh.reallocate(at(40), cfg)
    assert (tiers(first) > 0).any() and (ramps(first)[tiers(first) > 0] == 0).all()
    assert (ramps(first)[tiers(first) == 0] == 1).all()
    assert float(precision.mean_stored_bits(first.precision, CFG.model)) <= 3.0
    assert float(first.allocation.budget) == 3.0
    later = dataclasses.replace(first, precision=precision.advance_ramps(first.precision, 4))
    more = refresh.reallocate(later, with_precision(signal="random", budget=4.0))
    old, new = tiers(first), tiers(more)
    assert (ramps(more)[(old > 0) & (new > 0)] == 0.25).all()
    assert ((new > 0) >= (old > 0)).all() and (ramps(more)[(old == 0) & (new > 0)] == 0).all()
    changed = refresh.allocation_changes(later, more)
    assert changed["precision/promoted_blocks"] == ((old == 0) & (new > 0)).sum()
    assert changed["precision/kept_blocks"] == ((old > 0) & (new == old)).sum()
    assert changed["precision/demoted_blocks"] == 0


def test_ages_count_from_the_last_change():
    cfg = with_precision(signal="random")
    state = at(40)
    aged = jax.tree.map(lambda a: a + 70, state.allocation.age)
    state = refresh.reallocate(
        dataclasses.replace(state, allocation=dataclasses.replace(state.allocation, age=aged)), cfg
    )
    ages = np.concatenate([np.asarray(a).reshape(-1) for a in state.allocation.age.values()])
    assert (ages == np.where(tiers(state) > 0, 0, 70)).all()


def test_a_change_of_tiers_or_budget_compiles_nothing():
    rng = np.random.default_rng(0)
    batch = Supervised(
        tokens=rng.integers(20, 200, (1, 2, 16)).astype(np.uint16), mask=np.ones((1, 2, 16), bool),
        kind=np.zeros((1, 2, 1), np.int8), level=np.zeros((1, 2, 1), np.int8),
    )  # fmt: skip
    state, _ = warmup.run_chunk(device.on_first_device(at(40)), batch, CFG, "integer")
    compiled = warmup.run_chunk._cache_size()
    seen = [tiers(state)]
    for budget in (2.5, 6.0, 3.0):
        state = device.on_first_device(refresh.reallocate(state, with_precision(budget=budget, signal="magnitude")))
        state, _ = warmup.run_chunk(state, batch, CFG, "integer")
        seen.append(tiers(state))
    assert warmup.run_chunk._cache_size() == compiled
    assert all((a != b).any() for a, b in itertools.pairwise(seen))
